"""Lists a user's own labelled media files, and splits them into training, validation and test.

A folder has a folder of files for each class, `FOLDER/CLASS/...`. Folders inside a class are
groups, such as locations or recordings; those of one name are one group, in whatever class. Where
the folders are called train, validation and test, each of them has the classes.

A table (separated by commas, semicolons or tabs) has the columns `path`, or `audio` and `video`,
and `label`; it may have `group` and `split`. Its paths begin at its own folder. TAU's meta.csv is
one. With the token multi_label files may have several labels, see label_columns.

Nothing is random: the same names give the same splits everywhere, and no group is in two of them.
"""

import collections
import csv
import hashlib
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from avsc_jax.data import folder_walk, label_kinds, media, split_words
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles
from avsc_jax.data.sources import label_columns, recordings, stratify
from avsc_jax.runtime import nearest
from avsc_jax.runtime.files import printable, some
from avsc_jax.types import Kind

ENDINGS = {  # of files that hold sound or pictures
    'sound': media.VIDEOS + media.SOUNDS,
    'picture': media.VIDEOS + media.PICTURES,
}
_NAMES = {  # kind -> the name of a clip's file that holds it, or ''
    'sound': operator.attrgetter('audio'),
    'picture': operator.attrgetter('video'),
}
SPLITS = {  # name in folders and tables -> split
    'train': 'train', 'training': 'train',
    'validation': 'validation', 'valid': 'validation', 'val': 'validation', 'dev': 'validation',
    'test': 'test', 'testing': 'test',
}  # fmt: skip
COLUMNS = {  # meaning -> names in the header, TAU's among them
    'path': ('path', 'file', 'filename'),
    'audio': ('audio', 'filename_audio'),
    'video': ('video', 'filename_video'),
    'label': ('label', 'class', 'scene_label', 'labels'),
    'group': ('group', 'location', 'identifier'),
    'split': ('split',),
}
SHARES = {'train_inner': 0.6, 'validation': 0.2, 'test': 0.2}


class Listing(NamedTuple):
    """The labelled files of a folder or table, with paths below `root`.

    Attributes:
      place: the folder or table.
      left_out: files in no class folder or of other kinds.
      notes: sentences on other files that are left out.
      kind: 'exclusive' where a file has one class, 'independent' where it has any number of labels.
    """

    place: Path
    root: Path
    items: list[Clip]
    left_out: list[Path]
    notes: tuple[str, ...] = ()
    kind: Kind = 'exclusive'

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({name for item in self.items for name in item.labels}))

    @property
    def has_groups(self) -> bool:
        return any(item.group != item.clip_id for item in self.items)

    @property
    def digest(self) -> str:
        """A digest of names, labels, groups and splits, and of size and time of each file."""
        stamp = FolderFiles(self.root).stamp
        facts = [(*i, tuple(stamp(i.audio)), tuple(stamp(i.video))) for i in self.items]
        return hashlib.sha256(repr(facts).encode('utf-8', 'surrogateescape')).hexdigest()[:16]


def read(place: Path, needs: Sequence[str], kind: Kind = 'exclusive') -> Listing:
    """Lists the labelled files of a folder or a table.

    Args:
      needs: 'sound', 'picture', or both, which every clip must have; clips get only these files.
      kind: 'independent' where a file may have several labels; see label_columns.
    """
    listing = _needed(_listed(place, kind), needs)
    _check_names(listing)
    items, twice = recordings.once(listing.items, listing.root, place)
    note = f'links to and copies of other files are taken once ({len(twice):,}): {some(twice)}'
    return listing._replace(items=items, notes=listing.notes + (note,) * bool(twice))


def held(place: Path, kind: Kind = 'exclusive') -> tuple[str, ...]:
    """Finds what all files of a folder or a table hold: 'sound', 'picture', or both.

    By their endings; films hold sound, or pictures, if one of them has such a track.

    Raises:
      ValueError: some files hold only sound, and others only pictures.
    """
    listing = _listed(place, kind)
    kinds = {kind: [name(item) for item in listing.items] for kind, name in _NAMES.items()}
    shared = [kind for kind, names in kinds.items() if all(names)]
    if not shared:
        quiet, blind = (listing.items[names.index('')].clip_id for names in kinds.values())
        raise ValueError(
            f'{place} holds both sounds, such as {blind}, and pictures, such as {quiet}; a '
            'system takes what all files have: give one kind, or films'
        )
    has_track = {'sound': media.audio_channels, 'picture': media.PictureTrack}

    def is_held(kind: str) -> bool:
        films = [name for name in kinds[kind] if name.lower().endswith(media.VIDEOS)]
        return len(films) < len(kinds[kind]) or any(
            _opens(has_track[kind], listing.root / name) for name in films
        )

    return tuple(kind for kind in shared if is_held(kind)) or tuple(shared)


