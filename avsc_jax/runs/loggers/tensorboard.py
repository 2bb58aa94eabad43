"""TensorBoard's event files, in the run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avsc_jax.runs.loggers.background import NOT_SCORES

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class TensorBoard:
    """Writes each epoch's scores as scalars; those of a resumed run replace later ones."""

    def __init__(self) -> None:
        self._folder = Path()
        self._events: SummaryWriter | None = None

    def begin(self, folder: Path, config: Mapping) -> None:
        self._folder, self._events = folder / 'tensorboard', None

    def resume(self, lines: Sequence[dict]) -> None:
        pass  # they are in the files of before

    def log(self, line: dict) -> None:
        if self._events is None:
            from tensorboardX import SummaryWriter  # imports PyTorch, which takes seconds

            self._events = SummaryWriter(str(self._folder), purge_step=line['step'])
        for name, value in line.items():
            if name not in NOT_SCORES:
                self._events.add_scalar(name, value, line['step'])
        self._events.flush()

    def end(self, *, failed: bool) -> None:
        if self._events is not None:
            self._events.close()
