"""Five folds of the development set that share no location, and a dataset whose splits are folds.

Nothing is drawn: the same clips give the same folds everywhere. `fold` is the one that is reported
on, the next one is that of `strict` selection, and a system is trained on the others.
"""

import collections
import csv
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from avsc_jax.data.records import Dataset, Records
from avsc_jax.runtime.files import some, write_text
from avsc_jax.scenes import ClipName, parse_clip_id

NUM_FOLDS = 5
STORED = ('train', 'test')  # the splits that the folds are made of


def named(clip_id: str) -> ClipName:
    """What a clip's name says of it."""
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
    """The fold of each clip `[N]`, balanced by class and by clip count.

    The largest location goes first. Each goes where the share of its scene's clips and the share
    of all clips add up to least; of equals, to the lowest fold. Neither the order of `clip_ids`
    matters, nor whether a clip is named once for each of its seconds.
    """
    clips = collections.defaultdict(collections.Counter)
    for clip_id in sorted(set(clip_ids)):
        clips[_location(name_of(clip_id))].update([name_of(clip_id).scene, 'all'])
    total = sum(clips.values(), collections.Counter())
    folds, fold_of = [collections.Counter() for _ in range(num_folds)], {}
    for location in sorted(clips, key=lambda name: (-clips[name]['all'], name)):
        here = clips[location]
        shares = [sum(here[key] * fold[key] / total[key] for key in here) for fold in folds]
        fold_of[location] = shares.index(min(shares))
        folds[fold_of[location]].update(here)
    return np.array([fold_of[_location(name_of(clip_id))] for clip_id in clip_ids], int)


def check(
    clip_ids: Sequence[str],
    folds: Sequence[int],
    num_folds: int = NUM_FOLDS,
    name_of: Naming = named,
) -> None:
    """An error unless the folds are 0 ... num_folds - 1, none empty, and share no location."""
    if unlike := sorted({*range(num_folds)} ^ set(map(int, folds))):
        raise ValueError(
            f'fold {unlike[0]} is empty or unknown; each of 0 ... {num_folds - 1} must have clips '
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
    """Clip -> fold, from a tab-separated file with the columns clip_id and fold."""
    try:
        text = Path(path).read_text('utf-8-sig')
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'there is no fold file {path}; without --fold_file the folds are computed'
        ) from error
    rows = csv.DictReader(text.splitlines(), delimiter='\t')
    found, twice = {}, []
    for row in rows:
        clip_id, fold = row.get('clip_id'), row.get('fold') or ''
        if not clip_id or not fold.isdecimal():
            raise ValueError(
                f'{path}, line {rows.line_num}: needs the tab-separated columns clip_id and fold, '
                f'a number; it has {some([f"{k}={v!r}" for k, v in row.items()])}'
            )
        twice += [clip_id] if clip_id in found else []
        found[clip_id] = int(fold)
    if twice:
        raise ValueError(
            f'{path} names {len(twice)} clips twice: {some(twice)}; each must be there once'
        )
    return found


def write(path: Path, clip_ids: Sequence[str], folds: Sequence[int]) -> None:
    """Writes the file that `read` reads."""
    fold_of = dict(zip(clip_ids, map(int, folds), strict=True))
    lines = ['clip_id\tfold', *(f'{clip_id}\t{fold}' for clip_id, fold in fold_of.items())]
    write_text(path, '\n'.join(lines) + '\n')


@dataclasses.dataclass(frozen=True, eq=False)
class FoldedDataset(Dataset):
    """`train` and `test` of a dataset cut anew: its splits are folds.

    Args:
      fold: is `test`; the next one is `validation`, the others are `train_inner`, and `train` is
        all but `fold`.
      found: the outline of each record of train+test.
      folds: the fold of each.
    """

    fold: int
    found: list[dict]
    folds: np.ndarray

    @property
    def whole(self) -> Dataset:
        """The dataset as it is stored, with its own splits."""
        return Dataset(self.builder, self.command)

    @property
    def clip_ids(self) -> list[str]:
        """Of each record of train+test."""
        return [outline['clip_id'] for outline in self.found]

    @property
    def fingerprint(self) -> str:
        facts = (super().fingerprint, self.folds.tolist())  # those of five refits are alike
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def num_records(self, split: str) -> int:
        return len(self._indices(split))

    def records(self, split: str, *, fields: tuple[str, ...] = ('audio', 'frames')) -> Records:
        """Those of a split's folds, in the order in which they are stored."""
        source = self.builder.as_data_source('+'.join(STORED))
        where = f'{self.title(split)} in {self.builder.data_dir}'
        return Records(source, where, self.command, fields, self._indices(split))

    def outlines(self, split: str) -> list[dict]:
        return [self.found[index] for index in self._indices(split)]

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
    """The dataset, cut into folds where a config's `data` section names a `fold`.

    `fold_file`, where it names one, takes the place of the computed folds.
    """
    if 'fold' not in data:
        return dataset
    if data['fold'] not in range(NUM_FOLDS):
        raise ValueError(f'there is no fold {data["fold"]}; there are 0 ... {NUM_FOLDS - 1}')
    if lacking := [split for split in STORED if split not in dataset.builder.info.splits]:
        raise ValueError(
            f'{dataset.name} has no split {lacking[0]!r}; folds are made of the development set, '
            f'which is {" and ".join(STORED)}: leave --fold out'
        )
    found = dataset.outlines('+'.join(STORED))
    clip_ids = [outline['clip_id'] for outline in found]
    name_of = {outline['clip_id']: _of_record(outline) for outline in found}.__getitem__
    if 'fold_file' in data:
        folds = _of_file(data['fold_file'], clip_ids, dataset.name)
    else:
        folds = assign(clip_ids, name_of=name_of)
    check(clip_ids, folds, name_of=name_of)
    return FoldedDataset(dataset.builder, dataset.command, data['fold'], found, folds)


def _of_file(path: Path, clip_ids: Sequence[str], name: str) -> np.ndarray:
    """The fold of each clip `[N]` by a file, which must have all of them and no others."""
    found, wanted = read(path), set(clip_ids)
    for verb, these in (('lacks', wanted - found.keys()), ('names', found.keys() - wanted)):
        if these:
            which = 'of' if verb == 'lacks' else 'that are not in'
            raise ValueError(
                f'{path} {verb} {len(these)} clips {which} {name}: {some(sorted(these))}; it must '
                f'have each of its {len(wanted)} clips once'
            )
    return np.array([found[clip_id] for clip_id in clip_ids], int)


def _of_record(outline: Mapping) -> ClipName:
    """What a record says of its clip, whose id need not say it."""
    if not outline['location']:
        raise ValueError(
            f'the record of {outline["clip_id"]!r} names no location; clips cannot be cut into '
            'folds without it: leave --fold out'
        )
    return ClipName(str(outline['label']), outline['city'], outline['location'], '')


def _location(name: ClipName) -> str:
    """Of airport-lisbon-1175-44106 'lisbon-1175'."""
    return f'{name.city}-{name.location}' if name.city else name.location


def _listed(folds: Sequence[int]) -> str:
    """[2] -> 'fold 2', {0, 1} -> 'folds 0, 1'."""
    return f'fold{"s" * (len(folds) > 1)} {", ".join(map(str, sorted(folds)))}'
