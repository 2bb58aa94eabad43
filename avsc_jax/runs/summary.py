"""What a run is, in words: its data, protocol, weights, network, and how two of them differ."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from avsc_jax import models, tables
from avsc_jax.data import folds, records, sources
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.input_pipeline.examples import splits_used
from avsc_jax.models import build
from avsc_jax.runs.load import RunSpec
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime.files import printable


def run_of(path: Path) -> RunFolder | None:
    """The run folder that a path is, or that a table lies in."""
    folder = path if path.is_dir() else path.parent / '..'
    is_run = path.is_dir() or path.absolute().parent.name == 'predictions'
    return RunFolder(folder) if is_run and (folder / 'config.json').is_file() else None


def facts(table: tables.Predictions, run: RunFolder | None) -> dict[str, str]:
    """What a system is, as text by title, as far as its table and its run folder tell."""
    about = table.meta.get('about', {})
    told = {'data': about.get('data'), 'protocol': about.get('protocol')}
    made = {name: table.meta.get(name) for name in ('split', 'step')}
    if run:
        data = run.read_json('environment.json')['data']
        told = {'run': str(run.path), 'network': _network(run), **told, 'data': data}
        made['config hash'] = run.config_hash
    told['scored'] = ', '.join(f'{name} {value}' for name, value in made.items() if value)
    return {title: printable(line) for title, line in told.items() if line}


def _network(run: RunFolder) -> str:
    """Its name and its parameters; those of all members of an ensemble."""
    config = run.config
    if config['kind'] != 'ensemble':
        name = config['model']['name']
        counts = [parameters(config, num_classes=run.num_classes)]
    else:
        parts = run.read_json('members.json')
        name, counts = f'{len(parts)} runs', [part['parameters'] for part in parts]
    trained, frozen = (sum(count[kind] for count in counts) for kind in ('trained', 'encoders'))
    kept = sorted(run.path.glob('parts/*'))  # the runs whose embeddings it takes
    frozen += sum(RunSpec(part.name, part).num_parameters for part in kept)
    return f'{name}: {trained:,} parameters trained, {frozen:,} of frozen encoders'


def other_data(runs: Mapping[str, RunFolder]) -> list[str]:
    """A warning if the runs were trained on different data; other cuts of the same clips pass."""
    trained_on = {name: run.read_json('environment.json')['data'] for name, run in runs.items()}
    try:
        if runs:
            check_data(runs.items(), next(iter(trained_on.values())))
    except ValueError:
        told = (f'{name} on {data}' for name, data in trained_on.items())
        return [f'trained on different data: {", ".join(told)}']
    return []


def settings(runs: Mapping[str, RunFolder]) -> dict[str, dict[str, str]]:
    """Those that differ, as text: setting -> the value of each run that has it."""
    configs = {name: _flat(run.config) for name, run in runs.items()}
    keys = dict.fromkeys(key for of in configs.values() for key in of)
    found = {key: {name: of[key] for name, of in configs.items() if key in of} for key in keys}
    unlike = {
        key: values
        for key, values in found.items()
        if len({*values.values()}) > 1 or len(values) < len(configs)
    }
    return dict(sorted(unlike.items(), key=lambda item: -len(item[1])))  # first what all have


def _flat(config: Mapping, prefix: str = '') -> dict[str, str]:
    """{'model': {'name': 'x'}} -> {'model.name': 'x'}, without what a paper has published."""
    found = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f'{prefix}{name}.')
        elif not prefix.startswith('paper.'):
            text = value if isinstance(value, str) else json.dumps(value)
            found[printable(f'{prefix}{name}')] = printable(text)
    return found


def about(config: ConfigDict, dataset: records.Dataset, used: Mapping[str, str]) -> dict:
    """What the report says of data, protocol and weights (network -> origin)."""
    data, random = config.data, config.weights == 'random'
    warnings = sources.find(data.name).warnings(data, dataset)
    if config.get('begins_with') == '' and 'members' in config:
        why = 'as on all made-up data' if data.source == 'demo' else 'its pictures are not there'
        warnings.append(f'the stage before is skipped ({", ".join(config.members)}): {why}')
    if dataset.left_out:
        warnings.append(
            f'{len(dataset.left_out)} clips are left out, whose files were broken when the data '
            'was built: the scores do not compare with published ones'
        )
    if random and begins_published(config):
        warnings.append(
            'trained from random initial weights, not from published ones: the scores are not '
            'those of the system'
        )
    elif any(origin.startswith('random:') for origin in used.values()):
        warnings.append('random encoders, not pretrained: the scores are not those of the system')
        if config.kind == 'zero_shot':
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
    if config.kind == 'zero_shot':
        told = f'zero-shot, prompt style {config.prompt_style}, nothing trained; {told}'
    elif last:
        told += '; the last epoch is kept' + ('' if 'test' in splits else '; nothing is scored')
    elif config.data.valid == config.data.test:
        told += '; selected on the reported split'
    if 'fold' in config.data:
        told += f'; {folds.NUM_FOLDS} folds that share no location, listed in folds.tsv'
    return told


def parameters(config: Mapping, *, num_classes: int) -> dict[str, int]:
    """How many numbers are `trained`, and how many the frozen `encoders` have."""
    model = build.make_model(config['model'], num_classes=num_classes)
    trained = sum(leaf.size for leaf in jax.tree.leaves(models.variable_shapes(model)['params']))
    encoders = {**config.get('encoders', {}), **config.get('text_encoder', {})}
    specs = [EncoderSpec(name, options, '') for name, options in encoders.items()]
    frozen = sum(spec.num_parameters for spec in specs)
    return {'trained': trained, 'encoders': frozen}


def check_data(runs: Iterable[tuple[str, RunFolder]], wanted: str) -> None:
    """Checks that runs, each with its name, saw this data, or other records of the same clips."""
    for name, run in runs:
        seen = run.read_json('environment.json')['data']
        if seen != wanted and not sources.same_clips(seen, wanted):
            raise ValueError(
                f'{name}, {run.path}, was trained on {seen}, not on {wanted}; a system needs '
                'members of one data set, so train it again on that'
            )
