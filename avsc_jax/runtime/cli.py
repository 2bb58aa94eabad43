"""Runs a command so that an error is one sentence, a signal a clean end, and both an exit code."""

import contextlib
import gc
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from avsc_jax.runtime import disk, leftovers

TRUST_EDITED = 'open runs whose files you have edited by hand: checksums are not compared'
STOPPING = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 3.0  # for a command to end by itself after a signal
CHILDREN_S = 0.7  # for its processes, and its output, to end after that
BEGINS_AGAIN = 'the same command begins again'
# Imports and traces make objects by the million, and hardly any garbage: Python's own thresholds
# cost an eighth of the time to the first answer.
COLLECTIONS = (100_000, 20, 100)


class UsageError(ValueError):
    """A command that cannot be meant as it is; its process ends with exit code 2, as argparse's."""


_seen: list[int] = []  # the signals that have reached the running command
_ending = threading.Lock()
_next_start: list[str | Callable[[], str]] = [BEGINS_AGAIN]


def main(function: Callable[[list[str]], int | None], *, next_start: str = BEGINS_AGAIN) -> int:
    """Runs `function(arguments)` and returns the process's exit code.

    ValueError, OSError and FloatingPointError carry a sentence for the user, which is printed.
    Other errors are faults of this program and keep their traceback, as do all with
    AVSC_TRACEBACK=1. SIGINT and SIGTERM end the process with code 130 or 143 and a sentence on what
    the next start does: the first one within GRACE_S, the second at once. A process that ends so
    leaves no process of its own and no temporary file.

    Args:
      next_start: what the same command does after a signal, until `set_next_start` says more.
    """
    set_next_start(next_start)
    gc.set_threshold(*COLLECTIONS)
    # transformers imports PyTorch wherever it is installed, which takes two seconds for nothing
    os.environ.setdefault('USE_TORCH', '0')
    with _signals_caught():
        try:
            code = function(sys.argv[1:]) or 0
            with disk.writing('the standard output'):
                sys.stdout.flush()
            return code
        except BaseException as error:
            if _seen:  # whatever a library has made of the interruption
                _end(_seen[0])
            return _code(error)


def set_next_start(sentence: str | Callable[[], str]) -> None:
    """Sets what a stopped command says about its next start.

    Args:
      sentence: the end of a sentence, or a quick function that returns it at the signal.
    """
    _next_start[0] = sentence


@contextlib.contextmanager
def next_start(sentence: str | Callable[[], str]) -> Iterator[None]:
    """Sets what a command that is stopped within the block says; see `set_next_start`."""
    before = _next_start[0]
    set_next_start(sentence)
    yield
    set_next_start(before)


def end_at_signals() -> None:
    """Makes signals end the process at once, while a command imports what it needs."""
    for number in filter(_is_heeded, STOPPING):
        signal.signal(number, lambda number, _: _end(number))


def _code(error: BaseException) -> int:
    """Prints an error for the user and returns its exit code; raises one that is not for users."""
    if isinstance(error, KeyboardInterrupt):
        print(f'stopped; {_said()}', file=sys.stderr)
        return 130
    if isinstance(error, BrokenPipeError):  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    sentence = disk.explained(error)
    is_for_users = sentence or isinstance(error, ValueError | OSError | FloatingPointError)
    if not is_for_users or os.environ.get('AVSC_TRACEBACK') == '1':
        raise error
    print(f'error: {sentence or error}', file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # else the interpreter would try again as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 2 if isinstance(error, UsageError) else 1


@contextlib.contextmanager
def _signals_caught() -> Iterator[None]:
    """Lets the first signal raise KeyboardInterrupt, and the second end the process at once.

    Python calls handlers in the main thread, between two instructions; a thread of its own sees
    signals while the main thread is in a compiler or waits for other threads.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _seen.clear()
    received, sent = os.pipe()
    os.set_blocking(sent, False)
    heeded = [*filter(_is_heeded, STOPPING)]
    handlers = [signal.signal(number, _interrupt) for number in heeded]
    wakeup = signal.set_wakeup_fd(sent, warn_on_full_buffer=False)
    ignored, sys.unraisablehook = sys.unraisablehook, _end_if_ignored
    threading.Thread(target=_watch, args=(received,), daemon=True).start()
    try:
        yield
    finally:
        sys.unraisablehook = ignored
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(heeded, handlers, strict=True):
            signal.signal(number, handler)
        os.close(sent)  # the thread ends


def _is_heeded(number: int) -> bool:
    """Whether a signal is not ignored, as SIGINT is by jobs in the background of a script."""
    return signal.getsignal(number) is not signal.SIG_IGN


def _interrupt(number: int, _: FrameType | None) -> None:
    _seen.append(number)
    if len(_seen) == 1:  # else the thread that watches ends the process
        raise KeyboardInterrupt


def _end_if_ignored(unraisable: 'sys.UnraisableHookArgs') -> None:
    """Ends the process if a signal came where Python ignores errors, such as a callback of gc."""
    if _seen and isinstance(unraisable.exc_value, KeyboardInterrupt):
        _end(_seen[0])
    sys.__unraisablehook__(unraisable)


def _watch(received: int) -> None:
    """Ends the process at its second signal, or GRACE_S after the first."""
    first, deadline = 0, None
    while select.select([received], [], [], deadline and max(0.0, deadline - time.monotonic()))[0]:
        number = int.from_bytes(os.read(received, 1))
        if not number:  # the command has returned
            os.close(received)
            return
        if number not in STOPPING or signal.getsignal(number) is not _interrupt:
            continue  # others, such as the server of the page, end by it themselves
        if first:
            break
        first, deadline = number, time.monotonic() + GRACE_S
    _end(first)


def _end(number: int) -> None:
    """Ends this process and those that it has started, without temporary files.

    The interpreter is not taken down: threads that still compile or decode would crash in it.
    """
    if not _ending.acquire(blocking=False):
        return
    _end_children()
    leftovers.remove_temporary()
    flushing = threading.Thread(target=sys.stdout.flush, daemon=True)  # its reader may be stuck
    flushing.start()
    flushing.join(CHILDREN_S)
    # after a progress bar, or ^C, a line of its own
    line = f'\nstopped by {signal.Signals(number).name}; {_said()}\n'
    with contextlib.suppress(OSError):
        os.write(2, line.encode())  # sys.stderr may be held back by a thread that is stuck
    os._exit(128 + number)


def _said() -> str:
    sentence = _next_start[0]
    return sentence if isinstance(sentence, str) else sentence()


def _end_children() -> None:
    """Ends the processes that this one has started; where /proc is missing, they end as it does."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + CHILDREN_S
        children = _children()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        while _children() and time.monotonic() < deadline:
            time.sleep(0.01)


def _children() -> list[int]:
    """The numbers of this process's running children."""
    children = []
    for task in Path('/proc/self/task').glob('*/children'):
        with contextlib.suppress(OSError):  # the thread has ended
            children += [int(word) for word in task.read_text().split()]
    return [child for child in children if _is_running(child)]


def _is_running(child: int) -> bool:
    """Whether a process is no zombie, which waits to be asked for its exit code."""
    with contextlib.suppress(OSError):
        return ') Z ' not in Path(f'/proc/{child}/stat').read_text()
    return False
