"""What frozen encoders gave of a data set's clips, kept in a cache, as inputs of a network.

A cache folder belongs to one encoder with its weights and preprocessing over one build of one
dataset: its name holds a hash of them. Each block of clips is a file of its own, written beside
and renamed, so that a killed extraction goes on where it stopped. Several processes share the
blocks, and each spreads its own over its devices.
"""

import dataclasses
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from avsc_jax.data import media as media_files
from avsc_jax.data.batches import read_ahead
from avsc_jax.data.records import Dataset
from avsc_jax.input_pipeline.encoders import Encoder, EncoderSpec
from avsc_jax.runtime import multihost

CLIPS_PER_BLOCK = 32
CALLS_TOGETHER = 4  # of an encoder, on what waits in memory
# What an encoder takes -> where a record has it.
FIELDS = {'audio': 'audio', 'frames': 'frames', 'media': 'media_frames'}
MEDIA_THREADS = 8  # each clip of 96 pictures takes 58 MB, and three a thread wait


@dataclasses.dataclass(frozen=True)
class Features:
    """One split's features: `arrays[encoder]` is float32 `[records, T, D]`.

    `segment` is the second of the clip that a record is, or -1: all of it.
    """

    clip_id: list[str]
    segment: np.ndarray
    label: np.ndarray
    arrays: dict[str, np.ndarray]

    def kept(self, keep: np.ndarray) -> 'Features':
        """Of the records where `keep` is true."""
        return Features(
            clip_id=np.array(self.clip_id)[keep].tolist(),
            segment=self.segment[keep],
            label=self.label[keep],
            arrays={name: array[keep] for name, array in self.arrays.items()},
        )


