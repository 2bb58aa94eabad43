"""The run folder: everything that predict, score, export and ensembles need of a system."""

import contextlib
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from avsc_jax.data import label_kinds, records
from avsc_jax.models import build
from avsc_jax.runs import checksums, familiarity, shapes
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runtime import archives, files, multihost, nearest
from avsc_jax.tables import thresholds
from avsc_jax.types import Kind

PACKAGES = ('avsc_jax', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
# What `checksums.json` names; tables carry checksums of their own, and text tables may be edited.
CHECKED = (
    'config.json', 'environment.json', 'classes.json', 'preprocessing.json', 'members.json',
    'thresholds.json', 'report.json', 'stats.npz', 'means.npz', 'familiarity.npz', 'checkpoints',
)  # fmt: skip
DATA = ('data', 'data_by_size')  # entries of environment.json; see `Dataset.identities`


class RunFolder:
    """Paths and files of one run; only the first process writes, and each file atomically.

    It holds `config.json` (resolved), `environment.json`, `classes.json`, `preprocessing.json`,
    `checkpoints/best|last`, `metrics.jsonl`, `tensorboard/`, `predictions/<split>.npz`,
    `thresholds.json` where clips have several labels, `report.json|html`, `checksums.json`, and
    `DONE`, written last. Readers compare each file with its checksum.
    """

    def __init__(self, path: Path):
        self.path = path

    @property
    def is_done(self) -> bool:
        return (self.path / 'DONE').exists()

    def check_done(self) -> None:
        """Raises FileNotFoundError unless a run is finished here."""
        if not self.is_done:
            like = nearest.path(self.path)
            raise FileNotFoundError(
                f'{self.path} holds no finished run{like}; name the run folder, --workdir, of a '
                'finished run of avsc_jax.main'
            )

    @property
    def num_classes(self) -> int:
        return len(self.read_json('classes.json'))

    @property
    def kind(self) -> Kind:
        """Whether one of the classes is right, or each is right or not by itself.

        A run that does not say it, as those of earlier versions, has exclusive ones.
        """
        return label_kinds.kind_of(self.config.get('data', {}))

    @property
    def thresholds(self) -> dict | None:
        """The content of `thresholds.json`, see `tables.thresholds`; None if the run has none."""
        if not (self.path / thresholds.FILE).exists():
            return None
        fitted = self.read_json(thresholds.FILE)
        try:
            return thresholds.checked(fitted, self.num_classes)
        except ValueError as error:
            raise ValueError(
                f'{self.path / thresholds.FILE} is corrupt ({error}); copy it again, or train the '
                'run again'
            ) from error

    @property
    def config(self) -> dict:
        """The resolved config; of a run from before configs had a kind, with the one it implies."""
        stored = self.read_json('config.json')
        trained = 'train' if 'train' in stored.get('data', {}) else 'zero_shot'
        return {'kind': 'ensemble' if 'groups' in stored else trained, **stored}

    @property
    def config_hash(self) -> str:
        return config_hash(self.config)

    @property
    def identities(self) -> tuple[str, ...]:
        """The names of the data that it was trained on; see `Dataset.identities`.

        Runs of earlier versions have only the one by sizes, and folders without a run have none.
        """
        if not (self.path / 'environment.json').exists():
            return ()
        environment = self.read_json('environment.json')
        return tuple(environment[name] for name in DATA if name in environment)

    def finish(self) -> None:
        """Writes the checksums of all files that readers rely on, then `DONE`."""
        if multihost.is_first():
            checksums.write(self.path, CHECKED)
        self._write('DONE', 'the run is complete\n')

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other processes from writing into the folder; those of one job share it.

        Raises:
          ValueError: another process is writing into it.
        """
        # asked alone, is_first would take the devices that an ensemble leaves to its members
        if jax.distributed.is_initialized() and not multihost.is_first():
            yield
            return
        made = [folder for folder in self.path.parents if not folder.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        advice = 'wait until it has ended, or give another --workdir'
        try:
            with files.locked(self.path, busy=advice):
                yield
        finally:
            for folder in made:
                with contextlib.suppress(OSError):  # it holds the run
                    folder.rmdir()

    def begin(self, config: Mapping) -> None:
        """Makes the folder, which all processes share, and writes the config into it.

        Raises:
          FileNotFoundError: this process does not see what the first one has written.
        """
        if multihost.is_first():
            (self.path / 'predictions').mkdir(parents=True, exist_ok=True)
            for name in ('DONE', checksums.FILE):  # of a run that is made again
                (self.path / name).unlink(missing_ok=True)
        self.write_json('config.json', config)
        multihost.wait('begun')
        if not (self.path / 'config.json').exists():
            raise FileNotFoundError(
                f'{self.path} does not hold what the first process has written; give a --workdir '
                'that all processes share'
            )

    def check(self, config: Mapping) -> None:
        """Raises ValueError if the folder holds a run with another config."""
        if not (self.path / 'config.json').exists():
            return
        existing, wanted = self.config, json.loads(json.dumps(config))
        if existing != wanted:
            raise ValueError(
                f'{self.path} holds a run with another config ({_difference(existing, wanted)}); '
                'give another --workdir, or delete that folder'
            )

    def check_data(self, identities: Sequence[str]) -> None:
        """Raises ValueError if the folder holds a run on other data; see `Dataset.identities`."""
        begun = self.identities
        if begun and not records.is_same(begun, identities):
            raise ValueError(
                f'{self.path} holds a run on {begun[0]}, and the data is {identities[0]} now: its '
                'records, labels or lists have changed; give another --workdir (nothing is deleted)'
            )

    def record_environment(self, identities: Sequence[str], weights: Mapping[str, str]) -> None:
        """Writes versions, devices, data and weights to `environment.json`.

        Args:
          identities: of the data; see `Dataset.identities`.

        Raises:
          ValueError: the run was begun with other data or weights.
        """
        self.check_data(identities)
        if (self.path / 'environment.json').exists():
            existing, used = self.read_json('environment.json').get('weights'), dict(weights)
            if existing != used:
                raise ValueError(
                    f'{self.path} was begun with other weights '
                    f'({_difference(existing, used, "weights")}); give another --workdir'
                )
        environment = {
            'python': platform.python_version(),
            'versions': versions(),
            'devices': [str(device) for device in jax.devices()],
            **dict(zip(DATA, identities, strict=False)),
            'weights': dict(weights),
        }
        self.write_json('environment.json', environment)

    def write_json(self, name: str, content: Any) -> None:
        self._write(name, json.dumps(content, indent=2) + '\n')

    def read_json(self, name: str, shape: Any = object) -> Any:
        """Reads a JSON file; see `shapes.SHAPES` for what each holds, and runtime.json_files.

        Args:
          shape: what the caller needs besides.

        Raises:
          FileNotFoundError: the file or the folder is missing.
          ValueError: the file is damaged, has changed, or is of another shape.
        """
        file = self.path / name
        if self.path.is_file():
            raise ValueError(
                f'{self.path} is a file; give the folder of a finished run, such as '
                'runs/clip_fusion'
            )
        if not self.path.is_dir():
            raise FileNotFoundError(
                f'there is no folder {self.path}{nearest.path(self.path)}; give the folder of a '
                'finished run, such as runs/clip_fusion'
            )
        if not file.is_file():
            raise FileNotFoundError(
                f'{file} is missing: {self.path} does not hold a complete run of avsc_jax.main'
            )
        content = file.read_bytes()
        checksums.check(self.path, name, content)
        try:
            return shapes.read(name, content, shape)
        except ValueError as error:
            raise ValueError(f'{file} is corrupt ({error}); train the run again') from error

    def stats(self, measure: Callable[[], Mapping[str, np.ndarray]] | None = None) -> dict:
        """Returns the fitted normalisation, after the first process has measured it if needed.

        Raises:
          FileNotFoundError: it has not been measured, and `measure` is None.
        """
        if measure is not None:
            self._write_arrays('stats.npz', measure)
            multihost.wait('stats')
        if stats := self._arrays('stats.npz'):
            return stats
        raise FileNotFoundError(f'{self.path / "stats.npz"} is missing: train the run again')

    def means(self, measure: Callable[[], Mapping[str, np.ndarray]] | None = None) -> dict:
        """Returns the means of encoders' features over the training rows; empty in older runs."""
        if measure is not None:
            self._write_arrays('means.npz', measure)
        return self._arrays('means.npz')

    def write_familiarity(self, fitted: familiarity.Familiarity) -> None:
        """Writes the familiarity of clips to the training clips, in the first process only.

        One that would call every clip familiar is not written, which a note tells.
        """
        if not multihost.is_first():
            return
        if not fitted.can_mark:
            print(
                f'note: predict will mark no clip as {familiarity.UNLIKE}, for want of clips to '
                f'compare it with: {len(fitted.distances)}, and '
                f'{1 / familiarity.FALSE_ALARMS - 1:.0f} are needed',
                file=sys.stderr,
            )
        else:
            files.write_arrays(self.path / familiarity.FILE, **familiarity.to_arrays(fitted))

    def read_familiarity(self) -> familiarity.Familiarity | None:
        """Returns the fitted familiarity; None for runs that have none, as those of before.

        Raises:
          ValueError: the file is damaged or has changed.
        """
        if not (arrays := self._arrays(familiarity.FILE)):
            return None
        try:
            return familiarity.from_arrays(arrays)
        except ValueError as error:
            raise ValueError(
                f'{self.path / familiarity.FILE} is corrupt ({error}); copy it again, or train the '
                'run again'
            ) from error

    def predictions_file(self, split: str) -> Path:
        return self.path / 'predictions' / f'{split}.npz'

    def _write_arrays(self, name: str, measure: Callable[[], Mapping[str, np.ndarray]]) -> None:
        if not (self.path / name).exists() and multihost.is_first():
            files.write_arrays(self.path / name, **measure())

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        file = self.path / name
        if not os.path.lexists(file):
            return {}
        if not file.is_file():
            raise ValueError(f'{file} is no file; train the run again')
        checksums.check(self.path, name)
        try:
            arrays = files.read_arrays(file, limit=shapes.MAX_ARRAY_BYTES)
        except ValueError as error:
            raise ValueError(f'{error}; train the run again') from error
        try:
            archives.check_statistics(arrays)
        except ValueError as error:
            raise ValueError(f'{file} is corrupt ({error}); train the run again') from error
        return arrays

    def _write(self, name: str, text: str) -> None:
        if multihost.is_first():
            files.write_text(self.path / name, text)


def versions() -> dict[str, str | None]:
    """Returns the versions of the packages that numbers depend on; None if not installed."""
    return {name: _version(name) for name in PACKAGES}


def config_hash(config: Mapping) -> str:
    """Returns the hash of a config without its kind, which older runs do not have."""
    config = {name: value for name, value in config.items() if name != 'kind'}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def best_variables(run: RunFolder) -> tuple[nn.Module, dict]:
    """Returns the network of a run and its variables after the best epoch.

    Raises:
      ValueError: a file of the run has changed since the run was finished.
    """
    if run.is_done:
        checksums.note_if_missing(run.path)
    checksums.check(run.path, 'checkpoints/best')
    with opening(run.path):
        model = build.make_model(run.config['model'], num_classes=run.num_classes)
        wanted = build.checkpoint_shapes(model)
        _check_size(wanted, run.path)
    variables, _ = Checkpoints(run.path / 'checkpoints', read_only=True).restore_best(wanted)
    return model, variables


def _check_size(wanted: dict, folder: Path) -> None:
    """Raises ValueError for a network that is too large for the checkpoint of its run folder."""
    inside = (folder / 'checkpoints/best').rglob('*')
    stored = sum(file.stat().st_size for file in inside if file.is_file())
    num_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(wanted))
    if stored and num_bytes > archives.most_bytes(stored):
        raise ValueError(
            f'{folder / "config.json"} describes {num_bytes:,} bytes of weights, and the '
            f'checkpoint beside it has {stored:,}; copy the run again, or train it again'
        )


