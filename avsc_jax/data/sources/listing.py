"""Labelled media of one's own: which files there are, and which of them train, select and report.

A folder has a folder of files for each class, `FOLDER/CLASS/...`. Folders inside a class are
groups, such as locations or recordings; those of one name are one group, in whatever class. Where
the folders are called train, validation and test, each of them has the classes.

A table (separated by commas, semicolons or tabs) has the columns `path`, or `audio` and `video`,
and `label`; it may have `group` and `split`. Its paths begin at its own folder. TAU's meta.csv is
one.

Nothing is drawn: the same names give the same splits everywhere, and no group is in two of them.
"""

import collections
import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from avsc_jax.data import media
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.runtime.files import some

HOLD = {
    'sound': media.VIDEOS + media.SOUNDS,
    'picture': media.VIDEOS + media.PICTURES,
}
SPLITS = {  # what folders and tables call them
    'train': 'train', 'training': 'train',
    'validation': 'validation', 'valid': 'validation', 'val': 'validation', 'dev': 'validation',
    'test': 'test', 'testing': 'test',
}  # fmt: skip
COLUMNS = {  # and TAU's names of them
    'path': ('path', 'file', 'filename'),
    'audio': ('audio', 'filename_audio'),
    'video': ('video', 'filename_video'),
    'label': ('label', 'class', 'scene_label'),
    'group': ('group', 'location', 'identifier'),
    'split': ('split',),
}
SHARES = {'train_inner': 0.6, 'validation': 0.2, 'test': 0.2}


class Listing(NamedTuple):
    """What a folder or a table has; the items' paths begin at `root`."""

    place: Path
    root: Path
    items: list[Clip]
    left_out: list[Path]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({item.scene for item in self.items}))

    @property
    def has_groups(self) -> bool:
        return any(item.group != item.clip_id for item in self.items)

    @property
    def digest(self) -> str:
        """Changes with every name, label, group and split, and with size and time of each file."""
        facts = [(*item, *map(self._stamp, (item.audio, item.video))) for item in self.items]
        return hashlib.sha256(repr(facts).encode('utf-8', 'surrogateescape')).hexdigest()[:16]

    def _stamp(self, name: str) -> tuple[int, ...]:
        path = self.root / name
        if not name or not path.is_file():
            return ()
        return path.stat().st_size, path.stat().st_mtime_ns


def read(place: Path, needs: Sequence[str]) -> Listing:
    """The labelled files of a folder or a table, and of each only what is needed.

    Args:
      needs: 'sound', 'picture', or both: what every clip must have.
    """
    if place.is_dir():
        found = _of_folder(place)
    elif place.is_file():
        found = _of_table(place)
    else:
        raise FileNotFoundError(
            f'there is no folder or table {place}; name a folder that has a folder of files for '
            'each class, or a CSV file with the columns path and label'
        )
    if len(found.classes) < 2:
        raise ValueError(
            f'{place} has only the class {found.classes[0]!r}; a system tells two or more apart'
        )
    return found._replace(items=[_needed(item, needs, place) for item in found.items])


def _needed(item: Clip, needs: Sequence[str], place: Path) -> Clip:
    there = {'sound': item.audio, 'picture': item.video}
    if lacking := [need for need in needs if not there[need]]:
        raise ValueError(
            f'the system takes {" and ".join(needs)}, and {item.clip_id} of {place} has no '
            f'{lacking[0]}; choose a system for what the files hold, or give others'
        )
    kept = {kind: name if kind in needs else '' for kind, name in there.items()}
    return item._replace(audio=kept['sound'], video=kept['picture'])


def _of_folder(folder: Path) -> Listing:
    tops, items = _folders(folder), []
    if not tops:
        raise ValueError(
            f'{folder} holds no folders; put the files of each class into one, {folder}/CLASS/...'
        )
    parts = {top: SPLITS.get(top.name.lower(), '') for top in tops}
    if '' in parts.values() or 'train' not in parts.values():  # a class may be called train
        parts = {folder: ''}
    left_out = [file for top in {folder, *parts} for file in _files(top.glob('*'))]
    for top, split in parts.items():
        for of_class in _folders(top):
            files = _files(of_class.rglob('*'))
            found = [file for file in files if _kinds(file.name)]
            if not found:
                raise ValueError(
                    f'{of_class} holds no videos, sounds or pictures; put those of the class '
                    f'{of_class.name!r} there, or remove it'
                )
            left_out += [file for file in files if not _kinds(file.name)]
            for file in found:
                name = file.relative_to(folder).as_posix()
                within = file.relative_to(of_class).parent.as_posix()
                group = name if within == '.' else within
                items.append(_item(name, of_class.name, group, split))
    return Listing(folder, folder, items, left_out)


def _item(name: str, label: str, group: str, split: str) -> Clip:
    """Of a single file."""
    audio, video = (name if kind in _kinds(name) else '' for kind in HOLD)
    return Clip(name, audio, video, label, group, split)


def _kinds(name: str) -> list[str]:
    """What a file holds, by its ending."""
    return [kind for kind, endings in HOLD.items() if name.lower().endswith(endings)]


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(('.', '__')))


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(f for f in paths if f.is_file() and not f.name.startswith('.'))


