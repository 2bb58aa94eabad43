"""The history of a run: metrics.jsonl and TensorBoard events."""

import json
from pathlib import Path

from tensorboardX import SummaryWriter

from avsc_jax.runtime import multihost
from avsc_jax.runtime.files import write_text


class History:
    """One dict per epoch, in `metrics.jsonl` and as TensorBoard scalars of the first process.

    The whole file is written anew each time. A resumed run restarts it with the history of the
    last checkpoint, so it ends with the same file as an uninterrupted one.
    """

    def __init__(self, folder: Path):
        self.lines: list[dict] = []
        self._file = folder / 'metrics.jsonl'
        self._folder = folder / 'tensorboard'
        self._events: SummaryWriter | None = None

    def restart(self, lines: list[dict]) -> None:
        """Replaces the history by these lines."""
        self.lines = list(lines)
        self._write()

    def append(self, line: dict) -> None:
        self.lines.append(line)
        self._write()
        if not multihost.is_first():
            return
        if self._events is None:
            self._events = SummaryWriter(str(self._folder), purge_step=line['step'])
        for name, value in line.items():
            if name not in ('step', 'epoch', 'best'):
                self._events.add_scalar(name, value, line['step'])
        self._events.flush()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()

    def _write(self) -> None:
        if not multihost.is_first():
            return
        write_text(self._file, ''.join(json.dumps(line) + '\n' for line in self.lines))
