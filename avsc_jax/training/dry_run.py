"""What a run will do and what its report says of it: data, protocol, weights, sizes."""

import math
from collections.abc import Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from avsc_jax import models
from avsc_jax.data import folds, media, records
from avsc_jax.data.batches import num_batches
from avsc_jax.data.sources import folder, pictures
from avsc_jax.input_pipeline import feature_cache
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.models import clip_tokens
from avsc_jax.runs import run_folder
from avsc_jax.scenes import SCENES


def splits_used(config: ConfigDict) -> dict[str, str]:
    """'train' and 'valid', of a system that is trained, and 'test' -> the data's split."""
    return {part: config.data[part] for part in ('train', 'valid', 'test') if part in config.data}


def about(config: ConfigDict, dataset: records.Dataset, used: Mapping[str, str]) -> dict:
    """What the report says of data, protocol and weights (network -> origin)."""
    data, random = config.data, config.weights == 'random'
    warnings = []
    if data.source == 'demo' and data.name not in pictures.SETS:
        warnings.append('made-up clips: shows that the program works, says nothing about scenes')
    if config.get('begins_with') == '' and 'members' in config:
        why = 'as on all made-up data' if data.source == 'demo' else 'its pictures are not there'
        warnings.append(f'the stage before is skipped ({", ".join(config.members)}): {why}')
    if dataset.left_out:
        warnings.append(
            f'{len(dataset.left_out)} clips are left out, whose files were broken when the data '
            'was built: the scores do not compare with published ones'
        )
    if data.name == folder.NAME and dataset.builder.info.metadata.get('groups') == 'files':
        warnings.append(
            'no groups were named: if clips of one place or recording are both in train and in '
            'test, the scores are too good'
        )
    if 'fold' in data and data.name != folder.NAME:
        warnings.append(
            'reported on a fold of its own, not on the official one: published scores are of '
            'other clips'
        )
    if random and begins_published(config):
        warnings.append(
            'trained from random initial weights, not from published ones: the scores are not '
            'those of the system'
        )
    elif any(origin.startswith('random:') for origin in used.values()):
        warnings.append('random encoders, not pretrained: the scores are not those of the system')
        if 'train' not in data:
            warnings.append('random encoders know no words: their zero-shot prediction is chance')
    return {
        'data': dataset.name,
        'protocol': protocol(config, dataset),
        'weights': dict(used),
        'warnings': warnings,
    }


def begins_published(config: ConfigDict) -> bool:
    """Whether training begins with published weights, if those are wanted, not with a run."""
    return 'pretrained' in config and not config.get('begins_with')


def protocol(config: ConfigDict, dataset: records.Dataset) -> str:
    """Who trains, selects and reports on what, in a sentence."""
    splits = splits_used(config)
    last = config.get('select') == 'last'  # epoch; then nothing is selected
    verbs = {'train': 'trained on', 'valid': 'selected on', 'test': 'reported on'}
    splits = {part: split for part, split in splits.items() if part != 'valid' or not last}
    told = ', '.join(
        f'{verbs[part]} {dataset.title(split)} ({dataset.num_records(split)} records)'
        for part, split in splits.items()
    )
    if 'train' not in splits:
        told = f'zero-shot, prompt style {config.prompt_style}, nothing trained; {told}'
    elif last:
        told += '; the last epoch is kept' + ('' if 'test' in splits else '; nothing is scored')
    elif config.data.valid == config.data.test:
        told += '; selected on the reported split'
    if 'fold' in config.data:
        told += f'; {folds.NUM_FOLDS} folds that share no location, listed in folds.tsv'
    return told


