"""Finds finished runs in other folders that are the same as an ensemble's missing members."""

import dataclasses
import importlib
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from avsc_jax.data import records, sources
from avsc_jax.runs import run_folder
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import config as fields
from avsc_jax.training import initial_weights, resolve
from avsc_jax.training.dependencies import Member

MOST_RUNS = 1000  # folders beside a member's that are looked at


def found(
    members: Sequence[Member], config: ConfigDict, folders: Mapping[str, Path | None]
) -> list[Member]:
    """Returns the members, each that is not finished in the folder of a run that is the same.

    A run is the same if its config, its data and its weights are those that the member's own
    command would have, and this version of the package has made it. Which folder is used is
    printed.

    Args:
      config: of the ensemble.
      folders: `data_dir` and `weights_dir`, as the members' commands are given.
    """
    return [
        member if member.folder.is_done else _same(member, config, folders) for member in members
    ]


def _same(member: Member, config: ConfigDict, folders: Mapping[str, Path | None]) -> Member:
    """Returns a member in the folder of a run that is the same, or as it is if there is none."""
    if not (beside := [*_finished(member.folder.path)]):
        return member
    data_dir, weights_dir = (Path(folders[name] or '') for name in ('data_dir', 'weights_dir'))
    try:
        wanted = _resolved(member, config, data_dir)
        if wanted.get('members'):  # made of other runs, which would have to be the same, too
            return member
        data = sources.find(wanted.data.name).identities(wanted, data_dir)
        specs = [
            *initial_weights.encoder_specs(wanted, wanted.get('encoders', {}), weights_dir),
            *initial_weights.encoder_specs(wanted, wanted.get('text_encoder', {}), weights_dir),
        ]
        weights = initial_weights.origins(wanted, specs, weights_dir)
    except (ValueError, OSError, ImportError):  # the member's own command tells what is wrong
        return member
    hashed = run_folder.config_hash(wanted.to_dict())
    for run in beside:
        if data and _is_same(run, hashed, data, weights):
            print(
                f'{member.name} is the finished run {run.path}: its config, data and weights are '
                f'those of {member.config}',
                file=sys.stderr,
            )
            return dataclasses.replace(member, folder=run)
    return member


def _finished(path: Path) -> Iterator[RunFolder]:
    """Yields the finished runs beside a folder."""
    if path.parent.is_dir():
        inside = sorted(itertools.islice(path.parent.iterdir(), MOST_RUNS))
        yield from (run for run in map(RunFolder, inside) if run.is_done)


def _is_same(run: RunFolder, hashed: str, data: Sequence[str], weights: Mapping[str, str]) -> bool:
    try:
        if run.config_hash != hashed or not records.is_same(run.identities, data):
            return False
        made = run.read_json('environment.json', {'versions': dict})
    except (ValueError, OSError):  # damaged, or no run of ours
        return False
    ours = run_folder.versions()['avsc_jax']  # another version may give other numbers
    return made.get('weights') == dict(weights) and made['versions'].get('avsc_jax') == ours


def _resolved(member: Member, config: ConfigDict, data_dir: Path) -> ConfigDict:
    """Returns the config that the member's command would train, as `main` resolves it."""
    path, _, tokens = member.config.partition(':')
    module = importlib.import_module(f'avsc_jax.configs.{Path(path).stem}')
    if Path(path).exists() and not Path(path).samefile(str(module.__file__)):
        raise ValueError(f'{path} is not the config of the package')
    named = (flag.partition('=')[0].removeprefix('--config.') for flag in member.overrides)
    return resolve.resolve(
        fields.completed(module.get_config(tokens)),
        data_dir,
        named=True,
        weights=config.weights,
        overrides={name: config.data[name.removeprefix('data.')] for name in named},
        seed=member.seed,
        fold=member.fold,
        fold_file=member.fold_file,
    )
