"""Turns errors of a full or read-only disk, of which libraries make many kinds, into sentences."""

import contextlib
import errno
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
ELSEWHERE = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


class Unwritable(OSError):
    """A file cannot be written; the message is a sentence for the user."""


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns an error of the disk, while the block writes a file or folder, into a sentence.

    Raises:
      Unwritable: the disk is full, or nothing can or may be written at the path.
    """
    try:
        yield
    except Exception as error:  # libraries raise their own kinds, with the disk's error as a text
        if sentence := explained(error, path):
            raise Unwritable(sentence) from error
        raise


def explained(error: BaseException, path: str | Path = 'a file') -> str:
    """Returns the sentence about an error of the disk; '' for any other error.

    Args:
      path: what was to be written, where the error does not name it.
    """
    if isinstance(error, Unwritable):
        return str(error)
    if (cause := _of_disk(error)) is None:
        return ''
    number, name = cause
    if not name.startswith(str(path)):  # else a temporary file beside it
        path = name or path
    if number in REFUSED + ELSEWHERE:
        otherwise = ', or change its permissions' if number in REFUSED else ''
        return f'{path} cannot be opened: {os.strerror(number)}; name another place{otherwise}'
    room, limit = _free(Path(path)), resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if number == errno.EFBIG and limit != resource.RLIM_INFINITY:
        room = f'files may have {limit:,} bytes, by ulimit -f'
    return (
        f'{path} cannot be written: {os.strerror(number)} ({room}); make room, and give the same '
        'command again'
    )


def _of_disk(error: BaseException | None) -> tuple[int, str] | None:
    """The number of the disk's error that an error comes from, and the path that it names."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL + REFUSED + ELSEWHERE:
            name = error.filename2 or error.filename
            return error.errno, os.fspath(name) if isinstance(name, str | os.PathLike) else ''
        for number in (*FULL, errno.EROFS):  # by Orbax and array_record, from other languages
            if os.strerror(number) in str(error):
                return number, ''
        if isinstance(error, ValueError):  # it has a sentence of its own
            return None
        error = error.__cause__ or error.__context__
    return None


def _free(path: Path) -> str:
    """Says how much room there is on the disk of a path, which need not exist."""
    folder = next((p for p in path.absolute().parents if p.is_dir()), Path('/'))
    return f'{shutil.disk_usage(folder).free:,} bytes are free in {folder}'
