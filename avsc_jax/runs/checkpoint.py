"""Best and last checkpoints of a run, written by Orbax, each with a digest of its values."""

import contextlib
import hashlib
import io
import logging as std_logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec, SingleDeviceSharding

from avsc_jax.runs import checksums
from avsc_jax.runs.state import TrainState
from avsc_jax.runtime import cli, disk, files
from avsc_jax.runtime.leftovers import temporary

KINDS = ('best', 'last')
LOG = 'orbax.log'


class Checkpoints:
    """Checkpoints `folder/best/STEP` (variables) and `folder/last/STEP` (the whole state).

    `best` holds the variables that were scored: with `ema`, the averaged parameters; `last` then
    holds both, the average in the optimizer's state.

    `last` also holds the run's history as JSON, and the losses of the unfinished epoch. Orbax
    writes a temporary folder and renames it, so a killed run leaves complete checkpoints only.
    `best` is written first, so that the history in `last` never names a missing best. A digest of
    all values is committed with them, and compared when they are read.

    Args:
      read_only: nothing in the folder is made, changed or removed. Otherwise unfinished
        checkpoints are removed: only the one process that trains the run may open it so.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        folder = folder.absolute()  # Orbax fails late, in a thread, on relative paths
        # not Orbax's own read_only, which warns of what it does
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else 1,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            enable_async_checkpointing=False,
        )
        self.folder = folder
        self._best = ocp.CheckpointManager(folder / 'best', options=options)
        self._last = ocp.CheckpointManager(folder / 'last', options=options)

    def save(
        self,
        state: TrainState,
        history: list[dict],
        losses: Sequence[float] = (),
        *,
        is_best: bool,
    ) -> None:
        """Saves the state at the end of an epoch, or within one.

        All processes call it with the same arguments, and each writes its share.

        Args:
          history: one dict for each finished epoch.
          losses: one for each step of the unfinished epoch.
          is_best: whether the state becomes the best one, too.
        """
        step = int(state.step)
        unfinished = [self.folder / kind / f'{step}.orbax-checkpoint-tmp' for kind in KINDS]
        with contextlib.ExitStack() as stack:
            for folder in unfinished:
                stack.enter_context(temporary(folder))
            stack.enter_context(_quiet(self.folder.parent))
            stack.enter_context(disk.writing(self.folder))
            self._save(state, history, losses, is_best=is_best)
        self._say_next_start(step)

    def _save(
        self, state: TrainState, history: list[dict], losses: Sequence[float], *, is_best: bool
    ) -> None:
        step = int(state.step)
        of_best = {'sha256': digest(state.scored)} if is_best else {}
        progress = {'epochs': history, 'losses': [float(loss) for loss in losses]}
        of_last = {'sha256': digest([_plain(state), progress])}
        if jax.process_count() > 1:  # to Orbax, a process's own arrays would be different ones
            devices = sorted(jax.devices(), key=lambda device: device.process_index)
            mesh = Mesh(np.asarray(devices), ('all',))
            state = multihost_utils.host_local_array_to_global_array(state, mesh, PartitionSpec())
        # A process killed between the two saves has left the same best of this step already.
        if is_best and step != self._best.latest_step():
            variables = ocp.args.StandardSave(state.scored)
            self._best.save(step, args=variables, force=True, custom_metadata=of_best)
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), history=ocp.args.JsonSave(progress)
        )
        self._last.save(step, args=arguments, force=True, custom_metadata=of_last)

    def restore_last(self, like: TrainState) -> tuple[TrainState, list[dict], list[float]] | None:
        """Returns the newest state, history and losses, or None if there is no checkpoint.

        Args:
          like: a state of the same shapes.
        """
        step = self._last.latest_step()
        if step is None:
            return None
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(_abstract(like)), history=ocp.args.JsonRestore()
        )
        restored = _read(self._last, step, arguments, self.folder / 'last', _digest_of_last)
        self._say_next_start(step)
        return restored['state'], restored['history']['epochs'], restored['history']['losses']

    def restore_best(self, like: dict) -> tuple[dict, int]:
        """Returns the best epoch's variables and their step.

        Args:
          like: variables of the same shapes.

        Raises:
          FileNotFoundError: there is no checkpoint.
        """
        step = self._best.latest_step()
        if step is None:
            raise FileNotFoundError(
                f'there is no checkpoint in {self.folder / "best"}; train the run first'
            )
        arguments = ocp.args.StandardRestore(_abstract(like))
        return _read(self._best, step, arguments, self.folder / 'best', digest), step

    def _say_next_start(self, step: int) -> None:
        cli.set_next_start(
            f'the same command goes on after step {step}, from {self.folder / "last" / str(step)}'
        )

    def last_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._last.latest_step()


@contextlib.contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Holds back what Orbax's threads print; for an error that the disk explains, in LOG.

    Args:
      folder: of the run, where LOG is written, or else in the folder of temporary files.
    """
    held = io.StringIO()

    def hold(record: std_logging.LogRecord) -> bool:
        if record.levelno >= std_logging.ERROR:
            print(record.getMessage(), file=held)
        return record.levelno < std_logging.ERROR

    logger = logging.get_absl_logger()
    logger.addFilter(hold)
    try:
        with contextlib.redirect_stderr(held):
            try:
                yield
            except disk.Unwritable as error:
                time.sleep(0.5)  # threads that are still failing print, too
                words = held.getvalue()
                held.seek(0)
                held.truncate(0)
                if words and (log := _logged(words, folder)):
                    raise disk.Unwritable(f"{error}; Orbax's own words are in {log}") from error
                raise
    finally:
        logger.removeFilter(hold)
        sys.stderr.write(held.getvalue())


def _logged(words: str, folder: Path) -> Path | None:
    """Writes a log into the first place that has room, and returns its path; None if none has."""
    for place in (folder, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            files.write_text(place / LOG, words)
            return place / LOG
    return None


def _abstract(tree):
    """Places shapes on the first device, so that a checkpoint opens on any number of devices."""
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def digest(tree) -> str:
    """Returns the SHA-256 of all values of a tree, such as arrays and numbers, with their names."""
    hashed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(jax.device_get(leaf))
        hashed.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'.encode())
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()


def _digest_of_last(restored) -> str:
    return digest([_plain(restored['state']), restored['history']])


def _plain(state: TrainState) -> TrainState:
    """Returns the state with its random key as numbers."""
    return state.replace(key=jax.random.key_data(state.key))


def _read(manager, step, arguments, folder: Path, digest_of: Callable):
    """Reads a checkpoint, and compares its values with the digest of its commit, if it has one."""
    try:
        restored = manager.restore(step, args=arguments)
        committed = (manager.metadata(step).custom_metadata or {}).get('sha256')
    except Exception as error:  # Orbax has no common error class; corrupt files raise many kinds
        logging.debug('checkpoint %s/%s: %r', folder, step, error)
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise _unreadable(folder / str(step), f'cannot be read ({first_line[:200]})') from error
    if committed and not checksums.are_trusted() and digest_of(restored) != committed:
        raise _unreadable(folder / str(step), 'has other values than were saved')
    return restored


def _unreadable(folder: Path, what: str) -> ValueError:
    return ValueError(
        f'checkpoint {folder} {what}; delete that folder to go on without it, or give another '
        '--workdir'
    )
