"""What finished runs tell of themselves when they are compared: networks, data, settings."""

import json
from collections.abc import Mapping
from pathlib import Path

from avsc_jax import tables
from avsc_jax.report.scores import printable
from avsc_jax.runs.load import RunSpec
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import dependencies, dry_run


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
    config = run.read_json('config.json')
    if 'model' in config:
        name = config['model']['name']
        counts = [dry_run.parameters(config, num_classes=run.num_classes)]
    else:
        parts = run.read_json('members.json')
        name, counts = f'{len(parts)} runs', [part['parameters'] for part in parts]
    trained, frozen = (sum(count[kind] for count in counts) for kind in ('trained', 'encoders'))
    kept = sorted(run.path.glob('parts/*'))  # the runs whose embeddings it takes
    frozen += sum(RunSpec(part.name, part).num_parameters for part in kept)
    return f'{name}: {trained:,} parameters trained, {frozen:,} of frozen encoders'


def other_data(runs: Mapping[str, RunFolder]) -> list[str]:
    """A warning if the runs were trained on different data; other cuts of the same clips pass."""
    parts = [dependencies.Member(name, '', run, None) for name, run in runs.items()]
    try:
        if parts:
            dependencies.data(parts)
    except ValueError:
        told = (f'{p.name} on {p.folder.read_json("environment.json")["data"]}' for p in parts)
        return [f'trained on different data: {", ".join(told)}']
    return []


def settings(runs: Mapping[str, RunFolder]) -> dict[str, dict[str, str]]:
    """Those that differ, as text: setting -> the value of each run that has it."""
    configs = {name: _flat(run.read_json('config.json')) for name, run in runs.items()}
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
