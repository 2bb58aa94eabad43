"""Runs that another run is made of: finding them, and the commands that train missing ones."""

import contextlib
import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from avsc_jax.data import sources
from avsc_jax.data.records import default_data_dir
from avsc_jax.runs import checksums, run_folder, summary
from avsc_jax.runs.load import RunSpec
from avsc_jax.runtime import multihost
from avsc_jax.runtime.files import locked
from avsc_jax.weights.cache import default_weights_dir

STAGES = {'places': 'places365', 'imagenet': 'imagenet2012'}  # trained before the stage on scenes
EVALUATION = 'evaluation'  # the table of the challenge's items in a run folder


@dataclasses.dataclass(frozen=True)
class Member:
    """A run that another run is made of: `name`, trained by `config` into `folder`.

    Attributes:
      fold: the fold that it reports on, of five; None: the official one.
      overrides: flags of its command that name the user's own clips.
      seed: the seed that it is trained with.
      fold_file: the file of the folds; None: they are computed.
    """

    name: str
    config: str
    folder: run_folder.RunFolder
    fold: int | None
    overrides: tuple[str, ...] = ()
    seed: int = 0
    fold_file: str | None = None

    @property
    def training(self) -> list[str]:
        """The command that trains it, or resumes its training."""
        given = {'fold': self.fold, 'fold_file': self.fold_file, 'seed': self.seed or None}
        flags = [f'--{name}={value}' for name, value in given.items() if value is not None]
        named = [f'--config={self.config}', *self.overrides, *flags]
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
    """Returns the members of a config that have these names, in the names' order.

    Args:
      seed: the seed of the run that they are for; a seed other than 0 is part of their folders.
      overrides: flags of the members' commands that name the user's own clips.
    """
    members = []
    for name in names:
        made_by, own_folder = config.members[name].config, config.members[name].run
        path = run_folder.default_path(made_by, fold)
        source = sources.find(config.data.name)
        path = path.with_name(path.name + source.suffix(config.data)) if overrides else path
        if own_folder:
            path = Path(own_folder + ('' if fold is None else f'-fold{fold}'))
        path = path.with_name(f'{path.name}-seed{seed}') if seed else path
        file = None if fold is None else config.data.get('fold_file')
        members.append(
            Member(name, made_by, run_folder.RunFolder(path), fold, overrides, seed, file)
        )
    return members


def flags(folders: Mapping[str, Path | None], download_weights: bool) -> list[str]:
    """Returns the flags that a run hands on to its members' commands."""
    shared = [f'--{name}={folder}' for name, folder in folders.items() if folder]
    given = {'download_weights': download_weights, 'trust_edited': checksums.are_trusted()}
    return shared + [f'--{name}' for name, value in given.items() if value]


def complete(todo: Sequence[Sequence[str]], config: ConfigDict, flags: Sequence[str]) -> None:
    """Runs commands, each in a process of its own; an error if config.train_missing is not set."""
    if todo and not config.train_missing:
        raise FileNotFoundError(
            f'{len(todo)} tables are missing; --config.train_missing=True makes them, or:\n'
            + '\n'.join(line(command, flags) for command in todo)
        )
    for number, command in enumerate(todo, start=1):
        own = []
        if command[0] == 'avsc_jax.main':
            seed = [] if any(flag.startswith('--seed=') for flag in command) else ['--seed=0']
            own = [*seed, f'--weights={config.weights}']
        with _alone(command) as is_done:
            if is_done:
                continue
            print(f'{number} of {len(todo)}: {line(command, flags)}', file=sys.stderr, flush=True)
            code = ended([sys.executable, '-m', *command, *own, *flags])
        if code:
            raise ValueError(
                f'a member failed with exit code {code}, its error is printed above; this command '
                f'resumes it: {line(command, flags)}'
            )


def ended(command: Sequence[str]) -> int:
    """Runs a command to its end, which an interruption of this process asks of it, too."""
    with subprocess.Popen(command, stdout=2) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise


@contextlib.contextmanager
def _alone(command: Sequence[str]) -> Iterator[bool]:
    """Keeps others from making what a command makes; yields whether another has made it.

    The command itself locks its folder, but only some seconds after its start.
    """
    of_command = dict(word.partition('=')[::2] for word in command)
    place = Path(of_command.get('--workdir') or of_command['--csv'])
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_name(f'{place.name}.wanted')):
        if place.suffix == '.npz':  # a table, which appears whole
            yield place.exists()
            return
        with locked(place):  # by a command that a user has given
            is_done = run_folder.RunFolder(place).is_done
        yield is_done


def data(everyone: Sequence[Member]) -> tuple[str, ...]:
    """Returns the identities of the data that all members were trained on."""
    known = max((member.folder.identities for member in everyone), key=len)
    check_data(everyone, known)
    return known


def check_data(everyone: Iterable[Member], wanted: Sequence[str]) -> None:
    """Raises ValueError if members were trained on other data; see `summary.check_data`."""
    summary.check_data([(member.name, member.folder) for member in everyone], wanted)


def line(command: Sequence[str], flags: Sequence[str]) -> str:
    """Returns a command as one types it, with those of the flags that are not the defaults."""
    folders = {'data_dir': default_data_dir(), 'weights_dir': default_weights_dir()}
    defaults = [f'--{name}={folder}' for name, folder in folders.items()]
    return 'python -m ' + shlex.join([*command, *(f for f in flags if f not in defaults)])


def earlier_runs(config: ConfigDict, seed: int) -> list[Member]:
    """Returns the runs that a config's run is made of, or begins with."""
    names = config.get('members', ())
    if 'begins_with' in config:  # one run serves every fold and seed
        return named(config, [n for n in names if n == config.begins_with], None)
    same = sources.find(config.data.name).overrides(config.data)
    return named(config, names, config.data.get('fold'), seed, overrides=same)


def has_stage(config: ConfigDict, data_dir: Path) -> bool:
    """Returns whether the run that training begins with is finished, or can be trained."""
    (part,) = earlier_runs(config, config.seed)
    data = {'name': STAGES[config.begins_with], 'config': ''}
    return part.folder.is_done or sources.find(data['name']).is_prepared(data, data_dir)


def train_members(
    config: ConfigDict,
    seeds: Iterable[int],
    folders: Mapping[str, Path | None],
    download_weights: bool,
) -> None:
    """Trains missing members for each seed, in processes of their own, which free the devices."""
    for seed in seeds:
        todo = untrained(earlier_runs(config, seed))
        complete(todo, config, flags(folders, download_weights))


def untrained(parts: Iterable[Member]) -> list[list[str]]:
    """Returns the commands that train the unfinished runs."""
    return [part.training for part in parts if not part.folder.is_done]


def is_encoder(config: ConfigDict, part: Member) -> bool:
    """Returns whether a run's embeddings are an input of the system."""
    return part.name in config.get('inputs', {}).values()


def run_specs(config: ConfigDict, parts: Iterable[Member]) -> list[RunSpec]:
    """Returns the specs of the finished runs whose embeddings the system takes."""
    of_system = [part for part in parts if is_encoder(config, part) and part.folder.is_done]
    return [RunSpec(part.name, part.folder.path) for part in of_system]


def kept_encoders(
    config: ConfigDict, folder: run_folder.RunFolder, parts: Iterable[Member]
) -> list[RunSpec]:
    """Copies the encoders among the runs into the run folder, which must suffice to open it."""
    specs = run_specs(config, parts)
    if multihost.is_first():
        for spec in specs:
            spec.kept(folder)
    multihost.wait('parts')
    return [spec.kept(folder) for spec in specs]
