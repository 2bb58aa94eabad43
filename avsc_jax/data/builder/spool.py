"""Stores the encoded clips of an unfinished build, so that a killed build continues from them.

A clip is encoded into a file of its own; when all clips of a shard are encoded, they are merged
into a shard of the data set and their files are removed. So the folder never takes much more room
than the data set, and finished shards are linked into it, not copied. File names are digests of
all that the content depends on: a changed source is encoded again.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from avsc_jax.data.builder import clip_reader
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import MediaFiles
from avsc_jax.runtime import files

MAX_RECORDS_PER_CLIP = 1000


class Shard(NamedTuple):
    """A finished shard; `num_bytes` counts its records before the file format packs them."""

    path: Path
    num_examples: int
    num_bytes: int


class Spool:
    """The folder of encoded clips; encodes them and merges them into shards.

    Args:
      folder: where they are stored; made if missing.
      files: media files of the clips.
      features: features of the data set.
      options: keyword arguments of `read`.
      read: files, clip and options -> records of the clip; raises BadMedia.
    """

    def __init__(
        self,
        folder: Path,
        files: MediaFiles,
        features: tfds.features.FeaturesDict,
        options: dict,
        read: Callable[..., list[dict]],
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.files, self.features, self.options = folder, files, features, options
        self._read = read

    def fill(self, clip: Clip) -> None:
        """Encodes a clip unless it is stored; stores a note instead if its files are bad."""
        path = self._path(clip)
        if path.exists():
            return
        try:
            records = self._read(self.files, clip, **self.options)
        except clip_reader.BadMedia as error:
            note = json.dumps([clip.clip_id, error.problems]).encode()
            files.write_bytes(path.with_suffix('.bad'), note)
            return
        serializer = example_serializer.ExampleSerializer(self.features.get_serialized_info())
        examples = (serializer.get_tf_example(self.features.encode_example(r)) for r in records)
        # else protobuf writes the fields in another order in every process, and the digest of the
        # data set, by which its runs and features know it, would change with each build
        encoded = [example.SerializeToString(deterministic=True) for example in examples]
        files.write_bytes(path, _pack(encoded))

    def forget_bad(self) -> None:
        """Removes the notes of an earlier run, so that its bad files are read again."""
        for note in self.folder.glob('*.bad'):
            note.unlink()

    def bad(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Returns the clips that could not be encoded, with (path, reason) of each bad file."""
        notes = (json.loads(note.read_bytes()) for note in self.folder.glob('*.bad'))
        return sorted((clip_id, [(p, r) for p, r in problems]) for clip_id, problems in notes)

    def records(self, clip: Clip) -> list[bytes]:
        """Returns the serialised records of a clip after `fill`; none if its files are bad."""
        path = self._path(clip)
        if path.with_suffix('.bad').exists():
            return []
        if (records := _unpack(path.read_bytes())) is None:  # after a power failure
            path.unlink()
            self.fill(clip)
            records = _unpack(path.read_bytes())  # raises if the source is bad by now
        return records

    def check_filled(self, clips: Iterable[Clip]) -> None:
        """Raises ValueError if other machines have encoded a clip into another folder."""
        for clip in clips:
            path = self._path(clip)
            if not path.exists() and not path.with_suffix('.bad').exists():
                raise ValueError(
                    f'{clip.clip_id} was encoded, but not into {self.folder}; the machines have to '
                    'share the folders of the archives and of the data set under the same paths'
                )

    def examples(self, numbered: tuple[int, Clip]) -> list[tuple[int, dict]]:
        """Returns (key, example) of a clip and its number in the split, in Beam's workers."""
        number, clip = numbered
        self.fill(clip)
        decode = self.features.deserialize_example_np
        first = number * MAX_RECORDS_PER_CLIP
        return [(first + k, decode(record)) for k, record in enumerate(self.records(clip))]

    def has_shard(self, group: Sequence[Clip]) -> bool:
        return self._shard_path(group).exists()

    def merge(
        self, group: Sequence[Clip], write: Callable[[Path, Iterable[tuple[int, bytes]]], object]
    ) -> Shard | None:
        """Merges filled clips into a shard; returns None if all of them are bad.

        Args:
          group: all clips of the shard.
          write: writes (key, record) pairs to a file.
        """
        good = [clip for clip in group if not self._path(clip).with_suffix('.bad').exists()]
        if not good:
            return None
        path = self._shard_path(good)
        facts = path.with_suffix('.json')
        sizes: list[int] = []

        def records() -> Iterator[bytes]:
            for clip in good:
                for record in self.records(clip):
                    sizes.append(len(record))
                    yield record

        if not path.exists():
            with files.whole(path) as part:
                write(part, enumerate(records()))
                with part.open('rb+') as file:
                    os.fsync(file.fileno())  # before the clips' own files go
                files.write_text(facts, json.dumps([len(sizes), sum(sizes)]))
        if len(good) == len(group):  # else a later run, with whole files, needs the clips again
            for clip in group:
                self._path(clip).unlink(missing_ok=True)
        return Shard(path, *json.loads(facts.read_text()))

    def _path(self, clip: Clip) -> Path:
        stamps = [self.files.stamp(name) for name in (clip.audio, clip.video)]
        # keeps the names of earlier versions: with a group only if there is one, without a split
        names = [*clip[:4], *filter(None, [clip.group])]
        facts = json.dumps([self.options, names, stamps], sort_keys=True)
        return self.folder / f'{_digest(facts)}.clip'

    def _shard_path(self, group: Sequence[Clip]) -> Path:
        return self.folder / f'{_digest(" ".join(self._path(c).stem for c in group))}.shard'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _pack(records: list[bytes]) -> bytes:
    """Joins lengths and records after a checksum: a power failure may leave a file of zeros."""
    body = b''.join(len(record).to_bytes(8, 'little') + record for record in records)
    return zlib.crc32(body).to_bytes(4, 'little') + body


def _unpack(data: bytes) -> list[bytes] | None:
    """Returns the records that `_pack` joined; None if the file is damaged."""
    check, body, records, start = data[:4], data[4:], [], 0
    if not body or check != zlib.crc32(body).to_bytes(4, 'little'):
        return None
    while start < len(body):
        end = start + 8 + int.from_bytes(body[start : start + 8], 'little')
        records.append(body[start + 8 : end])
        start = end
    return records