def text(config: ConfigDict, specs: list[feature_cache.EncoderSpec], data_dir: Path) -> str:
    """What a run would do: shapes, parameters, steps and disk."""
    data, trained = config.data, 'train' in config.data
    lines = [f'data: {data.name}/{data.config} in {data_dir}']
    if data.name in pictures.SETS:  # an error where it is not there: no run builds it
        dataset = pictures.open_dataset(data.name, data_dir, num_classes=data.num_classes)
    else:
        is_there = records.is_prepared(data.name, data.config, data_dir)
        dataset = folds.open_dataset(data, data_dir) if is_there else None
    if dataset:
        lines.append(f'protocol: {protocol(config, dataset)}')
        clips = {split: dataset.num_records(split) for split in splits_used(config).values()}
        classes = dataset.classes
    elif data.name == folder.NAME and data.folder:
        listing = folder.read(Path(data.folder), data.needs)
        counts = {split: len(items) for split, items in folder.split(listing).items()}
        counts['train'] = counts['train_inner'] + counts['validation']
        used = splits_used(config).values()
        clips = {split: sum(counts[part] for part in split.split('+')) for split in used}
        classes = listing.classes
        lines.append(f'classes: {", ".join(classes)}')
        lines.append('it is not prepared yet; the run builds it first, and cuts longer files')
    else:
        classes, clips = SCENES, {}
        lines.append('it is not prepared yet; the run builds it first')
    for spec in specs:
        shape = f'input {spec.input_shape}, ' if isinstance(spec, EncoderSpec) else ''
        lines.append(
            f'encoder {spec.name}: {spec.num_parameters:,} parameters, {shape}{spec.weights}'
        )
    if not trained:
        texts = clip_tokens.prompts(classes, config.prompt_style)
        lines.append(f'prompts: {", ".join(map(repr, texts))}')
    model = run_folder.make_model(config.model.to_dict(), num_classes=len(classes))
    sizes = [leaf.size for leaf in jax.tree.leaves(models.variable_shapes(model)['params'])]
    if isinstance(model.input_spec, dict):
        shapes = {name: spec.shape[1:] for name, spec in model.input_spec.items()}
    elif 'size' in config:
        shapes = {'image': (*config.size, model.in_chans)}
    else:
        shapes = {'image': model.input_spec.shape[1:]}
    wanted = ', '.join(f'{name} {shape}' for name, shape in shapes.items())
    lines.append(f'network {config.model.name}: {sum(sizes):,} parameters, input {wanted}')
    parts = rows_of_a_clip(config, specs)
    for split, count in clips.items():
        line = f'split {split}: {count:,} clips, {count * parts:,} rows'
        if encoders := [spec for spec in specs if spec.name in config.get('encoders', ())]:
            values = (_items(spec, config) * math.prod(spec.output_shape) for spec in encoders)
            line += f', {4 * count * sum(values) / 1e6:,.1f} MB of features'
        lines.append(line)
    if clips and trained:
        rows = clips[data.train] * parts // (10 if config.get('one_row_a_clip') else 1)
        batches = num_batches(rows, config.batch_size, config.get('drop_remainder', False))
        lines.append(
            f'training: {config.epochs} epochs of {batches:,} steps of {config.batch_size}'
        )
    lines.append(f'checkpoints: {5 * sum(sizes) * 4 / 1e6:,.1f} MB at most')
    return '\n'.join(lines)


def parameters(config: Mapping, *, num_classes: int) -> dict[str, int]:
    """How many numbers are `trained`, and how many the frozen `encoders` have."""
    model = run_folder.make_model(config['model'], num_classes=num_classes)
    trained = sum(leaf.size for leaf in jax.tree.leaves(models.variable_shapes(model)['params']))
    encoders = {**config.get('encoders', {}), **config.get('text_encoder', {})}
    specs = [feature_cache.EncoderSpec(name, options, '') for name, options in encoders.items()]
    frozen = sum(spec.num_parameters for spec in specs)
    return {'trained': trained, 'encoders': frozen}


def rows_of_a_clip(config: ConfigDict, specs: list[feature_cache.EncoderSpec]) -> int:
    """The whole, or frames, or pieces of sound, of ten seconds."""
    data = config.data
    if data['items'] == 'clip' or data.config in ('segments', 'demo_segments', ''):
        return 1
    if 'piece_s' in config:
        return max(1, round(10 / config.piece_s))
    if not specs:
        return _frames(config.frames)
    frames = math.prod(specs[0].output_shape[:-2])  # of a front end, in each piece
    return _items(specs[0], config) * frames


def _items(spec: feature_cache.EncoderSpec, config: ConfigDict) -> int:
    """How much of ten seconds an encoder takes."""
    if 'piece_s' in spec.reading:
        return round(10 / spec.reading['piece_s'])
    if spec.takes == 'audio':
        return spec.reading['max_windows'] or round(10 / spec.reading['hop_s'])
    return _frames(spec.reading['frames'] if spec.takes == 'media' else config.frames)


def _frames(rule: str) -> int:
    return len(media.pick_frames(rule, 300, duration_s=10.0))
