"""Records of a TFDS dataset: one 10 s clip or one 1 s item each.

Any data set works everywhere if its builder yields the fields of `data.builder.record_features`:
`clip_id`, `segment`, `audio` (FLAC bytes), `sample_rate`, `frames` (JPEG bytes), `frame_times`,
`label`, `city`, `location`.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from avsc_jax.data import media
from avsc_jax.data.batches import read_ahead

FIELDS = (
    'clip_id', 'segment', 'audio', 'sample_rate', 'frames', 'frame_times', 'label', 'city',
    'location',
)  # fmt: skip


def default_data_dir() -> Path:
    """Where TFDS keeps prepared datasets: TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    return Path(tfds.core.constants.DATA_DIR).expanduser()


class Records(Sequence):
    """One split, decoded on access; safe to read from several threads.

    Args:
      where: names the split in errors.
      command: builds the data set again, for errors.
      chosen: which of the source's records, in order; None: all.
    """

    def __init__(
        self,
        source: Sequence,
        where: str,
        command: str,
        fields: tuple[str, ...],
        chosen: Sequence[int] | None = None,
    ):
        self._source, self._fields = source, fields
        self._where, self._command = where, command
        self._chosen = range(len(source)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> dict:
        """The record's fields; 'audio' and 'frames' are decoded only when asked for.

        `audio` float32 `[N, 2]` in [-1, 1), `sample_rate` Hz, `frames` list of uint8 RGB
        `[H, W, 3]`, `frame_times` s, `label` int (-1 unknown), `clip_id`, `segment` (-1 whole
        clip), `city`, `location`.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        with self._opened(index) as stored:
            record = _facts(stored)
            if 'frames' in self._fields:
                record['frames'] = [media.decode_jpeg(data) for data in stored['frames']]
                record['frame_times'] = np.asarray(stored['frame_times'], np.float32)
            if 'audio' in self._fields:
                record['audio'] = media.decode_flac(stored['audio'])
        return record

    def outline(self, index: int) -> dict:
        """What there is to read of a record: its plain fields, `num_frames` and `num_samples`."""
        with self._opened(index) as stored:
            return _facts(stored) | {
                'num_frames': len(stored['frames']),
                'num_samples': media.flac_length(stored['audio']) if stored['audio'] else 0,
            }

    def frame(self, index: int, number: int) -> np.ndarray:
        """One frame of a record, uint8 RGB `[H, W, 3]`; no other is decoded."""
        with self._opened(index) as stored:
            return media.decode_jpeg(stored['frames'][number])

    def sound(self, index: int, start: int, stop: int) -> np.ndarray:
        """Samples start to stop of a record, float32 `[N, 2]`; only that part is decoded."""
        with self._opened(index) as stored:
            return media.decode_flac(stored['audio'], start, stop)

    @contextlib.contextmanager
    def _opened(self, index: int) -> Iterator[dict]:
        """A record as it is stored; whatever is wrong with it becomes one sentence."""
        try:
            yield self._source[self._chosen[index]]
        except Exception as error:  # array_record and the decoders raise many kinds
            raise ValueError(
                f'record {index} of {self._where} is corrupt ({error}); delete that folder and '
                f'build the dataset again with {self._command}'
            ) from error


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared dataset on disk.

    Attributes:
      command: builds it again, for errors.
    """

    builder: tfds.core.DatasetBuilder
    command: str

    @property
    def name(self) -> str:
        return self.builder.info.full_name

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.builder.info.features['label'].names)

    @property
    def left_out(self) -> list[str]:
        """Ids of clips that the build left out, because their files were broken or missing."""
        return list((self.builder.info.metadata or {}).get('left_out', ()))

    @property
    def fingerprint(self) -> str:
        """Changes whenever the data was built anew with other content."""
        splits = self.builder.info.splits
        facts = [(n, int(s.num_bytes), tuple(s.shard_lengths)) for n, s in sorted(splits.items())]
        return hashlib.sha256(repr((self.name, facts)).encode()).hexdigest()[:16]

    def num_records(self, split: str) -> int:
        self._check(split)
        return self.builder.info.splits[split].num_examples

    def records(self, split: str, *, fields: tuple[str, ...] = ('audio', 'frames')) -> Records:
        """Opens a split, such as 'train' or 'train_inner+validation'."""
        self._check(split)
        source = self.builder.as_data_source(split)
        return Records(source, f'{split} in {self.builder.data_dir}', self.command, fields)

    def outlines(self, split: str) -> list[dict]:
        """The outline of each record of a split, for which all its bytes are read."""
        records = self.records(split)
        return list(read_ahead(records.outline, range(len(records))))

    def title(self, split: str) -> str:
        """What a report calls a split."""
        return split

    def _check(self, split: str) -> None:
        known = self.builder.info.splits
        unknown = [part for part in split.split('+') if part.split('[')[0] not in known]
        if unknown:
            raise ValueError(f'{self.name} has no split {unknown[0]!r}; it has {", ".join(known)}')


def is_prepared(name: str, config: str, data_dir: Path) -> bool:
    """Whether some version of the data set is there."""
    return _version_dir(name, config, data_dir) is not None


def open_dataset(name: str, config: str, data_dir: Path, command: str = '') -> Dataset:
    """Opens the newest version of a data set that TFDS has prepared under `data_dir`.

    Args:
      config: of the builder; '' of one that has none.
      command: builds the data set, for errors; default: TFDS's own.
    """
    named = '/'.join(filter(None, (name, config)))
    command = command or f'tfds build {named} --file_format=array_record --data_dir={data_dir}'
    folder = _version_dir(name, config, data_dir)
    if folder is None:
        raise FileNotFoundError(f'{named} is not prepared in {data_dir}; run: {command}')
    builder = tfds.builder_from_directory(folder)
    if (format_ := builder.info.file_format.value) != 'array_record':
        raise ValueError(
            f'{folder} holds {format_} files, which only TensorFlow reads; remove it and build it '
            f'again as array_record files: {command}'
        )
    return Dataset(builder, command)


def _version_dir(name: str, config: str, data_dir: Path) -> Path | None:
    folders = [f.parent for f in (data_dir / name / config).glob('*.*.*/dataset_info.json')]
    by_version = sorted(folders, key=lambda f: [int(n) for n in f.name.split('.')])
    return by_version[-1] if by_version else None


def _facts(stored: dict) -> dict:
    plain = {name: stored[name] for name in ('sample_rate', 'label', 'segment')}
    return plain | {name: _text(stored[name]) for name in ('clip_id', 'city', 'location')}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