def _opens(track: Callable, file: Path) -> bool:
    try:
        track(file)
    except (ValueError, OSError):
        return False
    return True


def _listed(place: Path, kind: Kind) -> Listing:
    """Lists the labelled files of a folder or a table, of two classes or more."""
    if place.is_dir() and kind == 'independent':
        raise ValueError(
            f'{place} is a folder, whose files have one class each; several labels a file need a '
            f'table of path and label: name one, or leave out the token {label_kinds.TOKEN}'
        )
    if place.is_dir():
        listing = _of_folder(place)
    elif place.is_file():
        listing = _of_table(place, kind)
    else:
        raise FileNotFoundError(
            f'there is no folder or table {place}{nearest.path(place)}; name a folder that has a '
            'folder of files for each class, or a CSV file with the columns path and label'
        )
    if len(listing.classes) < 2:
        names = ' '.join(map(repr, listing.classes)) or 'none'
        raise ValueError(f'{place} has only the class {names}; a system needs two or more')
    return listing


def _check_names(listing: Listing) -> None:
    """Raises ValueError for names that are not UTF-8, which records cannot hold."""
    odd = [
        item.clip_id
        for item in listing.items
        if re.search('[\ud800-\udfff]', ''.join((item.clip_id, *item.labels)))
    ]
    if odd:
        raise ValueError(
            f'names in {listing.place} are not UTF-8 ({len(odd):,}): {printable(some(odd))}; '
            'rename the files'
        )


def _needed(listing: Listing, needs: Sequence[str]) -> Listing:
    """Keeps of each clip the files that are needed, and of a folder the clips that have them.

    A clip of a table, or a whole class of a folder, without such files is a ValueError.
    """

    def has_all(item: Clip) -> bool:
        return all(_NAMES[need](item) for need in needs)

    whole = [item for item in listing.items if has_all(item)]
    scenes, lacking = {item.scene for item in whole}, []
    for item in listing.items:
        if has_all(item):
            continue
        lacking.append(item.clip_id)
        if not listing.place.is_dir() or item.scene not in scenes:
            missing = next(need for need in needs if not _NAMES[need](item))
            raise ValueError(
                f'the system takes {" and ".join(needs)}, and {item.clip_id} of {listing.place} '
                f'has no {missing}; choose a system for what the files hold, or give other files'
            )
    kept = []
    for item in whole:
        kinds = {kind: name(item) if kind in needs else '' for kind, name in _NAMES.items()}
        kept.append(item._replace(audio=kinds['sound'], video=kinds['picture']))
    note = f'files without {" and ".join(needs)} are left out ({len(lacking):,}): {some(lacking)}'
    return listing._replace(items=kept, notes=listing.notes + (note,) * bool(lacking))


def _of_folder(folder: Path) -> Listing:
    files, folders, notes = folder_walk.walk(folder)
    parts, of_class = _classes(folder, folders)
    items, left_out = [], []
    for file in files:
        scene = folder.joinpath(*file.relative_to(folder).parts[: 1 if folder in parts else 2])
        of_class.get(scene, left_out).append(file)
    for scene, inside in of_class.items():
        media_files = [file for file in inside if _kinds(file.name)]
        if not media_files:
            raise ValueError(
                f'{scene} holds no videos, sounds or pictures; put those of the class '
                f'{scene.name!r} there, or remove it'
            )
        left_out += [file for file in inside if not _kinds(file.name)]
        for file in media_files:
            name = file.relative_to(folder).as_posix()
            within = file.relative_to(scene).parent.as_posix()
            group = name if within == '.' else within
            items.append(_item(name, scene.name, group, parts[scene.parent]))
    return Listing(folder, folder, items, left_out, tuple(notes))


def _classes(
    folder: Path, folders: Sequence[Path]
) -> tuple[dict[Path, str], dict[Path, list[Path]]]:
    """Finds the folders of classes among all folders.

    Returns:
      Folder that holds folders of classes -> its split ('' for none), and folder of a class -> an
      empty list for its files.
    """
    tops = [top for top in folders if top.parent == folder]
    if not tops:
        raise ValueError(
            f'{folder} holds no folders; put the files of each class into one, {folder}/CLASS/...'
        )
    parts = {top: SPLITS.get(top.name.lower(), '') for top in tops}
    if '' in parts.values() or 'train' not in parts.values():  # a class may be called train
        parts = {folder: ''}
    of_class: dict[Path, list[Path]] = {
        each: [] for each in folders if each.parent in parts and each not in parts
    }
    if not of_class:
        raise ValueError(
            f'{" and ".join(sorted(top.name for top in parts))} of {folder} hold no folders; put '
            f'the files of each class into one, {folder}/train/CLASS/...'
        )
    return parts, of_class


