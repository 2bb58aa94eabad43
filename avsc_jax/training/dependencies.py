"""Runs that another run is made of: which they are, and the commands that make what lacks."""

import copy
import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from avsc_jax.data import sources
from avsc_jax.runs import run_folder, summary
from avsc_jax.runs.load import RunSpec
from avsc_jax.runtime import multihost

STAGES = {'places': 'places365', 'imagenet': 'imagenet2012'}  # before the one on scenes
EVALUATION = 'evaluation'  # the table of the challenge's items in a run folder


@dataclasses.dataclass(frozen=True)
class Member:
    """A trained run that takes part: `name`, trained by `config` into `folder`.

    `fold` is its one of the five folds; None is the official one. `overrides` of the config say on
    whose clips, where those are one's own.
    """

    name: str
    config: str
    folder: run_folder.RunFolder
    fold: int | None
    overrides: tuple[str, ...] = ()

    @property
    def training(self) -> list[str]:
        """The command that trains it, or goes on with it."""
        fold = [] if self.fold is None else [f'--fold={self.fold}']
        named = [f'--config={self.config}', *self.overrides, *fold]
        return ['avsc_jax.main', *named, f'--workdir={self.folder.path}']

    def prediction(self, data: Mapping[str, str]) -> list[str]:
        """The command that writes its table of the challenge's items."""
        table = self.folder.predictions_file(EVALUATION)
        named = [f'--{name}={value}' for name, value in data.items()]
        return ['avsc_jax.predict', *named, f'--model={self.folder.path}', f'--csv={table}']


def named(
    config: ConfigDict,
    names: Iterable[str],
    fold: int | None,
    seed: int = 0,
    *,
    overrides: tuple[str, ...] = (),
) -> list[Member]:
    """Those of the config's members that have these names, in this order.

    Args:
      seed: of the run that they are for; the members of another seed than 0 lie apart.
      overrides: of the members' configs, where they are to read the same clips of one's own.
    """
    found = []
    for name in names:
        made_by, own_folder = config.members[name].config, config.members[name].run
        path = run_folder.default_path(made_by, fold)
        source = sources.find(config.data.name)
        path = path.with_name(path.name + source.suffix(config.data)) if overrides else path
        path = path.with_name(f'{path.name}-seed{seed}') if seed else path
        if own_folder:
            path = Path(own_folder + ('' if fold is None else f'-fold{fold}'))
        found.append(Member(name, made_by, run_folder.RunFolder(path), fold, overrides))
    return found


def flags(folders: Mapping[str, Path | None], download_weights: bool) -> list[str]:
    """What a run was given and its members' commands need too."""
    given = [f'--{name}={folder}' for name, folder in folders.items() if folder]
    return given + ['--download_weights'] * download_weights


def complete(todo: Sequence[Sequence[str]], config: ConfigDict, flags: Sequence[str]) -> None:
    """Runs the commands, where the config wants that; each in a process that frees its memory."""
    if todo and not config.train_missing:
        raise FileNotFoundError(
            f'{len(todo)} tables are missing; --config.train_missing=True makes them, or:\n'
            + '\n'.join(map(line, todo))
        )
    for number, command in enumerate(todo, start=1):
        print(f'{number} of {len(todo)}: {line(command)}', file=sys.stderr, flush=True)
        own = [f'--seed={config.seed}', f'--weights={config.weights}']
        own = own if command[0] == 'avsc_jax.main' else []
        code = subprocess.run([sys.executable, '-m', *command, *own, *flags], stdout=2).returncode
        if code:
            raise ValueError(
                f'a member failed, as told above (exit code {code}); this goes on with it: '
                f'{line(command)}'
            )


def data(everyone: Sequence[Member]) -> str:
    """The data that all members were trained on."""
    first = everyone[0].folder.read_json('environment.json')['data']
    check_data(everyone, first)
    return first


def check_data(everyone: Iterable[Member], wanted: str) -> None:
    """See `summary.check_data`."""
    summary.check_data([(member.name, member.folder) for member in everyone], wanted)


def line(command: Sequence[str]) -> str:
    """What one types."""
    return 'python -m ' + shlex.join(command)


def earlier_runs(config: ConfigDict, seed: int) -> list[Member]:
    """The runs that this one is made of, or begins with."""
    names = config.get('members', ())
    if 'begins_with' in config:  # the same for every fold and seed
        return named(config, [n for n in names if n == config.begins_with], None)
    same = sources.find(config.data.name).overrides(config.data)
    return named(config, names, config.data.get('fold'), seed, overrides=same)


def has_stage(config: ConfigDict, data_dir: Path) -> bool:
    """Whether the run that this one begins with is finished, or its pictures are there."""
    (part,) = earlier_runs(config, config.seed)
    data = {'name': STAGES[config.begins_with], 'config': ''}
    return part.folder.is_done or sources.find(data['name']).is_prepared(data, data_dir)


def train_members(
    config: ConfigDict,
    seeds: Iterable[int],
    folders: Mapping[str, Path | None],
    download_weights: bool,
) -> None:
    """Trains those runs which lack, for each seed, in processes that take and free the devices."""
    for seed in seeds:
        seeded = copy.deepcopy(config)
        seeded.seed = seed
        todo = untrained(earlier_runs(config, seed))
        complete(todo, seeded, flags(folders, download_weights))


def untrained(parts: Iterable[Member]) -> list[list[str]]:
    """The commands that train those which are not finished."""
    return [part.training for part in parts if not part.folder.is_done]


def is_encoder(config: ConfigDict, part: Member) -> bool:
    """Whether the system takes the embeddings of this run."""
    return part.name in config.get('inputs', {}).values()


def run_specs(config: ConfigDict, parts: Iterable[Member]) -> list[RunSpec]:
    """The finished runs among the encoders."""
    of_system = [part for part in parts if is_encoder(config, part) and part.folder.is_done]
    return [RunSpec(part.name, part.folder.path) for part in of_system]


def kept_encoders(
    config: ConfigDict, folder: run_folder.RunFolder, parts: Iterable[Member]
) -> list[RunSpec]:
    """Those runs, as the run folder keeps them: it must be enough to open the system."""
    specs = run_specs(config, parts)
    if multihost.is_first():
        for spec in specs:
            spec.kept(folder)
    multihost.wait('parts')
    return [spec.kept(folder) for spec in specs]
