"""A logger that no training waits for: a thread of its own sends the lines to a service."""

import json
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from avsc_jax.runtime import files

NOT_SCORES = ('step', 'epoch', 'best')
PATIENCE_S = 30.0  # for the last lines to arrive; a process that gets a signal ends before


class Opened(NamedTuple):
    """A service's run: its id there, and the step of the last line that it has (-1: none)."""

    id: str
    last_step: int


class Service(Protocol):
    """Where the lines of one run are sent to; it may wait, and raise any error."""

    def open(self, folder: Path, config: Mapping, id_: str | None) -> Opened:
        """Opens the run of this id, or a new one if it is None or unknown."""

    def log(self, scores: Mapping[str, float], step: int) -> None:
        """Sends the scores of an epoch that ended with this step."""

    def close(self, *, failed: bool) -> None:
        """Closes the run, once all has arrived."""


class Background:
    """Sends the lines of a history to a service, each step once.

    The run folder keeps the service's id of the run and the last step that was sent, in NAME.json:
    a resumed run goes on there, and sends the lines that did not arrive. An error of the service is
    a sentence, and the end of its logging; training goes on.

    Args:
      make: makes the service, anew for each run.
    """

    def __init__(self, name: str, make: Callable[[], Service]):
        self.name = name
        self._make = make
        self._sending: _Sending | None = None

    def begin(self, folder: Path, config: Mapping) -> None:
        self._sending = _Sending(self.name, self._make, folder, config)
        self._sending.start()

    def resume(self, lines: Sequence[dict]) -> None:
        for line in lines:
            self.log(line)

    def log(self, line: dict) -> None:
        assert self._sending is not None  # begun
        self._sending.lines.put(line)

    def end(self, *, failed: bool) -> None:
        if self._sending is not None:
            self._sending.end(failed=failed)
        self._sending = None


class _Sending(threading.Thread):
    """Sends the lines of one run, until it gets None."""

    def __init__(self, name: str, make: Callable[[], Service], folder: Path, config: Mapping):
        super().__init__(name=name, daemon=True)
        self.lines: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
        self._make, self._folder, self._config = make, folder, config
        self._failed = False

    def end(self, *, failed: bool) -> None:
        self._failed = failed
        self.lines.put(None)
        self.join(PATIENCE_S)
        if self.is_alive():
            self._say(f'has not taken all lines within {PATIENCE_S:g} s')

    def run(self) -> None:
        try:
            self._send()
        except Exception as error:  # a service raises whatever it likes
            first = (str(error).strip().splitlines() or [''])[0]
            self._say(f'has failed ({first[:200] or type(error).__name__})')

    def _send(self) -> None:
        file, service = self._folder / f'{self.name}.json', self._make()
        known = _read(file)
        opened = service.open(self._folder, self._config, known.id if known else None)
        last = opened.last_step
        if known is not None and known.id == opened.id:
            last = max(last, known.last_step)
        _write(file, Opened(opened.id, last))
        while (line := self.lines.get()) is not None:
            if line['step'] > last:
                last = line['step']
                service.log({n: value for n, value in line.items() if n not in NOT_SCORES}, last)
                _write(file, Opened(opened.id, last))
        service.close(failed=self._failed)

    def _say(self, what: str) -> None:
        where = self._folder / 'metrics.jsonl'
        print(
            f'note: --loggers={self.name} {what}; training does not wait for it, and {where} has '
            'all lines',
            file=sys.stderr,
        )


def _read(file: Path) -> Opened | None:
    try:
        content = json.loads(file.read_bytes())
        return Opened(str(content['id']), int(content['last_step']))
    except (OSError, ValueError, KeyError, TypeError):  # as good as none: a new run is begun
        return None


def _write(file: Path, opened: Opened) -> None:
    files.write_text(file, json.dumps(opened._asdict()) + '\n')
