"""The SHA-256 of each file of a finished run, which is compared whenever the file is read.

A run folder of an earlier version has no `checksums.json` and is read as it is.
"""

import contextlib
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from avsc_jax.runtime import files, json_files

FILE = 'checksums.json'
_trusting = False


@contextlib.contextmanager
def trusting(trusts: bool) -> Iterator[None]:
    """Reads run folders without comparing checksums in this block, if `trusts` is true.

    It is for files that the user has edited by hand, the flag --trust_edited.
    """
    global _trusting
    before, _trusting = _trusting, trusts or _trusting
    try:
        yield
    finally:
        _trusting = before


def are_trusted() -> bool:
    """Whether checksums are not compared; see `trusting`."""
    return _trusting


def write(folder: Path, names: Iterable[str]) -> None:
    """Writes the checksums of files, and of all files in the folders among the names.

    Args:
      names: relative to the run folder; a name that does not exist is left out.
    """
    sums = {
        file.relative_to(folder).as_posix(): _sha256(file)
        for name in names
        for file in _files(folder / name)
    }
    files.write_checked_json(folder / FILE, sums)


def check(folder: Path, name: str, content: bytes | None = None) -> None:
    """Compares a file of a run folder, or all files below one of its folders.

    Files that the checksums do not name are not compared, but none may be new in a folder.

    Args:
      content: the bytes of the file, if they have been read already.

    Raises:
      ValueError: a file is not as it was when the run was finished.
    """
    if _trusting or (sums := read(folder)) is None:
        return
    path = folder / name
    listed = {other for other in sums if f'{other}/'.startswith(f'{name}/')}
    present = {file.relative_to(folder).as_posix() for file in _files(path)}
    if path.is_dir() and (new := sorted(present - listed)):
        raise _changed(folder / new[0], 'is new')
    for each in sorted(listed):
        if each not in present:
            raise _changed(folder / each, 'is missing')
        seen = _sha256(folder / each) if content is None else hashlib.sha256(content).hexdigest()
        if seen != sums[each]:
            raise _changed(folder / each, f'has SHA-256 {seen[:12]}..., not {sums[each][:12]}...')


def read(folder: Path) -> dict[str, str] | None:
    """Returns the SHA-256 of each file of a run; None if the folder has no checksums.

    Raises:
      ValueError: the file of checksums is itself damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        sums = files.read_checked_json(file)
        json_files.check(sums, {str: str}, str(file))
        return sums
    except ValueError as error:
        raise ValueError(
            f'{error}; copy the run again, or give --trust_edited, which compares nothing'
        ) from error


def note_if_missing(folder: Path) -> None:
    """Prints a note, once for each folder, if its files cannot be compared with checksums."""
    if not (folder / FILE).exists():
        _note(folder)


@cache
def _note(folder: Path) -> None:
    print(
        f'note: {folder} has no {FILE}, as runs of earlier versions; its files are read without '
        'comparing them',
        file=sys.stderr,
    )


def _changed(file: Path, what: str) -> ValueError:
    return ValueError(
        f'{file} {what}: it has changed since the run was finished; copy it from a backup or train '
        'the run again, or give --trust_edited if you have edited it by hand'
    )


def _sha256(file: Path) -> str:
    with file.open('rb') as opened:
        return hashlib.file_digest(opened, 'sha256').hexdigest()


def _files(path: Path) -> list[Path]:
    """Lists a file, or all files below a folder; nothing for a path that does not exist."""
    return sorted(file for file in (path, *path.rglob('*')) if file.is_file())
