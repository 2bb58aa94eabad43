"""The text of --dry_run: data, protocol, weights, shapes, parameters, steps and disk."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from avsc_jax import models
from avsc_jax.data import media, sources, split_words
from avsc_jax.data.batches import num_batches
from avsc_jax.input_pipeline import clip_rows, examples
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.models import build, clip_tokens
from avsc_jax.runs import summary
from avsc_jax.training import probe, recipe, step_memory


def text(config: ConfigDict, specs: list[EncoderSpec], data_dir: Path) -> str:
    """Describes what a run would do: shapes, parameters, steps and disk."""
    lines, classes, clips, stills = _data(config, data_dir)
    for spec in specs:
        shape = f'input {spec.input_shape}, ' if isinstance(spec, EncoderSpec) else ''
        lines.append(
            f'encoder {spec.name}: {spec.num_parameters:,} parameters, {shape}{spec.weights}'
        )
    if config.kind == 'zero_shot':
        texts = clip_tokens.prompts(classes, config.prompt_style)
        lines.append(f'prompts: {", ".join(map(repr, texts))}')
    network, num_parameters = _network(config, len(classes))
    lines += [*network, *_rows(config, specs, clips, stills)]
    if how := summary.training(config, ()):
        lines.append(f'steps: {how}')
    copies = 7 if config.get('ema') else 5  # of the parameters, while one `last` follows another
    lines.append(f'checkpoints: {copies * num_parameters * 4 / 1e6:,.1f} MB at most')
    return '\n'.join(lines)


def _data(
    config: ConfigDict, data_dir: Path
) -> tuple[list[str], Sequence[str], dict[str, int], dict[str, int]]:
    """Returns lines about the data, its classes, and numbers of clips and stills of each split."""
    data = config.data
    lines = [f'data: {data.name}/{data.config} in {data_dir}']
    source, used = sources.find(data.name), examples.splits_used(config).values()
    if source.is_prepared(data, data_dir):
        dataset = source.open(data, data_dir)
        num_folds = probe.check_clips(config, dataset) if config.kind == 'probe' else None
        lines.append(f'protocol: {summary.protocol(config, dataset, num_folds)}')
        classes, clips = dataset.classes, {split: dataset.num_records(split) for split in used}
        stills = {}
        if not source.has_one_frame(data):
            for split in used:
                stills[split] = sum(one['num_frames'] == 1 for one in dataset.outlines(split))
    else:
        classes, stored, of_stills = source.forecast(data, data_dir)
        clips = {split: sum(stored[part] for part in split.split('+')) for split in used if stored}
        stills = {split: sum(of_stills.get(part, 0) for part in split.split('+')) for split in used}
        lines.append(f'classes: {", ".join(classes)}')
        lines.append('not prepared yet: the run builds it first, and cuts longer files')
    return lines, classes, clips, stills


def _network(config: ConfigDict, num_classes: int) -> tuple[list[str], int]:
    """Returns lines about the network and its training step, and its number of parameters."""
    model = build.make_model(config.model.to_dict(), num_classes=num_classes)
    if config.kind == 'train':
        recipe.check(config, model)
    sizes = [leaf.size for leaf in jax.tree.leaves(models.variable_shapes(model)['params'])]
    shapes = step_memory.input_shapes(config, model)
    inputs = ', '.join(f'{name} {shape}' for name, shape in shapes.items())
    lines = [f'network {config.model.name}: {sum(sizes):,} parameters, input {inputs}']
    if config.kind == 'train':
        lines.append(step_memory.text(config, model))
    return lines, sum(sizes)


def _rows(
    config: ConfigDict,
    specs: list[EncoderSpec],
    clips: Mapping[str, int],
    stills: Mapping[str, int],
) -> Iterator[str]:
    """Yields lines about the rows of each split, and about the steps of training.

    A still is one row, and one item of an encoder of pictures.
    """
    window_s = sources.find(config.data.name).window_s(config.data)
    parts = rows_of_a_clip(config, specs, window_s)
    rows_of = {}
    for split, count in clips.items():
        still = stills.get(split, 0)
        rows_of[split] = (count - still) * parts + still
        line = f'split {split_words.title(split)}: {count:,} clips, {rows_of[split]:,} rows'
        if encoders := [spec for spec in specs if spec.name in config.get('encoders', ())]:
            values = (
                ((count - still) * _items(spec, config, window_s) + still)
                * math.prod(spec.output_shape)
                for spec in encoders
            )
            line += f', {4 * sum(values) / 1e6:,.1f} MB of features'
        yield line
    if config.kind == 'probe':
        yield (
            f'fit: logistic regression, {len(config.grid)} values of C on '
            f'{config.cross_validation} folds at most, then the best one on all training rows'
        )
    if clips and config.kind == 'train':
        rows = rows_of[config.data.train] // (10 if config.get('one_row_a_clip') else 1)
        batches = num_batches(rows, config.batch_size, config.get('drop_remainder', False))
        yield f'training: {config.epochs} epochs of {batches:,} steps of {config.batch_size}'


def rows_of_a_clip(config: ConfigDict, specs: list[EncoderSpec], window_s: float) -> int:
    """Returns how many rows a clip of this length makes: one, or its frames or pieces of sound."""
    data = config.data
    if data['items'] == 'clip' or sources.find(data.name).has_one_frame(data):
        return 1
    if 'piece_s' in config:
        return media.num_pieces(window_s, config.piece_s)
    if not specs:
        return _frames(config.frames, window_s)
    frames = math.prod(specs[0].output_shape[:-2])  # of a front end, in each piece
    return _items(specs[0], config, window_s) * frames


def _items(spec: EncoderSpec, config: ConfigDict, window_s: float) -> int:
    """Returns how many items of a clip an encoder takes: pieces, windows or pictures."""
    if 'piece_s' in spec.reading:
        return media.num_pieces(window_s, spec.reading['piece_s'])
    return clip_rows.of_encoder(spec, config, window_s)


def _frames(rule: str, window_s: float) -> int:
    return len(media.pick_frames(rule, 300, duration_s=window_s))
