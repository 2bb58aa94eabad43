"""Records of a TFDS dataset: one 10 s clip or one 1 s item each.

Any data set works everywhere if its builder yields the fields of `data.builder.record_features`:
`clip_id`, `segment`, `audio` (FLAC bytes), `sample_rate`, `frames` (JPEG bytes), `frame_times`,
`label`, `city`, `location`.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from avsc_jax.data import content, label_kinds, media, row_files, split_words
from avsc_jax.runtime import nearest
from avsc_jax.types import Kind

FIELDS = (
    'clip_id', 'segment', 'audio', 'sample_rate', 'frames', 'frame_times', 'label', 'city',
    'location',
)  # fmt: skip

MAX_RECORD_BYTES = 1 << 30  # of decoded pictures; a clip of 12 at 796 x 448 has 13 million
# Splits up to this size stay in memory once read, as each row would unpack its whole record again.
# Measured on clips of 10 s: a second of sound takes 15 ms of a core from the file, 3 from memory.
KEPT_BYTES = 1 << 29


def default_data_dir() -> Path:
    """Returns the folder of TFDS's prepared datasets: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    return Path(tfds.core.constants.DATA_DIR).expanduser()


class Records(Sequence):
    """The records of one split, decoded on access; safe to read from several threads.

    Args:
      source: stored records, as TFDS reads them.
      where: name of the split for errors.
      command: command that builds the data set again, for errors.
      fields: which of 'audio' and 'frames' to decode.
      chosen: indices into `source`, in order; None for all.
      keep: stored records stay in memory once they were read.
      open_rows: opens the row files of the split, of which `by_rows` reads.
    """

    def __init__(
        self,
        source: Sequence,
        where: str,
        command: str,
        fields: tuple[str, ...],
        chosen: Sequence[int] | None = None,
        *,
        keep: bool = False,
        open_rows: Callable[[], row_files.SplitRows | None] = lambda: None,
    ):
        self._fields, self._keep = fields, keep
        self._open_rows, self._rows = open_rows, None
        self._stored = functools.cache(source.__getitem__) if keep else source.__getitem__
        self._where, self._command = where, command
        self._chosen = range(len(source)) if chosen is None else chosen

    def by_rows(self) -> 'Records':
        """Makes `frame` and `sound` read little more than their own bytes; returns itself.

        Records that stay in memory are left there. For others, their media are copied once; see
        `row_files`.
        """
        if not self._keep:
            self._rows = self._open_rows()
        return self

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> dict:
        """Returns a record's fields; 'audio' and 'frames' only if `fields` names them.

        `audio` float32 `[N, 2]` in [-1, 1), `sample_rate` Hz, `frames` list of uint8 RGB
        `[H, W, 3]`, `frame_times` s, `label` (see `data.label_kinds`), `clip_id`, `segment` (-1
        whole clip), `city`, `location`.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        with self._opened(index) as stored:
            record = content.facts(stored)
            if 'frames' in self._fields:
                record['frames'] = _decoded(stored['frames'])
                record['frame_times'] = np.asarray(stored['frame_times'], np.float32)
            if 'audio' in self._fields:
                record['audio'] = media.decode_flac(stored['audio'])
        return record

    def outline(self, index: int) -> dict:
        """Returns a record's plain fields, `num_frames` and `num_samples`; decodes nothing."""
        with self._opened(index) as stored:
            return content.outline(stored)

    def frame(self, index: int, number: int) -> np.ndarray:
        """Decodes only one frame of a record, uint8 RGB `[H, W, 3]`."""
        return np.asarray(self.picture(index, number))

    def picture(self, index: int, number: int) -> Image.Image:
        """Decodes only one frame of a record, as Pillow has it, for a resize that follows."""
        if self._rows:
            with self._damage_explained(index):
                return media.decode_picture(self._rows.picture(self._chosen[index], number))
        with self._opened(index) as stored:
            return media.decode_picture(stored['frames'][number])

    def sound(self, index: int, start: int, stop: int) -> np.ndarray:
        """Decodes only samples start to stop of a record, float32 `[N, 2]`."""
        if self._rows:
            with self._damage_explained(index), self._rows.sound(self._chosen[index]) as file:
                return media.decode_flac(file, start, stop)
        with self._opened(index) as stored:
            return media.decode_flac(stored['audio'], start, stop)

    @contextlib.contextmanager
    def _opened(self, index: int) -> Iterator[dict]:
        """Yields a stored record; an error about it becomes one ValueError."""
        with self._damage_explained(index):
            yield self._stored(self._chosen[index])

    @contextlib.contextmanager
    def _damage_explained(self, index: int) -> Iterator[None]:
        """Turns any error of the block into one ValueError about the record."""
        try:
            yield
        except row_files.Damaged:  # the record itself is whole
            raise
        except Exception as error:  # array_record and the decoders raise many kinds
            raise ValueError(
                f'record {index} of {self._where} is corrupt ({error}); delete that folder and '
                f'build the dataset again with {self._command}'
            ) from error