def _item(name: str, label: str | tuple[str, ...], group: str, split: str) -> Clip:
    """Makes the clip of a single file."""
    audio, video = (name if kind in _kinds(name) else '' for kind in ENDINGS)
    return Clip(name, audio, video, label, group, split)


def _kinds(name: str) -> list[str]:
    """Returns which of 'sound' and 'picture' a file holds, by its ending."""
    return [kind for kind, endings in ENDINGS.items() if name.lower().endswith(endings)]


def _of_table(table: Path, kind: Kind) -> Listing:
    items, errors, rows = [], [], [*_rows(table, kind)]
    for row, labels in zip(rows, label_columns.read(table, rows, kind), strict=True):
        try:
            items.append(_of_row(row.cells, labels))
        except ValueError as error:
            errors.append(f'line {row.line}: {error}')
    counts = collections.Counter(item.clip_id for item in items if kind == 'exclusive')
    errors += [f'{clip_id} is named {n} times' for clip_id, n in counts.items() if n > 1]
    if errors:
        raise ValueError(
            f'{table} has {len(errors)} lines that cannot be used ({some(errors)}); each must have '
            'a file of its own and its label'
        )
    if not items:
        raise ValueError(f'{table} has no lines below its header; give one for each clip')
    files = [table.parent / (item.audio or item.video) for item in items]
    if not any(file.is_file() for file in files):
        raise FileNotFoundError(
            f'none of the {len(files):,} files of {table} exists, such as {files[0]}; paths begin '
            'at the folder of the table'
        )
    if kind == 'exclusive':
        return Listing(table, table.parent, items, [])
    items, notes = label_columns.joined(table, items)
    if 'label' in rows[0].cells:
        label_columns.check_several(table, items)
    return Listing(table, table.parent, items, [], tuple(notes), kind)


def _rows(table: Path, kind: Kind) -> Iterator[label_columns.Row]:
    """Yields each line below the header; keys of COLUMNS name the cells that have a meaning."""
    try:
        lines = table.read_text('utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{table} is not UTF-8 text ({error}); save it as such') from error
    separator = next((s for s in '\t;' if lines and s in lines[0]), ',')
    rows = csv.DictReader(lines, delimiter=separator)
    try:
        names = [name.strip() for name in rows.fieldnames or ()]
        header = [name.lower() for name in names]
        columns = _columns(table, header, kind)
        twice = sorted({name for name in header if name and header.count(name) > 1})
        if twice and kind == 'independent':  # each may be a label
            raise ValueError(f'{table} has several columns {twice[0]!r}; keep one')
        rows.fieldnames = header
        others = [name for name in names if name and name.lower() not in columns.values()]
        for row in rows:
            _check_width(table, rows.line_num, row)
            cells = {key: (row.get(name) or '').strip() for key, name in columns.items()}
            more = {name: (row.get(name.lower()) or '').strip() for name in others}
            yield label_columns.Row(rows.line_num, cells, more)
    except csv.Error as error:
        raise ValueError(f'{table}, line {rows.line_num}: {error}') from error


def _check_width(table: Path, line: int, row: Mapping) -> None:
    """Raises ValueError for a line with more cells than the header, as of a comma in a name."""
    if more := [cell for cell in row.get(None) or () if cell.strip()]:
        raise ValueError(
            f'{table}, line {line}: {more[0]!r} has no column in the header; put a cell that holds '
            'the separator of columns in quotes, such as "night,crowd"'
        )


def _columns(table: Path, header: Sequence[str], kind: Kind) -> dict[str, str]:
    """Returns the meanings of columns, keys of COLUMNS, and their names in the header."""
    columns = {
        meaning: next((name for name in names if name in header), '')
        for meaning, names in COLUMNS.items()
    }
    columns = {meaning: name for meaning, name in columns.items() if name}
    needs_label = kind == 'exclusive'  # else each label may have a column
    if (needs_label and 'label' not in columns) or not {'path', 'audio', 'video'} & {*columns}:
        hint = '; with the token multi_label each other column may be a label of 0 and 1'
        raise ValueError(
            f'{table} has the columns {", ".join(header) or "none"}; it must have path (or audio '
            'and video) and label, and may have group and split'
            + hint
            * (len(header) - len(columns) > 1)
        )
    return columns


