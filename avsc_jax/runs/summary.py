"""Describes runs in words: data, protocol, weights, network, and how several runs differ."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from avsc_jax import models, tables
from avsc_jax.data import folds, label_kinds, records, sources
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.input_pipeline.examples import splits_used
from avsc_jax.models import build
from avsc_jax.runs.load import RunSpec
from avsc_jax.runs.run_folder import RunFolder, opening
from avsc_jax.runtime.files import printable

# Field of a config -> what a report says where it is set; and the values that say nothing.
STEPS = {
    'precision': 'arithmetic in {}',
    'accumulate': 'gradients of {} parts of each batch summed',
    'clip_norm': "the gradient's norm at most {}",
    'ema': 'parameters averaged with decay {}',
    'train_part': 'trained is only {}',
    'layer_decay': 'rates lower by {} from group to group of layers',
    'rate_scale': 'rates of parts times {}',
    'class_weights': 'class weights {}',
    'label_smoothing': 'labels smoothed by {}',
    'mixup_alpha': 'mixup with alpha {}',
    'cutmix_alpha': 'cutmix with alpha {}',
    'patience': 'ends after {} epochs without gain',
}
WORDS = {'last_stage': 'the last stage and the head', 'head': 'the head'}
PLAIN = {'precision': 'float32', 'accumulate': 1, 'train_part': 'all', 'layer_decay': 1}
PARAMETERS = {'trained': int, 'encoders': int}  # of a network; see `parameters`


def run_of(path: Path) -> RunFolder | None:
    """Returns the run folder at a path, or the one whose table is at the path; None if neither."""
    folder = path if path.is_dir() else path.parent / '..'
    is_run = path.is_dir() or path.absolute().parent.name == 'predictions'
    return RunFolder(folder) if is_run and (folder / 'config.json').is_file() else None


def facts(table: tables.Predictions, run: RunFolder | None) -> dict[str, str]:
    """Describes a system by its table and, if known, its run folder: title -> text."""
    about = table.meta.get('about', {})
    texts = {'data': about.get('data'), 'protocol': about.get('protocol')}
    made = {name: table.meta.get(name) for name in ('split', 'step')}
    if run:
        data = run.read_json('environment.json').get('data')
        texts = {'run': str(run.path), 'network': _network(run), **texts, 'data': data}
        made['config hash'] = run.config_hash
    texts['scored'] = ', '.join(f'{name} {value}' for name, value in made.items() if value)
    return {title: printable(line) for title, line in texts.items() if line}


def _network(run: RunFolder) -> str:
    """Names a run's network and counts its parameters; of an ensemble, those of all members."""
    config = run.config
    if config['kind'] != 'ensemble':
        with opening(run.path):
            name = config['model']['name']
            counts = [parameters(config, num_classes=run.num_classes)]
    else:
        parts = run.read_json('members.json', [{'parameters': PARAMETERS}])
        name, counts = f'{len(parts)} runs', [part['parameters'] for part in parts]
    trained, frozen = (sum(count[kind] for count in counts) for kind in ('trained', 'encoders'))
    kept = sorted(run.path.glob('parts/*'))  # the runs whose embeddings it takes
    frozen += sum(RunSpec(part.name, part).num_parameters for part in kept)
    return f'{name}: {trained:,} parameters trained, {frozen:,} of frozen encoders'


def other_data(runs: Mapping[str, RunFolder]) -> list[str]:
    """Returns a warning if runs were trained on different data, other than cuts of one clip set."""
    trained_on = {name: run.identities for name, run in runs.items()}
    try:
        if runs:
            check_data(runs.items(), max(trained_on.values(), key=len))
    except ValueError:
        each = (f'{name} on {data[0]}' for name, data in trained_on.items())
        return [f'trained on different data: {", ".join(each)}']
    return []


def settings(runs: Mapping[str, RunFolder]) -> dict[str, dict[str, str]]:
    """Returns the settings that differ between runs: setting -> run -> value as text."""
    configs = {name: _flat(run.config) for name, run in runs.items()}
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    by_key = {key: {name: c[key] for name, c in configs.items() if key in c} for key in keys}
    unlike = {
        key: values
        for key, values in by_key.items()
        if len({*values.values()}) > 1 or len(values) < len(configs)
    }
    return dict(sorted(unlike.items(), key=lambda item: -len(item[1])))  # shared settings first


