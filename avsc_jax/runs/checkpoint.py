"""Best and last checkpoints of a run, written by Orbax."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec, SingleDeviceSharding

from avsc_jax.runs.state import TrainState


class Checkpoints:
    """Checkpoints `folder/best/STEP` (variables) and `folder/last/STEP` (the whole state).

    `last` also holds the run's history as JSON, and the losses of the unfinished epoch. Orbax
    writes a temporary folder and renames it, so a killed run leaves complete checkpoints only.
    `best` is written first, so that the history in `last` never names a missing best.
    """

    def __init__(self, folder: Path):
        folder = folder.absolute()  # Orbax fails late, in a thread, on relative paths
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1, cleanup_tmp_directories=True, enable_async_checkpointing=False
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
        if jax.process_count() > 1:  # to Orbax, a process's own arrays would be different ones
            devices = sorted(jax.devices(), key=lambda device: device.process_index)
            mesh = Mesh(np.asarray(devices), ('all',))
            state = multihost_utils.host_local_array_to_global_array(state, mesh, PartitionSpec())
        # A process killed between the two saves has left the same best of this step already.
        if is_best and step != self._best.latest_step():
            self._best.save(step, args=ocp.args.StandardSave(state.variables), force=True)
        progress = {'epochs': history, 'losses': [float(loss) for loss in losses]}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), history=ocp.args.JsonSave(progress)
        )
        self._last.save(step, args=arguments, force=True)

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
        restored = _read(self._last, step, arguments, self.folder / 'last')
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
        return _read(self._best, step, arguments, self.folder / 'best'), step

    def last_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._last.latest_step()


def _abstract(tree):
    """Places shapes on the first device, so that a checkpoint opens on any number of devices."""
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _read(manager, step, arguments, folder: Path):
    try:
        return manager.restore(step, args=arguments)
    except Exception as error:  # Orbax has no common error class; corrupt files raise many kinds
        logging.debug('checkpoint %s/%s: %r', folder, step, error)
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ValueError(
            f'checkpoint {folder / str(step)} cannot be read ({first_line[:200]}); delete that '
            'folder to go on without it, or give another --workdir'
        ) from error
