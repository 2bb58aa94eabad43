"""Cached features as they are read: blocks of clips become one array a part of the data set."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from avsc_jax.data import label_kinds
from avsc_jax.data.records import Dataset
from avsc_jax.runtime import json_files
from avsc_jax.runtime.files import read_arrays

COLUMNS = ('clip_id', 'segment', 'features', 'made_with', 'stamps')
KINDS = {  # letter of a column's type, its least and most dimensions
    'clip_id': ('U', 1, 1), 'segment': ('i', 1, 1), 'features': ('f', 3, 9),
    'made_with': ('U', 0, 0), 'stamps': ('i', 2, 2), 'counts': ('i', 1, 1),
}  # fmt: skip
ALIGNMENT = 64  # bytes

# The stored splits that a part of a data set is made of, in its order, and for each the records
# `[N]` that it takes; None takes all.
Wanted = Mapping[str, np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Features:
    """One split's features: `arrays[encoder]` is float32 `[records, T, D]`.

    `segment` is the second of the clip that a record holds, or -1 for the whole clip. Where records
    have unlike numbers of rows, as clips of unlike length do, `counts[encoder]` is each record's
    own `[records]`, and zeros fill it up; an encoder that has none gives all records T.
    """

    clip_id: list[str]
    segment: np.ndarray
    label: np.ndarray
    arrays: dict[str, np.ndarray]
    counts: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def num_rows(self, name: str) -> np.ndarray:
        """Returns each record's number of rows `[records]` of an encoder."""
        return self.counts.get(name, np.full(len(self.clip_id), self.arrays[name].shape[1]))

    @property
    def all_counts(self) -> dict[str, np.ndarray]:
        """Each encoder's `num_rows`."""
        return {name: self.num_rows(name) for name in self.arrays}

    def kept(self, keep: np.ndarray) -> 'Features':
        """Returns the features of the records where `keep` is true."""
        return Features(
            clip_id=np.array(self.clip_id)[keep].tolist(),
            segment=self.segment[keep],
            label=self.label[keep],
            arrays={name: array[keep] for name, array in self.arrays.items()},
            counts={name: count[keep] for name, count in self.counts.items()},
        )


def read(
    dataset: Dataset,
    files: Mapping[str, Mapping[str, Sequence[Path]]],
    parts: Mapping[str, Wanted],
    made: set[str],
) -> dict[str, Features]:
    """Reads the features of each part of a data set into arrays of its own, block after block.

    Together they are gigabytes: a block is read once for all parts, its rows go to their place in
    each part's array, and no other copy is made.

    Args:
      files: split -> encoder -> the file of each block.
      parts: name -> the records that it takes.
      made: gets the libraries that made the features.

    Raises:
      ValueError: a file is damaged, or is not of the clips of the data set.
    """
    outlines = {split: dataset.outlines(split) for split in files}
    keep = {
        name: {
            split: np.ones(len(outlines[split]), bool) if chosen is None else chosen
            for split, chosen in of.items()
        }
        for name, of in parts.items()
    }
    features = {}
    for name, of in keep.items():
        wanted = [outlines[split][index] for split in of for index in np.flatnonzero(of[split])]
        labels = [outline['label'] for outline in wanted]
        features[name] = Features(
            clip_id=[outline['clip_id'] for outline in wanted],
            segment=np.array([outline['segment'] for outline in wanted], np.int32),
            label=label_kinds.stacked(labels, len(dataset.classes), dataset.kind),
            arrays={},
        )
    for encoder in next(iter(files.values()), {}):
        arrays = {name: _Array(encoder, of) for name, of in keep.items()}
        for split, of_split in files.items():
            for block in _blocks(encoder, of_split[encoder], outlines[split]):
                made.add(block['made_with'].item())
                for array in arrays.values():
                    array.add(split, block)
        for name, array in arrays.items():
            rows, counts = array.whole()
            features[name].arrays[encoder] = rows
            if counts is not None:
                features[name].counts[encoder] = counts
    return features


def _blocks(
    encoder: str, paths: Sequence[Path], outlines: Sequence[Mapping]
) -> Iterator[dict[str, np.ndarray]]:
    """Reads a split's blocks one by one, which must hold the clips of its outlines."""
    clips = [(outline['clip_id'], outline['segment']) for outline in outlines]
    end = 0
    for path in paths:
        block = read_block(path)
        first, end = end, end + len(block['clip_id'])
        found = [*zip(block['clip_id'].tolist(), block['segment'].tolist(), strict=True)]
        if found != clips[first:end] or (path is paths[-1] and end < len(clips)):
            raise ValueError(
                f'the cached features of {encoder} are not of the clips of the data set; give '
                '--fresh to compute them anew'
            )
        yield block


