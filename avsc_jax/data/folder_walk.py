"""Lists the files below a folder: one walk for training, for data sets and for predict."""

import collections
import hashlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from avsc_jax.data import media
from avsc_jax.runtime.files import some

SAMPLE_BYTES = 1 << 14  # from the middle of files of one size, before all of them is compared
HIDDEN_FOLDERS = ('.', '__')  # how their names begin; Macs and Python make __MACOSX, __pycache__

Ids = frozenset[tuple[int, int]]  # device and number of folders


class Walk(NamedTuple):
    """The files and folders below a folder, sorted.

    Attributes:
      notes: sentences on what the walk leaves out, or takes although it looks odd.
    """

    files: list[Path]
    folders: list[Path]
    notes: list[str]


def walk(folder: Path) -> Walk:
    """Lists all files and folders below a folder; links are followed.

    Left out are hidden files and folders, links that lead nowhere or back to a folder that holds
    them, folders that may not be read or vanish meanwhile, and pipes and devices.
    """
    files: list[Path] = []
    folders: list[Path] = []
    odd: dict[str, list[str]] = collections.defaultdict(list)
    above = folder.resolve()
    holders = frozenset(_id(place) for place in (above, *above.parents))
    todo: list[tuple[Path, Ids]] = [(folder, holders)]
    while todo:
        place, holders = todo.pop()
        try:
            inside = [*place.iterdir()]
        except PermissionError:
            odd['folders that may not be read are left out'].append(_below(place, folder))
            continue
        except FileNotFoundError:
            odd['folders that are no longer there are left out'].append(_below(place, folder))
            continue
        for path in inside:
            kind = _kind(path, holders)
            if kind == 'file':
                files.append(path)
            elif kind == 'folder':
                folders.append(path)
                todo.append((path, holders | {_id(path)}))
            if kind not in ('file', 'folder', ''):
                odd[kind].append(_below(path, folder))
            elif kind == 'folder' and _is_media(path.name):
                reason = 'folders have names of media files, and are searched as folders'
                odd[reason].append(_below(path, folder))
    notes = [f'{what} ({len(names):,}): {some(sorted(names))}' for what, names in odd.items()]
    return Walk(sorted(files), sorted(folders), sorted(notes))


def _kind(path: Path, holders: Ids) -> str:
    """Returns 'file', 'folder', why a path is left out, or '' where nobody needs to know."""
    is_folder = path.is_dir()
    if path.name.startswith(HIDDEN_FOLDERS if is_folder else '.'):
        is_told = is_folder or _is_media(path.name)
        return 'hidden files and folders are left out' if is_told else ''
    if is_folder:
        is_cycle = path.is_symlink() and _id(path) in holders
        return 'links back to a folder that holds them are not followed' if is_cycle else 'folder'
    if path.is_file():
        return 'file'
    is_broken = path.is_symlink() and not path.exists()
    return 'links that lead nowhere are left out' if is_broken else 'pipes and devices are left out'


def _id(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _is_media(name: str) -> bool:
    return name.lower().endswith(media.VIDEOS + media.SOUNDS + media.PICTURES)


def taken(
    files: Iterable[Path], takes: Collection[str], *, stills: bool = True
) -> tuple[list[Path], dict[str, list[Path]]]:
    """Chooses the media files that a system takes, by the endings of their names.

    Args:
      takes: 'sound', 'picture' or both.
      stills: whether still pictures are taken, too.

    Returns:
      The files, and the others by the reason why they are none of them.
    """
    chosen: list[Path] = []
    others: dict[str, list[Path]] = collections.defaultdict(list)
    for file in files:
        name = file.name.lower()
        if name.endswith(media.SOUNDS) and 'sound' not in takes:
            others['sounds, and the system only looks'].append(file)
        elif name.endswith(media.PICTURES) and 'picture' not in takes:
            others['pictures, and the system only listens'].append(file)
        elif name.endswith(media.PICTURES) and not stills:
            others['still pictures, and only films are encoded'].append(file)
        elif name.endswith('.gif'):
            others['GIFs, which folders are not searched for'].append(file)
        elif not _is_media(name):
            others['files of other kinds'].append(file)
        else:
            chosen.append(file)
    return chosen, dict(others)


def counted(others: Mapping[str, Sequence[Path]]) -> list[str]:
    """Says how many files each reason leaves out, with the first one as an example.

    Example:
      >>> counted({'GIFs': [Path('a.gif'), Path('b.gif')]})
      ['left out: GIFs (2): a.gif, ...']
    """
    return [f'left out: {why} ({len(files):,}): {some(files, 1)}' for why, files in others.items()]


def links(files: Iterable[Path]) -> dict[Path, Path]:
    """Returns for each path that leads to the file of another path that other path.

    Of several paths to a file, the one with the fewest links stands for all.
    """

    def number(file: Path) -> Hashable:
        try:
            facts = file.stat()
        except FileNotFoundError:  # deleted since the walk
            return file
        return (facts.st_dev, facts.st_ino) if facts.st_ino else file.resolve()

    return _others(_equal(files, number))


def copies(files: Iterable[Path]) -> dict[Path, Path]:
    """Returns the same as `links`, also for files of equal content; empty files are not compared.

    Only files of equal size and with equal bytes in the middle are read as a whole.
    """
    files = [file for file in files if file.is_file()]
    linked = links(files)
    alike = [[file for file in files if file not in linked and file.stat().st_size]]
    for fact in (lambda file: file.stat().st_size, _middle, _digest):
        alike = [group for candidates in alike for group in _equal(candidates, fact)]
    copied = _others(alike)
    return {file: copied.get(other, other) for file, other in linked.items()} | copied


def _equal(files: Iterable[Path], fact: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Groups files by a fact; files that have it alone are in no group."""
    groups = collections.defaultdict(list)
    for file in files:
        groups[fact(file)].append(file)
    return [group for group in groups.values() if len(group) > 1]


def _others(groups: Iterable[list[Path]]) -> dict[Path, Path]:
    def by_links(file: Path) -> tuple[int, Path]:
        return sum(part.is_symlink() for part in (file, *file.parents)), file

    others = {}
    for group in groups:
        first, *rest = sorted(group, key=by_links)
        others |= dict.fromkeys(rest, first)
    return others


def _middle(file: Path) -> bytes:
    with file.open('rb') as opened:
        opened.seek(max(0, file.stat().st_size // 2 - SAMPLE_BYTES // 2))
        return opened.read(SAMPLE_BYTES)


def _digest(file: Path) -> bytes:
    with file.open('rb') as opened:
        return hashlib.file_digest(opened, 'sha256').digest()
