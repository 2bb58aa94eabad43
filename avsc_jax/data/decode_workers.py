"""Decodes media in worker processes, which may hang or die without harm to the program.

A worker reads file names from its standard input and writes their windows to its standard output:
the length of a JSON header, the header, and the bytes of the arrays that the header lists. The
parent checks all it reads and executes none of it: a hostile file may control the worker.
"""

import collections
import contextlib
import dataclasses
import itertools
import json
import math
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from avsc_jax.data import media, windows
from avsc_jax.data.windows import Wants

MAX_WORKERS = 8
MAX_HEADER_BYTES = 1 << 20
KEPT_S = 60.0  # for which a worker waits for another file
GRACE_S = 5.0  # after the time limit; then a worker that no parent has stopped ends itself
NUMBERS = {  # of a window
    'start_s': float,
    'end_s': float,
    'num_windows': int,
    'sample_rate': int,
    'channels': int,
    'num_pictures': int,
    'clipped': float,
}
ARRAYS = {
    'audio': (np.float32, (None, 2)),
    'frames': (np.uint8, (None, None, 3)),
    'frame_times': (np.float32, (None,)),
    'frame_filled': (np.bool_, (None,)),
    'media_frames': (np.float32, (None, None, 3)),
    'media_times': (np.float32, (None,)),
    'media_filled': (np.bool_, (None,)),
}
LISTS = ('frames', 'media_frames')
# -P: never imports a module that lies beside the clips
COMMAND = (sys.executable, '-P', '-m', 'avsc_jax.data.decode_workers')


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits on decoding one file.

    Attributes:
      seconds_per_window: wall clock time for each window.
      seconds_per_file: wall clock time for all windows of a file.
      memory_bytes: address space beyond what a worker uses at its start.
      duration_s: length of the longest file.
    """

    seconds_per_window: float = 120.0
    memory_bytes: int = 2 << 30
    duration_s: float = windows.MAX_DURATION_S
    seconds_per_file: float = windows.MAX_DURATION_S


class Event(NamedTuple):
    """A window of a file, or its end.

    Attributes:
      window: see windows.read; None if the file has ended.
      error: why decoding failed, in a sentence that names the file; None if it did not.
    """

    file: Path
    window: dict | None
    error: str | None


def decode(
    files: Iterable[Path],
    wants: Wants,
    *,
    workers: int | None = None,
    limits: Limits = Limits(),
    pause_s: float = math.inf,
    idle: 'IdleWorkers | None' = None,
) -> Iterator[Event | None]:
    """Yields the windows of all files, in order within a file, and the end of each file.

    Files are decoded in parallel. A worker is at most two windows ahead. Closing the generator ends
    the workers.

    Args:
      workers: number of processes, at most one per file; None: one per core, at most eight.
      pause_s: None is yielded whenever the workers have given nothing for so long.
      idle: where workers come from, and go to after their last file; else they start and end here.
    """
    workers = workers or min(os.cpu_count() or 1, MAX_WORKERS)
    todo: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    done: queue.Queue[Event | Exception] = queue.Queue(maxsize=1)
    slots: list[_Slot] = []
    new = partial(idle.take if idle else _Worker, wants, limits)
    keep = idle.give if idle else _Worker.end
    names, unfinished = iter(files), 0
    try:
        for file in itertools.islice(names, 2 * workers):  # so that no worker waits for a name
            todo.put(file)
            unfinished += 1
            if len(slots) < workers:
                slots.append(_Slot(todo, done, new, keep))
                slots[-1].start()
        while unfinished:
            try:
                event = done.get(timeout=pause_s if pause_s < math.inf else None)
            except queue.Empty:
                yield None
                continue
            if isinstance(event, Exception):
                raise event
            if event.window is None:
                unfinished -= 1
                for file in itertools.islice(names, 1):
                    todo.put(file)
                    unfinished += 1
            yield event
    finally:
        for slot in slots:
            todo.put(None)
            slot.close()
        while any(slot.is_alive() for slot in slots):
            with contextlib.suppress(queue.Empty):
                done.get(timeout=0.05)


class IdleWorkers:
    """Workers between two files, which spare the next one a worker's start, a quarter of a second.

    They end after KEPT_S without a file, and with the object.
    """

    def __init__(self) -> None:
        self._workers: collections.deque[_Worker] = collections.deque()
        weakref.finalize(self, _end_all, self._workers)

    def take(self, wants: Wants, limits: Limits) -> '_Worker':
        """Returns a worker for such files: one that waits, or a new one."""
        for worker in [*self._workers]:
            with contextlib.suppress(ValueError):  # another thread has taken it
                if worker.reads == (wants, limits):
                    self._workers.remove(worker)
                    if worker.is_alive:
                        return worker
                    worker.end()
        return _Worker(wants, limits)

    def give(self, worker: '_Worker') -> None:
        """Keeps a worker that has read its file to the end."""
        self._workers.append(worker)
        for _ in range(len(self._workers) - MAX_WORKERS):
            with contextlib.suppress(IndexError):
                self._workers.popleft().end()
        timer = threading.Timer(KEPT_S, _end_if_waiting, (self._workers, worker, worker.num_files))
        timer.daemon = True
        timer.start()


class Readers:
    """Worker processes by which several threads read files, as `decode` does for one.

    A worker reads one file at a time; there are as many as files that are read at once.
    """

    def __init__(self, wants: Wants, limits: Limits = Limits()):
        self._wants, self._limits, self._idle = wants, limits, IdleWorkers()

    def windows(self, file: Path) -> Iterator[dict]:
        """Yields the windows of a file, see windows.read, each when the next one is decoded.

        Raises:
          ValueError: the file cannot be read, or takes more than the limits.
        """
        worker: _Worker | None = self._idle.take(self._wants, self._limits)
        window: dict | str | None = None
        try:
            worker.ask(file)
            while worker:
                answer = worker.answer()
                if not isinstance(answer, dict):
                    self._idle.give(worker)
                    worker = None
                if isinstance(window, dict):
                    yield window
                window = answer
        except _Stopped as stopped:
            raise ValueError(f'{file}: {stopped}') from stopped
        finally:
            if worker:
                worker.end()
        if window:
            raise ValueError(window)


def _end_all(workers: Iterable['_Worker']) -> None:
    for worker in workers:
        worker.end()


def _end_if_waiting(
    workers: 'collections.deque[_Worker]', worker: '_Worker', num_files: int
) -> None:
    """Ends a worker that still waits, and has read no file since."""
    with contextlib.suppress(ValueError):  # it is in use
        if worker.num_files == num_files:
            workers.remove(worker)
            worker.end()


class _Stopped(Exception):
    """A worker has ended; the message says why, without the name of the file."""


class _Slot(threading.Thread):
    """Feeds files to a worker one by one, and replaces a worker that has died.

    Args:
      new: gives a worker.
      keep: takes a worker that has read its last file to the end.
    """

    def __init__(
        self,
        todo: queue.SimpleQueue,
        done: queue.Queue,
        new: Callable[[], '_Worker'],
        keep: Callable[['_Worker'], object],
    ):
        super().__init__(daemon=True)
        self._todo, self._done, self._new, self._keep = todo, done, new, keep
        self._worker: _Worker | None = None
        self._is_reading = self._is_closed = False
        self._lock = threading.Lock()

    def run(self) -> None:
        """Decodes files until the queue gives None."""
        try:
            while (file := self._todo.get()) is not None and not self._is_closed:
                self._is_reading = True
                error = self._read(file)
                self._is_reading = False
                self._done.put(Event(file, None, error))
        except Exception as error:  # a bug: `decode` must not wait for this thread forever
            self._done.put(error)
        self.close()

    def close(self) -> None:
        """Parts with the worker for good; called from other threads, too."""
        with self._lock:
            self._is_closed = True
            worker, self._worker = self._worker, None
            if worker:
                worker.end() if self._is_reading else self._keep(worker)

    def _read(self, file: Path) -> str | None:
        """Queues the windows of a file; returns the error that ended it, or None."""
        try:
            worker = self._worker or self._replace(self._new())
            worker.ask(file)
            while isinstance(answer := worker.answer(), dict):
                self._done.put(Event(file, answer, None))
            return answer
        except _Stopped as stopped:
            self._replace(None)
            return f'{file}: {stopped}'

    def _replace(self, worker: '_Worker | None') -> '_Worker':
        with self._lock:
            before, self._worker = self._worker, worker
            if before:
                before.end()
            if worker and self._is_closed:
                worker.end()
        return worker


class _Worker:
    """The parent's end of a worker process; its methods raise only _Stopped."""

    def __init__(self, wants: Wants, limits: Limits):
        self._limits, self.reads, self.num_files = limits, (wants, limits), 0
        settings = {'wants': wants.to_json(), 'limits': dataclasses.asdict(limits)}
        root = Path(__file__).parents[2]
        paths = filter(None, (str(root), os.environ.get('PYTHONPATH')))
        self._process = subprocess.Popen(
            [*COMMAND, json.dumps(settings)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is the parent's
            env=os.environ
            | {'PYTHONPATH': os.pathsep.join(paths), 'OPENBLAS_NUM_THREADS': '1'}
            | {'JAX_PLATFORMS': 'cpu'},  # OpenL3's pictures load JAX; the device is the parent's
        )
        self._poll = select.poll()
        self._poll.register(self._process.stdout)

    def ask(self, file: Path) -> None:
        """Sends the name of the next file."""
        self.num_files += 1
        self._left_s = self._limits.seconds_per_file
        with contextlib.suppress(BrokenPipeError):  # `answer` reports the death
            self._process.stdin.write(json.dumps(os.fspath(file)).encode() + b'\n')

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def answer(self) -> dict | str | None:
        """Returns the next window, or at the file's end None or the error that ended it."""
        began_s = time.monotonic()
        self._deadline = began_s + min(self._limits.seconds_per_window, self._left_s)
        try:
            length = int.from_bytes(self._bytes(4), 'big')
            if length > MAX_HEADER_BYTES:
                raise ValueError('too long')
            header = json.loads(self._bytes(length))
            if 'arrays' not in header:
                return header['error'] and ' '.join(str(header['error']).split())
            return self._window(header)
        except _Stopped:
            raise
        except Exception as error:  # a worker may send anything
            raise _Stopped('the decoder sent no valid window, and was stopped') from error
        finally:
            self._left_s -= time.monotonic() - began_s

    def end(self) -> int:
        """Kills the process if it still runs; returns its exit code."""
        with self._process as process:  # closes its pipes
            process.kill()
        return process.returncode

    def _window(self, header: dict) -> dict:
        window: dict[str, Any] = {
            name: kind(header[name]) for name, kind in NUMBERS.items() if name in header
        }
        if not all(map(math.isfinite, window.values())):
            raise ValueError('a number is not finite')
        for kind in ('missing', 'partly'):
            window[kind] = {what: str(why) for what, why in header[kind].items()}
        shapes = header['arrays']
        if 'audio' in shapes and not 0 < window['sample_rate'] <= media.MAX_SAMPLE_RATE_HZ:
            raise ValueError(f'sample_rate cannot be {window["sample_rate"]}')
        if sum(_num_bytes(name, shapes[name]) for name in shapes) > self._limits.memory_bytes:
            raise ValueError('too large')
        for name in shapes:
            arrays = [np.empty(shape, ARRAYS[name][0]) for shape in shapes[name]]
            for array in arrays:
                self._fill(memoryview(array).cast('B'))
            window[name] = arrays if name in LISTS else arrays[0]
        return window

    def _bytes(self, count: int) -> bytearray:
        self._fill(memoryview(data := bytearray(count)))
        return data

    def _fill(self, view: memoryview) -> None:
        while view:
            left_s = max(0, self._deadline - time.monotonic())
            if not self._poll.poll(1000 * left_s):
                raise _Stopped(self._lateness())
            if not (count := self._process.stdout.readinto(view)):
                raise _Stopped(self._death())
            view = view[count:]

    def _lateness(self) -> str:
        if self._left_s > (limit_s := self._limits.seconds_per_window):
            return f'the decoder was stopped after {limit_s:g} s without a window'
        limit_s = self._limits.seconds_per_file
        return (
            f'the decoder was stopped after {limit_s:g} s of work; cut the file, or give predict a '
            'larger --max_hours'
        )

    def _death(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self.end()
        how = f'signal {-code}' if code < 0 else f'exit code {code}'
        return f'the decoder died ({how}); is the file damaged, or memory short?'


def _num_bytes(name: str, shapes: list[list[int]]) -> int:
    """Returns the size of announced arrays; raises ValueError if no window can have them."""
    dtype, pattern = ARRAYS[name]
    for shape in shapes:
        fits = len(shape) == len(pattern) and pattern[-1] in (None, shape[-1])
        if not fits or any(type(n) is not int or n < 1 for n in shape):
            raise ValueError(f'{name} cannot be {shape}')
    if not shapes or (len(shapes) > 1 and name not in LISTS):
        raise ValueError(f'{name} cannot be {len(shapes)} arrays')
    return sum(map(math.prod, shapes)) * np.dtype(dtype).itemsize


def work(settings: str) -> None:
    """Runs a worker until its standard input ends, as it does when the parent dies."""
    settings = json.loads(settings)
    wants, limits = Wants.from_json(settings['wants']), Limits(**settings['limits'])
    out = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # what libraries print must not mix with messages
    names: queue.SimpleQueue[Path] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(names,), daemon=True).start()
    wants.picks()  # imports what it needs before memory is limited
    _limit(limits.memory_bytes)
    while True:
        file = names.get()
        message = {'error': None}
        try:
            parts = windows.read(file, wants, max_duration_s=limits.duration_s)
            for window in _timed(parts, limits):
                _send(out, window)
        except MemoryError:
            gib = limits.memory_bytes / 2**30
            message['error'] = f'{file} takes more than {gib:.1f} GiB of memory to decode'
        except Exception as error:  # libraries raise all sorts of things about bad media
            reason = str(error) if isinstance(error, ValueError | OSError) else repr(error)
            message['error'] = reason if str(file) in reason else f'{file}: {reason}'
        _send(out, message)


def _listen(names: queue.SimpleQueue) -> None:
    for line in sys.stdin.buffer:
        names.put(Path(json.loads(line)))
    os._exit(0)


def _limit(memory_bytes: int) -> None:
    """Limits memory to this much beyond current use, where that is known; forbids core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(FileNotFoundError):
        pages = int(Path('/proc/self/statm').read_text().split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _timed(parts: Iterator[dict], limits: Limits) -> Iterator[dict]:
    """Lets the kernel end a worker that hangs, later than a living parent would."""
    limit_s = limits.seconds_per_window + GRACE_S
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        for window in parts:
            signal.setitimer(signal.ITIMER_REAL, 0)
            yield window
            signal.setitimer(signal.ITIMER_REAL, limit_s)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _send(out: BinaryIO, message: dict) -> None:
    """Writes a window, or the end of a file."""
    header = {name: value for name, value in message.items() if name not in ARRAYS}
    arrays = {
        name: message[name] if name in LISTS else [message[name]]
        for name in ARRAYS
        if name in message
    }
    if arrays:
        header['arrays'] = {name: [array.shape for array in arrays[name]] for name in arrays}
    data = json.dumps(header).encode()
    out.write(len(data).to_bytes(4, 'big') + data)
    for array in itertools.chain(*arrays.values()):
        out.write(np.ascontiguousarray(array))
    out.flush()


if __name__ == '__main__':
    work(sys.argv[1])