def _decoded(frames: Sequence[bytes]) -> list[np.ndarray]:
    """Decodes the pictures of a record, which together may have MAX_RECORD_BYTES."""
    pictures, num_bytes = [], 0
    for data in frames:
        pictures.append(media.decode_jpeg(data))
        num_bytes += pictures[-1].nbytes
        if num_bytes > MAX_RECORD_BYTES:
            raise ValueError(f'its pictures decode to more than {MAX_RECORD_BYTES:,} bytes')
    return pictures


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A prepared dataset on disk.

    Attributes:
      command: command that builds it again, for errors.
    """

    builder: tfds.core.DatasetBuilder
    command: str

    def __reduce__(self) -> tuple:
        return type(self), (self.builder, self.command)  # another process reads its content anew

    @property
    def name(self) -> str:
        return self.builder.info.full_name

    @property
    def classes(self) -> tuple[str, ...]:
        return label_kinds.of_feature(self.builder.info.features['label'])[0]

    @property
    def kind(self) -> Kind:
        """Whether a record has one of the classes, or several; see `data.label_kinds`."""
        return label_kinds.of_feature(self.builder.info.features['label'])[1]

    @property
    def left_out(self) -> list[str]:
        """Ids of clips that the build left out, because their files were broken or missing."""
        return list((self.builder.info.metadata or {}).get('left_out', ()))

    @property
    def fingerprint(self) -> str:
        """A digest of all records and of the names of the classes and splits."""
        splits = {
            split: [self._content[name]['sha256'] for name in content.names(self.builder, split)]
            for split in sorted(self.builder.info.splits)
        }
        facts = (self.name, self.classes, splits)
        return f'content:{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}'

    @property
    def fingerprint_by_size(self) -> str:
        """The digest by which earlier versions knew a data set: of sizes, not of content."""
        splits = self.builder.info.splits
        facts = [(n, int(s.num_bytes), tuple(s.shard_lengths)) for n, s in sorted(splits.items())]
        return hashlib.sha256(repr((self.name, facts)).encode()).hexdigest()[:16]

    @property
    def identities(self) -> tuple[str, str]:
        """Its names in a run's `environment.json`: today's, and that of earlier versions."""
        return f'{self.name} {self.fingerprint}', f'{self.name} {self.fingerprint_by_size}'

    @functools.cached_property
    def _content(self) -> dict[str, dict]:
        return content.read(self.builder)

    def num_records(self, split: str) -> int:
        self._check(split)
        return self.builder.info.splits[split].num_examples

    def records(self, split: str, *, fields: tuple[str, ...] = ('audio', 'frames')) -> Records:
        """Opens a split, such as 'train' or 'train_inner+validation'."""
        self._check(split)
        return opened(self, split, self.title(split), fields)

    def outlines(self, split: str) -> list[dict]:
        """Returns the outline of each record of a split, such as 'train' or 'train+test'."""
        self._check(split)
        names = [n for part in split.split('+') for n in content.names(self.builder, part)]
        return [outline for name in names for outline in self._content[name]['outlines']]

    def rows(self, split: str) -> row_files.SplitRows | None:
        """Opens the media of a split such as 'train+test' row by row; None where they cannot be."""
        if '[' in split:
            return None
        names = [n for part in split.split('+') for n in content.names(self.builder, part)]
        folder, features = Path(self.builder.data_path), self.builder.info.features
        return row_files.opened(folder, names, self._content, features)

    def title(self, split: str) -> str:
        """Returns the name of a split for reports."""
        return split_words.title(split)

    def _check(self, split: str) -> None:
        known = self.builder.info.splits
        unknown = [part for part in split.split('+') if part.split('[')[0] not in known]
        if unknown:
            meant = nearest.meant(unknown[0], known)
            raise ValueError(
                f'{self.name} has no split {unknown[0]!r}; it has {", ".join(known)}{meant}'
            )


def opened(
    dataset: Dataset,
    split: str,
    title: str,
    fields: tuple[str, ...],
    chosen: Sequence[int] | None = None,
) -> Records:
    """Opens the stored records of a split, or those of the indices `chosen` into it.

    Args:
      split: of the builder, such as 'train+test'.
      title: what errors call it.
    """
    builder = dataset.builder
    where = f'{title} in {builder.data_dir}'
    # not `num_bytes` of TFDS, which is 0 for a split that is stored in others
    files = map(Path, builder.info.splits[split].filepaths)
    keep = sum(file.stat().st_size for file in files) <= KEPT_BYTES
    source = builder.as_data_source(split)
    return Records(
        source,
        where,
        dataset.command,
        fields,
        chosen,
        keep=keep,
        open_rows=functools.partial(dataset.rows, split),
    )


def is_same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two data sets are the same one.

    Args:
      one, other: their `identities`; runs of earlier versions have only the one by sizes.
    """
    if len(one) == len(other):
        return one[0] == other[0]
    return not {*one}.isdisjoint(other)


def is_prepared(name: str, config: str, data_dir: Path) -> bool:
    """Returns whether any version of the data set is prepared."""
    return _version_dir(name, config, data_dir) is not None


def open_dataset(name: str, config: str, data_dir: Path, command: str = '') -> Dataset:
    """Opens the newest version of a data set that TFDS has prepared under `data_dir`.

    Args:
      config: of the builder; '' if it has no configs.
      command: command that builds the data set, for errors; default: TFDS's own.
    """
    named = '/'.join(filter(None, (name, config)))
    command = command or f'tfds build {named} --file_format=array_record --data_dir={data_dir}'
    folder = _version_dir(name, config, data_dir)
    if folder is None:
        meant = nearest.path(data_dir / name / config)
        raise FileNotFoundError(f'{named} is not prepared in {data_dir}{meant}; run: {command}')
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