class _Array:
    """The rows of one encoder in a part, each at its place from the start.

    Args:
      keep: split -> which of its records `[N]` it takes.
    """

    def __init__(self, encoder: str, keep: Mapping[str, np.ndarray]):
        self._encoder, self._keep = encoder, keep
        self._seen = dict.fromkeys(keep, 0)  # of the split's records
        sizes = [int(chosen.sum()) for chosen in keep.values()]
        self._total = sum(sizes)
        self._next = dict(zip(keep, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        self._rows = np.empty((0, 0), np.float32)
        self._pieces: list[tuple[int, np.ndarray, np.ndarray | None]] = []
        self._in_place = 0

    def add(self, split: str, block: Mapping[str, np.ndarray]) -> None:
        """Adds the records that it takes of a split's next block."""
        if split not in self._keep:
            return
        first = self._seen[split]
        self._seen[split] += len(block['features'])
        keep = self._keep[split][first : self._seen[split]]
        if keep.any() or not self._total:
            self._add(self._next[split], block, keep)
            self._next[split] += int(keep.sum())

    def _add(self, first: int, block: Mapping[str, np.ndarray], keep: np.ndarray) -> None:
        rows, counts = block['features'], block.get('counts')
        if not self._pieces:
            self._rows = _aligned((self._total, *rows.shape[1:]), rows.dtype)
        elif rows.shape[2:] != self._rows.shape[2:]:
            raise ValueError(
                f'the cached features of {self._encoder} are of unlike sizes; give --fresh to '
                'compute them anew'
            )
        number = int(keep.sum())
        place = self._rows[first : first + number]
        if (rows.shape[1:], rows.dtype) == (self._rows.shape[1:], self._rows.dtype):
            place[:] = rows if number == len(rows) else rows[keep]
            self._in_place += number if counts is None else 0
        else:  # of other lengths
            place = rows[keep]
        self._pieces.append((first, place, None if counts is None else counts[keep]))

    def whole(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the rows `[N, T, ...]`, and each record's own number of them if they differ."""
        if self._in_place == self._total:
            return self._rows, None
        pieces = [(rows, counts) for _, rows, counts in sorted(self._pieces, key=lambda p: p[0])]
        counts = [
            np.full(len(rows), rows.shape[1]) if counts is None else counts
            for rows, counts in pieces
        ]
        return stacked([rows for rows, _ in pieces]), np.concatenate(counts)


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates arrays `[N, T, ...]`, after zeros have made them equally long."""
    most = max(array.shape[1] for array in arrays)
    if all(array.shape[1] == most for array in arrays):
        return np.concatenate(arrays)
    rest = [[(0, 0)] * (array.ndim - 2) for array in arrays]
    wide = [(0, 0), (0, most)]
    return np.concatenate(
        [np.pad(a, [*wide, *r])[:, :most] for a, r in zip(arrays, rest, strict=True)]
    )


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an empty array at an address that XLA's CPU client takes without a copy."""
    num_bytes = math.prod(shape) * dtype.itemsize
    room = np.empty(num_bytes + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + num_bytes].view(dtype).reshape(shape)


def read_block(file: Path, *only: str) -> dict[str, np.ndarray]:
    """Reads a block's columns; `only` some of them, as the features are large."""
    try:
        arrays = read_arrays(file, only)
        if missing := {*(only or COLUMNS)} - {*arrays}:
            raise ValueError(f'it has no {min(missing)}')
        _check_block(arrays)
        return arrays
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'cache file {file} is missing, though every process has written its share; give a '
            '--data_dir that all processes share'
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f'cache file {file} is corrupt ({error}); delete it and run the command again, or give '
            '--fresh'
        ) from error


def _check_block(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless a block's columns are those of one number of clips."""
    known = {name: array for name, array in arrays.items() if name in KINDS}
    for name, array in known.items():
        kind, least, most = KINDS[name]
        if array.dtype.kind != kind or not least <= array.ndim <= most:
            raise ValueError(f'its {name} is {array.dtype} of shape {array.shape}')
    lengths = {name: len(array) for name, array in known.items() if array.ndim}
    if len({*lengths.values()}) > 1:
        raise ValueError(f'its columns differ in length: {lengths}')
    if 'made_with' in arrays:
        json_files.checked(arrays['made_with'].item(), {str: str})
    if 'counts' in arrays and 'features' in arrays:
        counts, most = arrays['counts'], arrays['features'].shape[1]
        if counts.size and not 0 <= counts.min() <= counts.max() <= most:
            raise ValueError(f'its counts are not all from 0 to {most}')
