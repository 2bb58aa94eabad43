"""The history of a run: metrics.jsonl, TensorBoard events, and what other loggers take of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType

from avsc_jax.runs.loggers import Logger
from avsc_jax.runs.loggers.tensorboard import TensorBoard
from avsc_jax.runtime import multihost
from avsc_jax.runtime.files import write_text


class History:
    """One dict per epoch, in `metrics.jsonl` and the loggers of the first process.

    The whole file is written anew each time. A resumed run restarts it with the history of the
    last checkpoint, so it ends with the same file as an uninterrupted one.

    Args:
      loggers: what else follows the history, besides TensorBoard.
      config: the config of the run, for them.
    """

    def __init__(
        self,
        folder: Path,
        loggers: Sequence[Logger] = (),
        config: Mapping = MappingProxyType({}),
    ):
        self.lines: list[dict] = []
        self._file = folder / 'metrics.jsonl'
        self._loggers: list[Logger] = [TensorBoard(), *loggers] if multihost.is_first() else []
        for logger in self._loggers:
            logger.begin(folder, config)

    def __enter__(self) -> 'History':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(failed=kind is not None)

    def restart(self, lines: list[dict]) -> None:
        """Replaces the history by these lines."""
        self.lines = list(lines)
        self._write()
        for logger in self._loggers:
            logger.resume(self.lines)

    def append(self, line: dict) -> None:
        self.lines.append(line)
        self._write()
        for logger in self._loggers:
            logger.log(line)

    def close(self, *, failed: bool = False) -> None:
        for logger in self._loggers:
            logger.end(failed=failed)

    def _write(self) -> None:
        if not multihost.is_first():
            return
        write_text(self._file, ''.join(json.dumps(line) + '\n' for line in self.lines))
