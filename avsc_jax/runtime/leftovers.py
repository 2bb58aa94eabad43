"""Temporary files and folders, which go when their block ends or when a signal ends the process."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

_temporary: set[Path] = set()


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Yields a path, and removes the file or folder there when the block or the process ends."""
    _temporary.add(path)
    try:
        yield path
    finally:
        _remove(path)
        _temporary.discard(path)


def remove_temporary() -> None:
    """Removes the temporary files and folders of this process, which is about to end."""
    for path in [*_temporary]:
        _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is not there, or not to be removed
        shutil.rmtree(path) if path.is_dir() else path.unlink()
