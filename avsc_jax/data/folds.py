"""Cuts the development set into five folds that share no location.

Nothing is random: the same clips give the same folds everywhere. A run reports on its `fold`, the
`strict` protocol selects on the next one, and the others are for training.
"""

import collections
import csv
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from avsc_jax.data.records import Dataset, Records, opened
from avsc_jax.runtime.files import some, write_text
from avsc_jax.scenes import ClipName, parse_clip_id

NUM_FOLDS = 5
STORED = ('train', 'test')  # the splits that the folds are made of


def named(clip_id: str) -> ClipName:
    """Returns scene, city and location from a clip's name."""
    name = parse_clip_id(clip_id)
    if name is None:
        raise ValueError(
            f'{clip_id!r} names no location, as <scene>-<city>-<location>-<segment> does; such '
            'clips cannot be cut into folds'
        )
    return name


Naming = Callable[[str], ClipName]


def assign(
    clip_ids: Sequence[str], num_folds: int = NUM_FOLDS, name_of: Naming = named
) -> np.ndarray:
    """Returns the fold of each clip `[N]`, balanced by class and by clip count.

    Locations are assigned one by one, the largest first. Each goes to the fold where the share of
    its scene's clips plus the share of all clips is smallest; of equals, to the lowest. The order
    of `clip_ids` does not matter, nor whether a clip is named once for each of its seconds.
    """
    clips = collections.defaultdict(collections.Counter)
    for clip_id in sorted(set(clip_ids)):
        clips[_location(name_of(clip_id))].update([name_of(clip_id).scene, 'all'])
    total = sum(clips.values(), collections.Counter())
    folds, fold_of = [collections.Counter() for _ in range(num_folds)], {}
    for location in sorted(clips, key=lambda name: (-clips[name]['all'], name)):
        counts = clips[location]
        shares = [sum(counts[key] * fold[key] / total[key] for key in counts) for fold in folds]
        fold_of[location] = shares.index(min(shares))
        folds[fold_of[location]].update(counts)
    return np.array([fold_of[_location(name_of(clip_id))] for clip_id in clip_ids], int)


def check(
    clip_ids: Sequence[str],
    folds: Sequence[int],
    num_folds: int = NUM_FOLDS,
    name_of: Naming = named,
) -> None:
    """Raises ValueError unless folds 0 ... num_folds - 1 all have clips and share no location."""
    if wrong := sorted({*range(num_folds)} ^ set(map(int, folds))):
        raise ValueError(
            f'fold {wrong[0]} is empty or unknown; each of 0 ... {num_folds - 1} must have clips '
            'of one location or more'
        )
    places = collections.defaultdict(set)
    for clip_id, fold in zip(clip_ids, folds, strict=True):
        places[_location(name_of(clip_id))].add(int(fold))
    shared = [f'{name} ({_listed(of)})' for name, of in sorted(places.items()) if len(of) > 1]
    if shared:
        raise ValueError(
            f'{len(shared)} of {len(places)} locations are in more than one fold: {some(shared)}; '
            'all clips of a location must be in the same'
        )


def read(path: Path) -> dict[str, int]:
    """Reads the fold of each clip from a tab-separated file with the columns clip_id and fold."""
    try:
        text = Path(path).read_text('utf-8-sig')
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'there is no fold file {path}; without --fold_file the folds are computed'
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no UTF-8 text ({error}); save it as such') from error
    rows = csv.DictReader(text.splitlines(), delimiter='\t')
    fold_of, repeated = {}, []
    for row in _readable(rows, path):
        clip_id, fold = row.get('clip_id'), row.get('fold') or ''
        if not clip_id or not fold.isdecimal() or len(fold) > 9:
            raise ValueError(
                f'{path}, line {rows.line_num}: needs the tab-separated columns clip_id and fold, '
                f'a number; it has {some([f"{k}={v!r:.60}" for k, v in row.items()])}'
            )
        repeated += [clip_id] if clip_id in fold_of else []
        fold_of[clip_id] = int(fold)
    if not fold_of:
        raise ValueError(f'{path} names no clip; it needs the columns clip_id and fold, and rows')
    if repeated:
        raise ValueError(
            f'{path} names {len(repeated)} clips twice: {some(repeated)}; each must be named once'
        )
    return fold_of


def _readable(rows: csv.DictReader, path: Path) -> Iterator[dict]:
    """Yields the rows of a file; an error of its quotes becomes one that names the file."""
    try:
        yield from rows
    except csv.Error as error:
        raise ValueError(f'{path}, line {rows.line_num}: {error}') from error


def write(path: Path, clip_ids: Sequence[str], folds: Sequence[int]) -> None:
    """Writes the file that `read` reads."""
    fold_of = dict(zip(clip_ids, map(int, folds), strict=True))
    lines = ['clip_id\tfold', *(f'{clip_id}\t{fold}' for clip_id, fold in fold_of.items())]
    write_text(path, '\n'.join(lines) + '\n')


