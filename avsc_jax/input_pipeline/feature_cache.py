"""A cache of the features that frozen encoders give for the clips of a data set.

A cache folder belongs to one encoder with its weights and preprocessing over one build of one
dataset: its name holds a hash of them. Each block of clips is a file of its own, which is whole or
missing, so that a killed extraction goes on where it stopped. Several processes share the
blocks, and each spreads its own over its devices. Clips and labels are those of the data set, never
of the cache. A block names the libraries that made it: where they differ, a note says so.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from avsc_jax.data import media as media_files
from avsc_jax.data.batches import read_ahead
from avsc_jax.data.records import Dataset
from avsc_jax.input_pipeline import kept_features
from avsc_jax.input_pipeline.encoders import Encoder, EncoderSpec, TrainedSpec
from avsc_jax.input_pipeline.kept_features import Features, Wanted, read_block, stacked
from avsc_jax.input_pipeline.transform import FIELDS
from avsc_jax.runtime import beam, made_with, multihost
from avsc_jax.runtime.files import some, write_arrays

CLIPS_PER_BLOCK = 32
CALLS_TOGETHER = 4  # calls of an encoder once enough items for them are in memory
MEDIA_THREADS = 8  # a clip of 96 pictures takes 58 MB, and each thread has three in memory
_runner: beam.Runner | None = None  # see `extracting_on`


@contextlib.contextmanager
def extracting_on(runner: beam.Runner | None) -> Iterator[None]:
    """Makes the features that are missing in this block on the workers of a runner, if given."""
    global _runner
    before, _runner = _runner, runner
    try:
        yield
    finally:
        _runner = before


def extract(
    dataset: Dataset,
    parts: Iterable[str] | Mapping[str, Wanted],
    specs: Sequence[EncoderSpec | TrainedSpec],
    *,
    cache_dir: Path,
    weights_dir: Path,
    media: Callable[[str], media_files.MediaFile] | None = None,
    fresh: bool = False,
) -> dict[str, Features]:
    """Returns every encoder's features of the wanted clips, and caches the new ones of all clips.

    Each clip is decoded once for all encoders whose features of it are missing, and only those
    encoders are built. Several processes share the work, and each returns all features.

    Args:
      parts: names of splits, or name -> the records of splits that it is made of; see `Wanted`.
      media: clip id -> its video file, for encoders that take pictures of it.
      fresh: compute anew what is cached.
    """
    folder = cache_dir / dataset.name.replace('/', '-')
    extraction = _Extraction(dataset, specs, folder, weights_dir, media)
    parts = parts if isinstance(parts, Mapping) else {split: {split: None} for split in parts}
    splits = list(dict.fromkeys(split for of in parts.values() for split in of))
    missing = {split: extraction.missing(split, fresh=fresh) for split in splits}
    if _runner:
        _run(extraction, missing, _runner)
    else:
        for split, blocks in missing.items():
            extraction.fill(split, blocks)
    multihost.wait('features')
    made: set[str] = set()
    files = {split: extraction.files(split) for split in splits}
    features_of = kept_features.read(dataset, files, parts, made)
    _note_libraries(made, folder)
    for features in features_of.values():
        for name in features.counts:
            if extraction.by_name[name].takes == 'media':
                raise ValueError(_uneven(features.clip_id, name, features.counts[name].tolist()))
    return features_of


class _Extraction:
    """The blocks of features of a data set's splits: which are missing, and how they are made.

    It travels to the workers of a runner, where it opens everything anew; see runtime/beam.py.
    """

    def __init__(
        self,
        dataset: Dataset,
        specs: Sequence[EncoderSpec | TrainedSpec],
        folder: Path,
        weights_dir: Path,
        media: Callable[[str], media_files.MediaFile] | None,
    ):
        self._given = dataset, specs, folder, weights_dir, media
        self._dataset, self._folder, self._media = dataset, folder, media
        self.by_name = {spec.name: spec for spec in specs}
        self._keys = {spec.name: spec.key(dataset.fingerprint) for spec in specs}
        self._encoder = lru_cache(maxsize=None)(lambda name: self.by_name[name].make(weights_dir))
        self._stamps = lru_cache(maxsize=None)(self._stamps_of)

    def __reduce__(self) -> tuple:
        return _Extraction, self._given

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Extraction) and self._facts == other._facts

    def __hash__(self) -> int:
        return hash(self._facts)

    @property
    def _facts(self) -> tuple:
        return self._folder, *sorted(self._keys.items())

    def open(self) -> Callable[[tuple[str, dict[int, list[str]]]], None]:
        """Returns what a worker does: it fills some blocks of a split."""
        return lambda task: self.fill(*task)

    def files(self, split: str) -> dict[str, list[Path]]:
        """Names the file of each block of a split for each encoder."""
        num_blocks = -(-self._dataset.num_records(split) // CLIPS_PER_BLOCK)
        return {
            name: [
                self._folder / f'{name}-{key}' / split / f'block_{k:05d}.npz'
                for k in range(num_blocks)
            ]
            for name, key in self._keys.items()
        }

    def paths(self, split: str, missing: Mapping[int, Sequence[str]]) -> list[Path]:
        """Names the files of some blocks of a split."""
        files = self.files(split)
        return [files[name][k] for k, names in missing.items() for name in names]

    def missing(self, split: str, *, fresh: bool) -> dict[int, list[str]]:
        """Returns this process's blocks that are to be made, each with the encoders it lacks."""
        files, stamps = self.files(split), self._stamps(split)
        num_blocks = max(map(len, files.values()), default=0)
        missing = {
            k: [
                name
                for name, paths in files.items()
                if fresh or not _is_kept(paths[k], self.by_name[name], _of_block(stamps, k))
            ]
            for k in range(jax.process_index(), num_blocks, jax.process_count())
        }
        return {k: names for k, names in missing.items() if names}

    def fill(self, split: str, missing: Mapping[int, Sequence[str]]) -> None:
        """Makes blocks of a split by the encoders that they lack, and writes each whole."""
        files = self.files(split)
        wanted = dict.fromkeys(name for names in missing.values() for name in names)
        encoders = [self._encoder(name) for name in wanted]
        clips = _clips(self._dataset, split, list(missing), encoders, self._media)
        for k, names in missing.items():
            made_of = np.array(_of_block(self._stamps(split), k), np.int64)
            block = _encoded(
                islice(clips, CLIPS_PER_BLOCK), [self._encoder(name) for name in names]
            )
            for name, columns in block.items():
                columns['stamps'] = made_of
                _write_block(files[name][k], columns)

    def _stamps_of(self, split: str) -> list[tuple[int, int, int]]:
        reads_media = any(spec.takes == 'media' for spec in self.by_name.values())
        of_files = self._media if reads_media else None
        return [_stamp(of_files, one['clip_id']) for one in self._dataset.outlines(split)]