def extract(
    dataset: Dataset,
    splits: Iterable[str],
    specs: list[EncoderSpec],
    *,
    cache_dir: Path,
    weights_dir: Path,
    media: Callable[[str], media_files.Source] | None = None,
) -> dict[str, Features]:
    """Features of every clip of each split by every encoder, from the cache where it has them.

    Each clip is decoded once for all encoders that lack it; an encoder is built only if one does.
    Of several processes each makes its share of the blocks, and all read them all.

    Args:
      media: clip id -> its video file, for encoders that take pictures of it.
    """
    by_name = {spec.name: spec for spec in specs}
    encoder = lru_cache(maxsize=None)(lambda name: by_name[name].make(weights_dir))
    place = cache_dir / dataset.name.replace('/', '-')
    files = {}
    for split in splits:
        num_blocks = -(-dataset.num_records(split) // CLIPS_PER_BLOCK)
        files[split] = {
            name: [
                place / f'{name}-{spec.key(dataset.fingerprint)}' / split / f'block_{k:05d}.npz'
                for k in range(num_blocks)
            ]
            for name, spec in by_name.items()
        }
        mine = range(jax.process_index(), num_blocks, jax.process_count())
        lacking = {
            k: [name for name, those in files[split].items() if not those[k].exists()] for k in mine
        }
        lacking = {k: names for k, names in lacking.items() if names}
        wanted = {name: by_name[name] for names in lacking.values() for name in names}
        clips = _clips(dataset, split, list(lacking), wanted.values(), media)
        for k, names in lacking.items():
            block = _encoded(islice(clips, CLIPS_PER_BLOCK), [encoder(name) for name in names])
            for name, columns in block.items():
                _write_block(files[split][name][k], columns)
    multihost.wait('features')
    return {
        split: _joined({name: [_read_block(file) for file in those] for name, those in of.items()})
        for split, of in files.items()
    }


def _joined(blocks: dict[str, list[dict]]) -> Features:
    """One split from the blocks of every encoder, which must be of the same clips."""
    for name, those in blocks.items():
        counts = {block['features'].shape[1] for block in those}
        if len(counts) > 1:
            odd = next(b for b in those if b['features'].shape[1] != len(those[0]['features'][0]))
            raise ValueError(_uneven(odd['clip_id'][0], name, counts))
    columns = {
        name: {key: np.concatenate([block[key] for block in those]) for key in those[0]}
        for name, those in blocks.items()
    }
    first, *others = columns.values()
    if any((other[key] != first[key]).any() for other in others for key in ('clip_id', 'segment')):
        raise ValueError(
            f'the cached features of {", ".join(blocks)} are not of the same clips; delete the '
            'folder features in the data directory and run the command again'
        )
    return Features(
        clip_id=first['clip_id'].tolist(),
        segment=first['segment'],
        label=first['label'],
        arrays={name: column['features'] for name, column in columns.items()},
    )


def _clips(
    dataset: Dataset,
    split: str,
    blocks: list[int],
    specs: Iterable[EncoderSpec],
    media: Callable[[str], media_files.Source] | None,
) -> Iterator[dict]:
    """The records of some blocks, with all that these encoders take, and a progress bar."""
    takes = {spec.takes for spec in specs}
    of_media = [spec for spec in specs if spec.takes == 'media']
    if of_media and media is None:
        raise ValueError(
            f"{of_media[0].name} takes pictures of the clips' video files, and nobody says where "
            'they lie: name their folder by --media_dir'
        )
    records = dataset.records(split, fields=tuple(takes - {'media'}))

    def load(index: int) -> dict:
        record = records[index]
        try:
            for spec in of_media:
                record |= spec.pictures(media(record['clip_id']))
        except ValueError as error:
            raise ValueError(f'{record["clip_id"]}: {error}') from error
        return record

    places = [
        index
        for k in blocks
        for index in range(k * CLIPS_PER_BLOCK, min((k + 1) * CLIPS_PER_BLOCK, len(records)))
    ]
    found = read_ahead(load, places, num_threads=MEDIA_THREADS if of_media else 16)
    off = not places or not multihost.is_first()
    return iter(tqdm(found, f'encoding {split}', len(places), unit='clip', disable=off))


def _encoded(clips: Iterable[dict], those: list[Encoder]) -> dict[str, dict[str, np.ndarray]]:
    """A block of each encoder's features; few clips are in memory at a time."""
    clip_id, segment, label = [], [], []
    waiting = {encoder: [] for encoder in those}
    found = {encoder: [] for encoder in those}
    counts = {encoder: set() for encoder in those}
    for clip in clips:
        clip_id.append(clip['clip_id'])
        segment.append(clip['segment'])
        label.append(clip['label'])
        for encoder in those:
            items = encoder.items(clip)
            counts[encoder].add(encoder.count(items))
            if len(counts[encoder]) > 1:
                raise ValueError(_uneven(clip['clip_id'], encoder.spec.name, counts[encoder]))
            waiting[encoder] += items
            enough = CALLS_TOGETHER * encoder.items_per_call
            while len(waiting[encoder]) >= enough:
                found[encoder].append(encoder(waiting[encoder][:enough]))
                del waiting[encoder][:enough]
    for encoder in those:
        if waiting[encoder]:
            found[encoder].append(encoder(waiting[encoder]))
    return {
        encoder.spec.name: {
            'clip_id': np.array(clip_id),
            'segment': np.array(segment, np.int32),
            'label': np.array(label, np.int32),
            'features': (every := np.concatenate(parts)).reshape(len(label), -1, *every.shape[1:]),
        }
        for encoder, parts in found.items()
    }


def _uneven(clip_id: str, encoder: str, counts: Iterable[int]) -> str:
    return (
        f'{clip_id} has not as much for {encoder} as the clips before it ({sorted(counts)} frames '
        'or windows), and all clips of a dataset must have as many; is its file cut short?'
    )


def _write_block(file: Path, columns: Mapping[str, np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f'.{os.getpid()}.tmp')
    with beside.open('wb') as out:
        np.savez(out, **columns)
    beside.replace(file)


def _read_block(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as block:
            return {name: block[name] for name in ('clip_id', 'segment', 'label', 'features')}
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'cache file {file} is missing, though every process has written its share; give a '
            '--data_dir that all processes share'
        ) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f'cache file {file} is corrupt ({error}); delete it and run the command again'
        ) from error


def network_inputs(
    settings: Mapping,
    arrays: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """A network's inputs, by their names, of what its encoders gave.

    Args:
      settings: `inputs` (name of each input -> its encoder; else they are `features/<encoder>`) and
        `pool`. None: a row for each frame, or for as many together as `frames_per_row` says of an
        input; 'mean': a row a clip, the mean of its frames; 'sequence': a row a clip with all its
        frames, which are repeated as a whole and cut to `length` where that is given.
      arrays: encoder -> `[clips, T, D]`, or `[clips, T, 2, F]` of a front end.
      stats: see `measure`; None leaves values as they are.
    """
    named = {name: arrays[encoder] for name, encoder in _names(settings, arrays).items()}
    together = settings.get('frames_per_row') or {}
    if stats is not None:
        named = {
            name: (array - stats[f'mean_{name}']) / stats[f'std_{name}']
            for name, array in named.items()
        }
    pool, length = settings.get('pool'), settings.get('length')
    if pool == 'mean':
        return {name: array.mean(axis=1) for name, array in named.items()}
    if pool == 'sequence':
        return {name: _repeated(array, length) for name, array in named.items()}
    if pool is not None:
        raise ValueError(f"pool is {pool!r}, it must be None, 'mean' or 'sequence'")
    named = {name: _together(name, x, together.get(name, 1)) for name, x in named.items()}
    counts = {name: array.shape[1] for name, array in named.items()}
    few = min(counts.values())
    if max(counts.values()) > few + 1:  # tracks of one length may round to a frame more
        told = ', '.join(f'{count} of {name}' for name, count in counts.items())
        raise ValueError(
            f'there are {told} in a clip: sound and picture differ in length, or the encoders in '
            'how often they look'
        )
    return {name: array[:, :few].reshape(-1, *array.shape[2:]) for name, array in named.items()}


def measure(settings: Mapping, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Mean and population standard deviation of each input over all frames of all clips.

    They are `mean_<input>` and `std_<input>`, float32 `[D]`; what never changes has deviation 1.
    """
    stats = {}
    for name, encoder in _names(settings, arrays).items():
        array = arrays[encoder]
        mean = array.mean(axis=(0, 1), dtype=np.float64)
        # clip by clip: a whole set in float64 is gigabytes
        squares = sum(np.square(clip - mean).sum(axis=0) for clip in array)
        std = np.sqrt(squares / np.prod(array.shape[:2]))
        changes = array.min(axis=(0, 1)) < array.max(axis=(0, 1))
        stats[f'mean_{name}'] = mean.astype(np.float32)
        stats[f'std_{name}'] = np.where(changes, std, 1).astype(np.float32)
    return stats


def _names(settings: Mapping, arrays: Mapping) -> Mapping[str, str]:
    """Each input whose encoder is there -> that encoder."""
    named = settings.get('inputs') or {f'features/{name}': name for name in arrays}
    return {name: encoder for name, encoder in named.items() if encoder in arrays}


def _together(name: str, array: np.ndarray, count: int) -> np.ndarray:
    """`[clips, T, D]` -> `[clips, T / count, count, D]`; what is shorter than a row is one."""
    clips, length, *rest = array.shape
    rows = max(1, length // count)
    if count == 1:
        return array
    if length % rows:
        raise ValueError(
            f'{length} frames of {name} in a clip are not rows of {count}; is its sound cut short?'
        )
    return array.reshape(clips, rows, -1, *rest)


def _repeated(array: np.ndarray, length: int | None) -> np.ndarray:
    """`[clips, T, D]` -> `[clips, length, D]`, repeated as a whole as often as it takes."""
    length = length or array.shape[1]
    return np.tile(array, (1, -(-length // array.shape[1]), 1))[:, :length]


class FeatureInputs:
    """A record in, the arrays of a feature network out: what training saw, for any clip.

    Args:
      settings: the run folder's preprocessing: what `network_inputs` takes and, if an encoder takes
        frames of records, how they were picked for those: `frames` (the rule) and `short_side`.
      encoders: in the order of the run's.
      stats: see `measure`.
    """

    def __init__(
        self,
        settings: Mapping,
        encoders: Sequence[Encoder],
        stats: Mapping[str, np.ndarray] | None = None,
    ):
        self.settings, self.encoders, self._stats = dict(settings), list(encoders), stats
        self.fields = tuple(sorted({FIELDS[e.spec.takes] for e in self.encoders}))  # of a record

    def open(self, file: media_files.Source) -> dict:
        """What `__call__` takes of a media file."""
        record = self.pictures(file)
        if 'audio' in self.fields:
            audio, rate = media_files.read_audio(file)
            channels = media_files.audio_channels(file)
            record |= {'audio': audio, 'sample_rate': rate, 'channels': channels}
        if 'frames' in self.fields:
            rule, short_side = self.settings['frames'], self.settings['short_side']
            found = media_files.read_frames(file, rule, short_side=short_side)
            record |= {'frames': list(found.images), 'frame_times': found.times_s}
        return record

    def pictures(self, file: media_files.Source) -> dict:
        """The `media_frames`, if it takes any, which no stored record has, of a video file."""
        found = {}
        for encoder in self.encoders:
            if encoder.spec.takes == 'media':
                found |= encoder.spec.pictures(file)
        return found

    def notes(self, record: Mapping) -> list[str]:
        """See Encoder.notes."""
        there = (e for e in self.encoders if FIELDS[e.spec.takes] in record)
        return [note for encoder in there for note in encoder.notes(record)]

    def __call__(self, record: Mapping) -> dict[str, np.ndarray] | np.ndarray:
        """The network's inputs for a record that `open` or a dataset gives."""
        (found,) = self.each([record])
        return found['image'] if [*found] == ['image'] else found  # a backbone takes one array

    def each(self, records: Sequence[Mapping]) -> list[dict[str, np.ndarray]]:
        """The same of several records, by names; what a record does not hold is not among them.

        The items of all are encoded together.
        """
        arrays = [{} for _ in records]
        for encoder in self.encoders:
            there = [place for place, r in enumerate(records) if FIELDS[encoder.spec.takes] in r]
            items = {place: encoder.items(records[place]) for place in there}
            shape_of = {place: items[place][0].shape for place in there}
            for shape in sorted({*shape_of.values()}):
                alike = [place for place in there if shape_of[place] == shape]
                found = encoder([item for place in alike for item in items[place]])
                ends = np.cumsum([encoder.count(items[place]) for place in alike])[:-1]
                for place, part in zip(alike, np.split(found, ends), strict=True):
                    arrays[place][encoder.spec.name] = part[None]
        return [self._inputs(found) for found in arrays]

    def _inputs(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The network's inputs that follow from what is there."""
        return network_inputs(self.settings, arrays, self._stats) if arrays else {}