def _of_table(table: Path) -> Listing:
    try:
        lines = table.read_text('utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{table} is no text in UTF-8 ({error}); save it as such') from error
    separator = next((s for s in '\t;' if lines and s in lines[0]), ',')
    rows = csv.DictReader(lines, delimiter=separator)
    column = _columns(table, [name.strip().lower() for name in rows.fieldnames or ()])
    rows.fieldnames = [name.strip().lower() for name in rows.fieldnames]
    items, wrong = [], []
    for row in rows:
        cell = {name: (row.get(of) or '').strip() for name, of in column.items()}
        try:
            items.append(_of_row(cell))
        except ValueError as error:
            wrong.append(f'line {rows.line_num}: {error}')
    items_of = collections.Counter(item.clip_id for item in items)
    wrong += [f'{clip_id} is there {n} times' for clip_id, n in items_of.items() if n > 1]
    if not wrong and not items:
        raise ValueError(f'{table} has no lines below its header; give one for each clip')
    if wrong:
        raise ValueError(
            f'{table} has {len(wrong)} lines that cannot be used ({some(wrong)}); each must have '
            'a file of its own and its label'
        )
    if not any((table.parent / (item.audio or item.video)).is_file() for item in items):
        first = table.parent / (items[0].audio or items[0].video)
        raise FileNotFoundError(
            f'none of the {len(items):,} files of {table} is there, such as {first}; paths begin '
            'at the folder of the table'
        )
    return Listing(table, table.parent, items, [])


def _columns(table: Path, header: Sequence[str]) -> dict[str, str]:
    """What a column means -> its name in the header."""
    found = {
        meaning: next((name for name in names if name in header), '')
        for meaning, names in COLUMNS.items()
    }
    found = {meaning: name for meaning, name in found.items() if name}
    if 'label' not in found or not {'path', 'audio', 'video'} & {*found}:
        raise ValueError(
            f'{table} has the columns {", ".join(header) or "none"}; it must have path (or audio '
            'and video) and label, and may have group and split'
        )
    return found


def _of_row(cell: dict[str, str]) -> Clip:
    name = cell.get('path') or cell.get('video') or cell.get('audio')
    if not name:
        raise ValueError('it names no file')
    if not cell['label']:
        raise ValueError(f'{name} has no label')
    split = SPLITS.get(cell.get('split', '').lower(), '')
    if cell.get('split') and not split:
        raise ValueError(f'split {cell["split"]!r} is none of {", ".join(SPLITS)}')
    item = _item(name, cell['label'], cell.get('group') or name, split)
    item = item._replace(**{k: cell[k] for k in ('audio', 'video') if cell.get(k)})
    if not (item.audio or item.video):
        raise ValueError(f'{name} ends as no video, sound or picture does')
    return item


def split(listing: Listing) -> dict[str, list[Clip]]:
    """Which items are train_inner, validation and test: as the list says, or else by SHARES.

    Validation is cut from the training clips where the list names train and test alone.
    """
    named, items = {item.split for item in listing.items}, listing.items
    if named == {''}:
        parts = _cut(items, SHARES)
    else:
        _check_named(listing, named)
        of = {name: [item for item in items if item.split == name] for name in named}
        inner = {name: share for name, share in SHARES.items() if name != 'test'}
        parts = _cut(of['train'], inner) if len(of) == 2 else {'train_inner': of['train']}
        parts |= of
    for name in SHARES if named == {''} else ('train_inner',):
        if lacking := {*listing.classes} - {item.scene for item in parts[name]}:
            scene = min(lacking)
            groups = {item.group for item in items if item.scene == scene}
            raise ValueError(
                f'the class {scene!r} of {listing.place} has no clip in {name}: its '
                f'{len(groups)} {"groups" if listing.has_groups else "files"} are too few, or in '
                'groups with too many others; give it three or more, or name the splits yourself'
            )
    return {name: parts[name] for name in SHARES}


def _check_named(listing: Listing, named: set[str]) -> None:
    """An error unless every item has a split, and every group one."""
    if '' in named or not {'train', 'test'} <= named:
        told = ', '.join(sorted(name or 'nothing' for name in named))
        raise ValueError(
            f'{listing.place} names as splits {told}; every clip must be of train, test or '
            'validation, which may be missing, or none of any'
        )
    of_group = collections.defaultdict(set)
    for item in listing.items:
        of_group[item.group].add(item.split)
    if shared := [
        f'{group} ({", ".join(sorted(of))})' for group, of in of_group.items() if len(of) > 1
    ]:
        raise ValueError(
            f'{len(shared)} groups of {listing.place} are in more than one split: {some(shared)}; '
            'clips that were recorded together must be in the same'
        )


def _cut(items: Sequence[Clip], shares: Mapping[str, float]) -> dict[str, list[Clip]]:
    """Parts that share no group, each with about its share of every class.

    The largest group goes first, of equals by a digest of their names, for files are often numbered
    in an order that means something. Each goes where least of its classes is, as the shares go.
    """
    of_group = collections.defaultdict(list)
    for item in items:
        of_group[item.group].append(item)
    total = collections.Counter(item.scene for item in items)
    counts = {part: collections.Counter() for part in shares}

    def order(group: str) -> tuple[int, str]:
        return -len(of_group[group]), hashlib.sha256(group.encode('utf-8', 'replace')).hexdigest()

    part_of = {}
    for group in sorted(of_group, key=order):
        here = collections.Counter(item.scene for item in of_group[group])

        def filled(part: str, here: Mapping[str, int] = here) -> tuple[float, float]:
            found, share = counts[part], shares[part]
            of_class = sum(n * found[scene] / total[scene] for scene, n in here.items())
            return of_class / share, found.total() / share

        part_of[group] = min(shares, key=filled)
        counts[part_of[group]].update(here)
    return {part: [item for item in items if part_of[item.group] == part] for part in shares}
