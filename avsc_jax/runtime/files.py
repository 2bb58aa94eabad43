"""Writes files atomically, one writer at a time; shows names and lists as text."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from avsc_jax.runtime import archives, disk, json_files
from avsc_jax.runtime.leftovers import temporary

MAX_JSON_BYTES = 1 << 30  # with a digest: outlines of all records of a large data set


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path, which replaces `path` when the block ends without an error.

    A writer that fails or is killed leaves `path` as it was. A folder can be written in the same
    way if `path` is no folder yet.

        with whole(path) as beside:
            beside.write_text(text)
    """
    path = Path(path)
    # hosts that share a disk may have processes of one number
    beside = path.with_name(f'{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp')
    with temporary(beside), disk.writing(path):
        yield beside
        beside.replace(path)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically, as UTF-8 and with the text's own line ends."""
    with whole(path) as beside:
        beside.write_text(text, encoding='utf-8', newline='')


def write_texts(folder: str | Path, contents: Mapping[str, str]) -> None:
    """Writes texts by file name into a folder, which is made; each whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_text(folder / name, content)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a binary file atomically."""
    with whole(path) as beside:
        beside.write_bytes(content)


def write_checked_json(path: str | Path, content: Mapping) -> None:
    """Writes a JSON file that holds a digest of its content, atomically."""
    checked = {'sha256': _json_digest(content), 'content': content}
    write_text(path, json.dumps(checked, indent=1) + '\n')


def read_checked_json(path: str | Path) -> dict:
    """Reads what `write_checked_json` wrote.

    Raises:
      ValueError: the file is damaged.
    """
    with contextlib.suppress(ValueError, TypeError, KeyError):
        checked = json_files.parse(Path(path).read_bytes(), most_bytes=MAX_JSON_BYTES)
        if checked['sha256'] == _json_digest(checked['content']):
            return checked['content']
    raise ValueError(f'{path} is damaged')


def _json_digest(content: Mapping) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_arrays(path: str | Path, **arrays: npt.ArrayLike) -> None:
    """Writes an uncompressed .npz archive atomically."""
    with whole(path) as beside, beside.open('wb') as file:
        # numpy's annotations let any name be the option allow_pickle
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(
    path: str | Path, only: Collection[str] = (), *, limit: int | None = None
) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz archive, and compares every byte with the archive's checksums.

    `numpy.load` reads as many bytes as an array's header asks for; with a header of fewer rows it
    never reaches the checksum.

    Args:
      only: names of the arrays to read; none: all.
      limit: the most bytes that they may have; None leaves the limits of every archive, see
        `archives.most_bytes`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, too large, or no such archive.
    """
    try:
        return archives.read_arrays(Path(path), only, limit=limit)
    except FileNotFoundError:
        raise
    except archives.TooLarge as error:
        raise ValueError(f'{path} is not read: {error}') from error
    except Exception as error:  # the readers raise a dozen kinds on broken bytes
        raise ValueError(f'{path} is damaged ({error or repr(error)})') from error


REMINDER_S = 600.0  # between two lines about the holder of a lock
DEAD_WAIT_S = 60.0  # for the lock of a process that has ended: one that it started holds it
LONGEST_WAIT_S = 7 * 24 * 3600.0  # the holder may be training on another host


class Busy(ValueError):
    """Another process holds a lock."""


@contextlib.contextmanager
def locked(path: Path, *, busy: str = '') -> Iterator[None]:
    """Holds the lock `<path>.lock`; a killed process releases it.

    The lock file holds the process number and the host of its holder, for the others' sentences.

    Args:
      busy: what to do about another holder, the end of an error's sentence; '' waits for it.

    Raises:
      Busy: another process holds the lock, and `busy` is given or the lock outlives its holder.
    """
    lock = Path(f'{path}.lock')
    while True:
        with lock.open('a+') as file:
            _take(file, path, busy)
            if not _is_at(lock, file):
                continue  # the last holder has removed this lock file
            with temporary(lock):
                file.truncate(0)
                with contextlib.suppress(OSError):  # a full disk stops what needs room, not a name
                    os.write(
                        file.fileno(), f'process {os.getpid()} on {socket.gethostname()}'.encode()
                    )
                yield
            return


def _take(file: TextIO, path: Path, busy: str) -> None:
    """Waits for the lock of an open file, and prints for whom; see `locked`."""
    began, pause_s, reminder_s = time.monotonic(), 0.02, 0.0
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        file.seek(0)
        holder, waited_s = printable(file.read(200).strip()), time.monotonic() - began
        if busy:
            raise Busy(f'{path} is in use by {holder or "another process"}; {busy}')
        if waited_s >= LONGEST_WAIT_S or (waited_s >= DEAD_WAIT_S and _has_ended(holder)):
            raise Busy(
                f'{path} is still locked after {waited_s / 60:.0f} minutes by {holder}, which '
                f'{"has ended" if _has_ended(holder) else "may have ended"}; end what it has '
                f'started, or delete {path}.lock, and give the same command again'
            )
        if waited_s >= reminder_s:
            print(f'waiting for {holder or "another process"} at {path}', file=sys.stderr)
            reminder_s += REMINDER_S
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 1.0)


def _has_ended(holder: str) -> bool:
    """Whether a lock's holder is a process of this host that is not there any more."""
    words = holder.split()  # process N on HOST
    if len(words) != 4 or words[3] != socket.gethostname() or not words[1].isdecimal():
        return False
    try:
        os.kill(int(words[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


def _is_at(path: Path, file: TextIO) -> bool:
    """Whether the open file is still the one that the path names."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def stamp(path: Path, *, inode: bool = True) -> list[int]:
    """Returns size, time and number of a file, which change with its content; [] without a file.

    Args:
      inode: whether a file that was replaced by another of its size and time is another one; a copy
        of a data set on another disk has files of other numbers.
    """
    with contextlib.suppress(OSError):
        facts = path.stat()
        return [facts.st_size, facts.st_mtime_ns, *([facts.st_ino] if inode else [])]
    return []


def link(source: Path, target: Path) -> None:
    """Makes `target` a hard link to a file, or a copy where hard links are not supported."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def printable(value: object) -> str:
    """Replaces characters that could control a terminal, for names that come from files."""
    return ''.join(c if c.isprintable() else '�' for c in str(value))


def some(items: Sequence, most: int = 3) -> str:
    """Lists the first few items for a sentence: `'a, b, c, ...'`."""
    return ', '.join(map(str, items[:most])) + ', ...' * (len(items) > most)