@dataclasses.dataclass(frozen=True, eq=False)
class FoldedDataset(Dataset):
    """A dataset whose `train` and `test` are cut into folds, which are its splits.

    Args:
      fold: the fold that is `test`; the next one is `validation`, the others are `train_inner`, and
        `train` is all but `fold`.
      stored: the outline of each record of train+test.
      folds: the fold of each of these records.
    """

    fold: int
    stored: list[dict]
    folds: np.ndarray

    @property
    def whole(self) -> Dataset:
        """The dataset as it is stored, with its own splits."""
        return Dataset(self.builder, self.command)

    @property
    def clip_ids(self) -> list[str]:
        """The clip of each record of train+test."""
        return [outline['clip_id'] for outline in self.stored]

    @property
    def fingerprint(self) -> str:
        return f'content:{self._with_folds(super().fingerprint)}'

    @property
    def fingerprint_by_size(self) -> str:
        return self._with_folds(super().fingerprint_by_size)

    def _with_folds(self, fingerprint: str) -> str:
        facts = (fingerprint, self.folds.tolist())  # otherwise five refits would be alike
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def num_records(self, split: str) -> int:
        return len(self._indices(split))

    def records(self, split: str, *, fields: tuple[str, ...] = ('audio', 'frames')) -> Records:
        """Opens the records of a split's folds, in the order in which they are stored."""
        stored, chosen = '+'.join(STORED), self._indices(split)
        return opened(self, stored, self.title(split), fields, chosen)

    def stored_records(self, split: str) -> dict[str, np.ndarray]:
        """Returns which records `[N]` of each stored split are of a split's folds, bool."""
        chosen = np.isin(self.folds, self._parts(split))
        first = self.whole.num_records(STORED[0])
        return dict(zip(STORED, np.split(chosen, [first]), strict=True))

    def outlines(self, split: str) -> list[dict]:
        return [self.stored[index] for index in self._indices(split)]

    def title(self, split: str) -> str:
        return _listed(self._parts(split))

    def _indices(self, split: str) -> list[int]:
        return np.flatnonzero(np.isin(self.folds, self._parts(split))).tolist()

    def _parts(self, split: str) -> list[int]:
        others = [fold for fold in range(NUM_FOLDS) if fold != self.fold]
        following = (self.fold + 1) % NUM_FOLDS
        parts = {
            'train': others,
            'train_inner': [fold for fold in others if fold != following],
            'validation': [following],
            'test': [self.fold],
        }
        if split not in parts:
            raise ValueError(
                f'{self.name} cut into folds has no split {split!r}; it has {", ".join(parts)}'
            )
        return parts[split]


def cut(dataset: Dataset, data: Mapping) -> Dataset:
    """Cuts a dataset into folds if a config's `data` section names a `fold`.

    The folds are computed, or read from its `fold_file` if it names one.
    """
    if 'fold' not in data:
        return dataset
    if data['fold'] not in range(NUM_FOLDS):
        raise ValueError(f'fold {data["fold"]} does not exist; name one of 0 ... {NUM_FOLDS - 1}')
    if missing := [split for split in STORED if split not in dataset.builder.info.splits]:
        raise ValueError(
            f'{dataset.name} has no split {missing[0]!r}; folds are made of the development set, '
            f'which is {" and ".join(STORED)}: leave --fold out'
        )
    stored = dataset.outlines('+'.join(STORED))
    clip_ids = [outline['clip_id'] for outline in stored]
    name_of = {outline['clip_id']: _recorded_name(outline) for outline in stored}.__getitem__
    if 'fold_file' in data:
        folds = _folds_of_file(data['fold_file'], clip_ids, dataset.name)
    else:
        folds = assign(clip_ids, name_of=name_of)
    check(clip_ids, folds, name_of=name_of)
    return FoldedDataset(dataset.builder, dataset.command, data['fold'], stored, folds)


def _folds_of_file(path: Path, clip_ids: Sequence[str], name: str) -> np.ndarray:
    """Reads the fold of each clip `[N]` from a file, which must name exactly these clips."""
    fold_of, wanted = read(path), set(clip_ids)
    for verb, these in (('lacks', wanted - fold_of.keys()), ('names', fold_of.keys() - wanted)):
        if these:
            which = 'of' if verb == 'lacks' else 'that are not in'
            raise ValueError(
                f'{path} {verb} {len(these)} clips {which} {name}: {some(sorted(these))}; it must '
                f'have each of its {len(wanted)} clips once'
            )
    return np.array([fold_of[clip_id] for clip_id in clip_ids], int)


def location(record: Mapping) -> str:
    """Returns a record's location, such as 'lisbon-1175', or its group; '' if it names none."""
    return _location(_recorded_name(record)) if record['location'] else ''


def locations(dataset: Dataset, split: str, clip_ids: Sequence[str]) -> np.ndarray:
    """Returns the location of each clip of a split `[N]`, '' where none is known.

    Names of TAU's clips hold it; for others, all bytes of the split are read.
    """
    names = [] if isinstance(dataset, FoldedDataset) else [*map(parse_clip_id, clip_ids)]
    known = [_location(name) for name in names if name]
    if len(known) != len(clip_ids):
        place = {outline['clip_id']: location(outline) for outline in dataset.outlines(split)}
        known = [place[clip_id] for clip_id in clip_ids]
    return np.array(known, str)


def _recorded_name(outline: Mapping) -> ClipName:
    """Returns scene, city and location from a record's fields; its clip id need not name them."""
    if not outline['location']:
        raise ValueError(
            f'the record of {outline["clip_id"]!r} names no location; clips cannot be cut into '
            'folds without it: leave --fold out'
        )
    return ClipName(str(outline['label']), outline['city'], outline['location'], '')


def _location(name: ClipName) -> str:
    """Returns 'lisbon-1175' for airport-lisbon-1175-44106."""
    return f'{name.city}-{name.location}' if name.city else name.location


def _listed(folds: Sequence[int]) -> str:
    """Returns 'fold 2' for [2], 'folds 0, 1' for [1, 0]."""
    return f'fold{"s" * (len(folds) > 1)} {", ".join(map(str, sorted(folds)))}'