def _of_row(cells: dict[str, str], labels: str | tuple[str, ...]) -> Clip:
    name = cells.get('path') or cells.get('video') or cells.get('audio')
    if not name:
        raise ValueError('it names no file')
    if labels == '':
        raise ValueError(f'{name} has no label')
    split = SPLITS.get(cells.get('split', '').lower(), '')
    if cells.get('split') and not split:
        raise ValueError(f'split {cells["split"]!r} is none of {", ".join(SPLITS)}')
    item = _item(name, labels, cells.get('group') or name, split)
    item = item._replace(**{k: cells[k] for k in ('audio', 'video') if cells.get(k)})
    if not (item.audio or item.video):
        raise ValueError(f'the ending of {name} is of no known video, sound or picture')
    return item


def split(listing: Listing, shares: Mapping[str, float] = SHARES) -> dict[str, list[Clip]]:
    """Returns the clips of train_inner, validation and test, as the list says or by shares.

    Validation is cut from the training clips where the list names train and test alone.

    Args:
      shares: of these splits; one that is not there gets clips only where the list says so.
    """
    named, items = {item.split for item in listing.items}, listing.items
    cut = _cut if listing.kind == 'exclusive' else _stratified
    if named == {''}:
        parts = cut(items, shares)
    else:
        _check_named(listing, named)
        of = {name: [item for item in items if item.split == name] for name in named}
        inner = {name: share for name, share in shares.items() if name != 'test'}
        parts = cut(of['train'], inner) if len(of) == 2 else {'train_inner': of['train']}
        parts |= of
    for name in shares if named == {''} else ('train_inner',):
        missing = {*listing.classes} - {label for item in parts[name] for label in item.labels}
        if not parts[name] or (missing and listing.kind == 'exclusive'):
            scene = min(missing)
            groups = {item.group for item in items if scene in item.labels}
            raise ValueError(
                f'the class {scene!r} of {listing.place} has no clip in '
                f'{split_words.title(name)}: its {len(groups)} '
                f'{"groups" if listing.has_groups else "files"} are too few, or in groups with too '
                'many others; give it three or more, or name the splits yourself'
            )
    return {name: parts.get(name, []) for name in SHARES}


def _check_named(listing: Listing, named: set[str]) -> None:
    """Raises ValueError unless every clip has a split and every group is in only one."""
    if '' in named or not {'train', 'test'} <= named:
        names = ', '.join(sorted(name or 'nothing' for name in named))
        raise ValueError(
            f'{listing.place} names as splits {names}; give every clip train, test or validation '
            '(which may be missing), or give none a split'
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


def sparse(listing: Listing, lists: Mapping[str, Sequence[Clip]]) -> list[str]:
    """Returns a note on the labels that some splits lack, for they are in too few groups."""
    if listing.kind == 'exclusive':
        return []
    lacking = []
    for label in listing.classes:
        names = [n for n, of in lists.items() if of and not any(label in i.labels for i in of)]
        lacking += [f'{label} (not in {", ".join(names)})'] * bool(names)
    note = f'{len(lacking)} labels are in too few groups for every split: {some(lacking, 5)}'
    return [note] * bool(lacking)


def _stratified(items: Sequence[Clip], shares: Mapping[str, float]) -> dict[str, list[Clip]]:
    """Cuts clips of several labels into parts that share no group; see `stratify.cut`."""
    of = stratify.cut([i.group for i in items], [i.labels for i in items], shares)
    return {
        part: [item for item, own in zip(items, of, strict=True) if own == part] for part in shares
    }


def _cut(items: Sequence[Clip], shares: Mapping[str, float]) -> dict[str, list[Clip]]:
    """Cuts clips into parts that share no group, each with about its share of every class.

    Groups are assigned one by one, the largest first, and equals by a digest of their names, for
    the order of numbered files often means something. Each goes to the part that has the least of
    its classes, relative to the part's share.
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
        scenes = collections.Counter(item.scene for item in of_group[group])

        def filled(part: str, scenes: Mapping[str, int] = scenes) -> tuple[float, float]:
            count, share = counts[part], shares[part]
            of_class = sum(n * count[scene] / total[scene] for scene, n in scenes.items())
            return of_class / share, count.total() / share

        part_of[group] = min(shares, key=filled)
        counts[part_of[group]].update(scenes)
    return {part: [item for item in items if part_of[item.group] == part] for part in shares}