def _run(
    extraction: _Extraction, missing: Mapping[str, Mapping[int, list[str]]], runner: beam.Runner
) -> None:
    """Makes missing blocks on the workers of a runner, a block a task.

    Raises:
      ValueError: a block is not there afterwards.
    """
    tasks = [(split, {k: names}) for split, of in missing.items() for k, names in of.items()]
    if not tasks:
        return
    for split, of in tasks:  # with --fresh; what workers write elsewhere must not leave the old
        for path in extraction.paths(split, of):
            path.unlink(missing_ok=True)
    print(f'{len(tasks):,} blocks of features go to {runner.name}', file=sys.stderr)
    beam.run(extraction, tasks, runner)
    made = [path for split, of in tasks for path in extraction.paths(split, of)]
    if lost := [path for path in made if not path.exists()]:
        raise ValueError(
            f'{len(lost)} of {len(made)} blocks of features were made, but are not there: '
            f'{some(lost)}; the workers need the same data set and version of the program as the '
            'command, and share their folders under the same paths'
        )


def _stamp(media: Any, clip_id: str) -> tuple[int, int, int]:
    """Returns numbers that change with a clip's video file; zeros if it cannot be seen."""
    stamp = media.stamp(clip_id) if hasattr(media, 'stamp') else []
    size, time_ns, inode = [*stamp, 0, 0, 0][:3]
    return size, time_ns, inode


def _of_block(stamps: list, k: int) -> list:
    return stamps[k * CLIPS_PER_BLOCK : (k + 1) * CLIPS_PER_BLOCK]


def _is_kept(path: Path, spec: EncoderSpec | TrainedSpec, stamps: list) -> bool:
    """Whether a block is cached, and was made of the video files that are there now."""
    if not path.exists() or spec.takes != 'media':
        return path.exists()
    made_of = map(tuple, read_block(path, 'stamps')['stamps'].tolist())
    return all(not any(now) or now == then for now, then in zip(stamps, made_of, strict=True))


def _note_libraries(made: Iterable[str], folder: Path) -> None:
    """Prints a note if cached features were made with other libraries than there are now."""
    for before in sorted(made):
        if difference := made_with.difference(json.loads(before), made_with.facts()):
            print(
                f'note: features in {folder} were made with {difference}; --fresh computes them '
                'anew',
                file=sys.stderr,
            )