@contextlib.contextmanager
def opening(folder: Path) -> Iterator[None]:
    """Makes one sentence of what networks and front ends raise for settings they cannot have.

    It is for the settings of run folders, which may come from elsewhere; those of configs are
    checked before a run begins.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # whatever the code of a network comes upon
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        if isinstance(error, ValueError) and str(folder) in reason:
            raise
        (first, *_) = reason.splitlines() or ['']
        raise ValueError(
            f'{folder} cannot be opened, as its files hold what no run has ({first[:300]}); copy '
            'it again, or train it again'
        ) from error


def default_path(config_filename: str, fold: int | None = None) -> Path:
    """Names a run folder: 'configs/clip_fusion.py:demo' and 3 -> runs/clip_fusion-demo-fold3."""
    path, _, tokens = config_filename.partition(':')
    last = [] if fold is None else [f'fold{fold}']
    return Path('runs', '-'.join([Path(path).stem, *filter(None, tokens.split(',')), *last]))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _difference(existing: Any, wanted: Any, place: str = 'config') -> str:
    """Says which value differs first between two nested dictionaries."""
    if isinstance(existing, dict) and isinstance(wanted, dict):
        for name in sorted({*existing, *wanted}):
            if existing.get(name) != wanted.get(name):
                return _difference(existing.get(name), wanted.get(name), f'{place}.{name}')
    return f'{place} was {existing!r} and is now {wanted!r}'