def _flat(config: Mapping, prefix: str = '') -> dict[str, str]:
    """Flattens {'model': {'name': 'x'}} to {'model.name': 'x'}, without a paper's numbers."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f'{prefix}{name}.')
        elif not prefix.startswith('paper.'):
            text = value if isinstance(value, str) else json.dumps(value)
            flat[printable(f'{prefix}{name}')] = printable(text)
    return flat


def about(
    config: ConfigDict,
    dataset: records.Dataset,
    used: Mapping[str, str],
    num_folds: int | None = None,
) -> dict:
    """Returns a report's `about`: data, protocol, weights (network -> origin) and warnings.

    Args:
      num_folds: see `protocol`.
    """
    data, random = config.data, config.weights == 'random'
    warnings = sources.find(data.name).warnings(data, dataset)
    if config.get('begins_with') == '' and 'members' in config:
        why = 'as on all made-up data' if data.source == 'demo' else 'its pictures are not there'
        warnings.append(f'the earlier stage is skipped ({", ".join(config.members)}): {why}')
    if dataset.left_out:
        warnings.append(
            f'{len(dataset.left_out)} clips are left out, because their files were broken when the '
            'data was built: the scores do not compare with published ones'
        )
    if random and begins_published(config):
        warnings.append(
            'trained from random initial weights, not from published ones: the scores are not '
            'those of the system'
        )
    elif any(origin.startswith('random:') for origin in used.values()):
        warnings.append('random encoders, not pretrained: the scores are not those of the system')
        if config.kind == 'zero_shot':
            warnings.append('random encoders know no words: zero-shot predictions are at chance')
    return {
        'data': dataset.name,
        'protocol': protocol(config, dataset, num_folds),
        'weights': dict(used),
        'warnings': warnings,
    }


def training(config: ConfigDict, history: Sequence[Mapping[str, Any]]) -> str:
    """Says how the steps of training differ from plain ones, and whether it stopped early; or ''.

    Args:
      history: one record for each epoch.
    """
    given = {name: config[name] for name in STEPS if config.get(name)}
    texts = [STEPS[name].format(_words(v)) for name, v in given.items() if v != PLAIN.get(name)]
    if {'mixup_alpha', 'cutmix_alpha'} <= {*given}:
        texts.append(f'cutmix in {config.get("cutmix_share", 0.5):.0%} of the batches, else mixup')
    if history and len(history) < config.epochs:
        texts.append(f'stopped early, after {len(history)} of {config.epochs} epochs')
    return ', '.join(texts)


def _words(value: Any) -> Any:
    """Returns a field's value as a sentence names it."""
    if isinstance(value, str):
        return WORDS.get(value, value)
    if isinstance(value, Mapping | ConfigDict):
        return ', '.join(f'{factor:g} ({name})' for name, factor in value.items())
    return value if isinstance(value, int | float) else ', '.join(map(str, value))


def begins_published(config: ConfigDict) -> bool:
    """Whether the config has training begin with published weights, not with another run's."""
    return 'pretrained' in config and not config.get('begins_with')


def protocol(config: ConfigDict, dataset: records.Dataset, num_folds: int | None = None) -> str:
    """Says in a sentence which splits are trained, selected and reported on.

    Args:
      num_folds: number of folds that choose a probe's C, of which a small class allows fewer than
        the config asks for.
    """
    splits = splits_used(config)
    last = config.get('select') == 'last'  # the last epoch is kept, so no epoch is selected
    verbs = {'train': 'trained on', 'valid': 'selected on', 'test': 'reported on'}
    splits = {part: split for part, split in splits.items() if part != 'valid' or not last}
    sentence = ', '.join(
        f'{verbs[part]} {dataset.title(split)} ({dataset.num_records(split)} records)'
        for part, split in splits.items()
    )
    if config.kind == 'zero_shot':
        sentence = f'zero-shot, prompt style {config.prompt_style}, nothing trained; {sentence}'
    elif config.kind == 'probe':
        how = f'{num_folds}-fold cross-validation of the training clips'
        fitted = 'C and temperature' if label_kinds.kind_of(config.data) == 'exclusive' else 'C'
        sentence = f'logistic regression, {fitted} by {how}; {sentence}'
    elif last:
        sentence += '; the last epoch is kept'
        sentence += '' if 'test' in splits else '; nothing is scored'
    elif config.data.valid == config.data.test:
        sentence += '; selected on the reported split'
    if 'fold' in config.data:
        sentence += f'; {folds.NUM_FOLDS} folds that share no location, listed in folds.tsv'
    return sentence


def parameters(config: Mapping, *, num_classes: int) -> dict[str, int]:
    """Counts parameters: those that are `trained`, and those of the frozen `encoders`."""
    model = build.make_model(config['model'], num_classes=num_classes)
    trained = sum(leaf.size for leaf in jax.tree.leaves(models.variable_shapes(model)['params']))
    encoders = {**config.get('encoders', {}), **config.get('text_encoder', {})}
    specs = [EncoderSpec(name, options, '') for name, options in encoders.items()]
    frozen = sum(spec.num_parameters for spec in specs)
    return {'trained': trained, 'encoders': frozen}


def check_data(runs: Iterable[tuple[str, RunFolder]], wanted: Sequence[str]) -> None:
    """Raises ValueError unless all runs saw this data, or other records of the same clips.

    Args:
      runs: names and run folders.
      wanted: identities of the data; see `Dataset.identities`.
    """
    for name, run in runs:
        seen = run.identities
        if not records.is_same(seen, wanted) and not sources.same_clips(seen[0], wanted[0]):
            raise ValueError(
                f'{name}, {run.path}, was trained on {seen[0]}, not on {wanted[0]}; a system needs '
                'members of one data set, so train it again on that'
            )