def _clips(
    dataset: Dataset,
    split: str,
    blocks: list[int],
    encoders: Sequence[Encoder],
    media: Callable[[str], media_files.MediaFile] | None,
) -> Iterator[dict]:
    """Reads the parts that these encoders take of the records of some blocks; shows progress.

    The threads that read also resize pictures, while the device encodes those before: a record
    has `items/<encoder>` instead of its frames. Of a record that is an iterator over `windows`
    that is true of each, but only the first one is read ahead.
    """
    specs = [encoder.spec for encoder in encoders]
    takes = {spec.takes for spec in specs}
    of_media = [s for s in specs if isinstance(s, EncoderSpec) and s.takes == 'media']
    of_frames = [
        encoder
        for encoder in encoders
        if isinstance(encoder.spec, EncoderSpec) and encoder.spec.takes == 'frames'
    ]
    if of_media and media is None:
        raise ValueError(
            f"{of_media[0].name} takes pictures from the clips' video files, and none are given: "
            'name their folder by --media_dir'
        )
    records = dataset.records(split, fields=tuple(takes - {'media'}))

    def load(index: int) -> dict:
        record = records[index]
        try:
            for spec in of_media:
                assert media
                record |= spec.pictures(media(record['clip_id']))
        except ValueError as error:
            raise ValueError(f'{record["clip_id"]}: {error}') from error
        if 'windows' not in record:
            return resized(record)
        read = map(resized, record['windows'])
        first = [*islice(read, 1)]
        return record | {'windows': chain(first, read)}

    def resized(record: dict) -> dict:
        if 'frames' in record:
            record |= {f'items/{each.spec.name}': each.items(record) for each in of_frames}
            if len(of_frames) == len(encoders):
                del record['frames']
        return record

    places = [
        index
        for k in blocks
        for index in range(k * CLIPS_PER_BLOCK, min((k + 1) * CLIPS_PER_BLOCK, len(records)))
    ]
    num_threads = MEDIA_THREADS if of_media else getattr(records, 'num_threads', 16)
    loaded = read_ahead(load, places, num_threads=num_threads)
    off = not places or not multihost.is_first()
    return iter(
        tqdm(loaded, f'encoding {dataset.title(split)}', len(places), unit='clip', disable=off)
    )


def _encoded(clips: Iterable[dict], encoders: list[Encoder]) -> dict[str, dict[str, np.ndarray]]:
    """Encodes a block of clips by each encoder, with few clips in memory at a time."""
    clip_id, segment = [], []
    waiting: dict[Encoder, list[np.ndarray]] = {encoder: [] for encoder in encoders}
    features: dict[Encoder, list[np.ndarray]] = {encoder: [] for encoder in encoders}
    counts: dict[Encoder, list[int]] = {encoder: [] for encoder in encoders}
    for clip in clips:
        clip_id.append(clip['clip_id'])
        segment.append(clip['segment'])
        for encoder in encoders:
            counts[encoder].append(0)
        for window in clip.get('windows', (clip,)):
            for encoder in encoders:
                items = _items(encoder, window)
                counts[encoder][-1] += encoder.count(items)
                waiting[encoder] += items
                enough = CALLS_TOGETHER * encoder.items_per_call
                while len(waiting[encoder]) >= enough:
                    features[encoder].append(encoder(waiting[encoder][:enough]))
                    del waiting[encoder][:enough]
        for encoder in encoders:
            if encoder.spec.takes == 'media' and len({*counts[encoder]}) > 1:
                raise ValueError(_uneven(clip_id, encoder.spec.name, counts[encoder]))
    for encoder, items in waiting.items():
        if items:
            full = len(items) * CLIPS_PER_BLOCK // len(clip_id)  # as a block of all its clips has
            features[encoder].append(encoder(items, of=full))
    facts = {
        'clip_id': np.array(clip_id),
        'segment': np.array(segment, np.int32),
        'made_with': np.array(json.dumps(made_with.facts())),
    }
    return {
        encoder.spec.name: facts | _by_clip(_rows(encoder, parts), counts[encoder])
        for encoder, parts in features.items()
    }


def _items(encoder: Encoder, window: Mapping) -> Sequence[np.ndarray]:
    """Returns a window's items, of which a film without sound has none for an encoder of sound."""
    if (name := f'items/{encoder.spec.name}') in window:
        return window[name]
    return encoder.items(window) if FIELDS[encoder.spec.takes] in window else ()


def _rows(encoder: Encoder, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Joins the rows that an encoder has made, of which the clips of a block may give none."""
    if parts:
        return np.concatenate(parts)
    assert isinstance(encoder.spec, EncoderSpec)  # runs encode records, which have all their fields
    return np.zeros((0, *encoder.spec.output_shape), np.float32)


def _by_clip(rows: np.ndarray, counts: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns `features [clips, T, ...]` of the rows of all clips; `counts` if these are unlike."""
    if len({*counts}) == 1 and counts[0]:
        return {'features': rows.reshape(len(counts), -1, *rows.shape[1:])}
    parts = np.split(rows, np.cumsum(counts)[:-1])
    return {'features': stacked([part[None] for part in parts]), 'counts': np.array(counts)}


def _uneven(clip_ids: Sequence[str], encoder: str, counts: Sequence[int] | np.ndarray) -> str:
    """Returns the sentence about the first file that holds more or less than those before it."""
    odd = next(k for k, count in enumerate(counts) if count != counts[0])
    return (
        f'{clip_ids[odd]} gives {encoder} another number of frames than the clips before it '
        f'({counts[odd]}, not {counts[0]}), and the video files of a data set must give as many; '
        'is its file cut short?'
    )


def _write_block(file: Path, columns: Mapping[str, np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(file, **columns)
