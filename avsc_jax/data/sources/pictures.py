"""Picture data sets for pretraining image networks: Places365 and ImageNet.

A picture is a record of one frame, so that code for the frames of clips reads pictures too.

Places365 is a folder `places365_standard` in the data directory, or a link of that name, with
`train/CLASS/*.jpg` and `val/CLASS/*.jpg`, as places365standard_easyformat.tar of
places2.csail.mit.edu holds it; or else TFDS's `places365_small`. ImageNet is TFDS's `imagenet2012`.
What TFDS has prepared, as ArrayRecord files, is read without TensorFlow.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from avsc_jax.data import media, records
from avsc_jax.data.batches import read_ahead
from avsc_jax.data.sources.source import DataSource, Forecast
from avsc_jax.types import Kind

SETS = {'places365': 'places365_small', 'imagenet2012': 'imagenet2012'}  # -> name in TFDS
ARCHIVES = {
    'places365': 'extract places365standard_easyformat.tar of places2.csail.mit.edu there, or',
    'imagenet2012': 'put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar of image-net.org into '
    'its folder downloads/manual and',
}
PLACES_FOLDER = 'places365_standard'
SPLITS = {'train': 'train', 'validation': 'val'}  # -> folder in PLACES_FOLDER
ENDINGS = ('.jpg', '.jpeg', '.png')
MAX_BYTES = 1 << 26  # of a picture's file; those of these sets are far smaller

NamesAndLabels = tuple[np.ndarray, np.ndarray]  # of a split: bytes [N], int32 [N]


class Pictures(Sequence):
    """The pictures of one split, used like data.records.Records; safe to read from threads.

    Args:
      size: number of pictures.
      listing: returns names and labels; called once, when the first is needed.
      load: index -> bytes of the picture's file, at most MAX_BYTES + 1 of them.
      where: folder of the pictures, for errors.
      remedy: what to do about a broken picture, for errors.
    """

    def __init__(
        self,
        size: int,
        listing: Callable[[], NamesAndLabels],
        load: Callable[[int], bytes],
        where: Path,
        remedy: str,
    ):
        self._size, self._list, self._load = size, listing, load
        self._where, self._remedy = where, remedy

    @cached_property
    def _listing(self) -> NamesAndLabels:
        return self._list()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict:
        """Returns a record, whose list `frames` has one picture, uint8 RGB `[H, W, 3]`."""
        return self.outline(index) | {'frames': [self.frame(index, 0)]}

    def by_rows(self) -> 'Pictures':
        """Returns itself: each picture is read by itself already; see Records."""
        return self

    def outline(self, index: int) -> dict:
        """Returns the fields of a record except its picture."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        names, labels = self._listing
        name, label = os.fsdecode(names[index]), int(labels[index])
        return {'clip_id': name, 'segment': -1, 'label': label, 'num_frames': 1}

    def frame(self, index: int, number: int) -> np.ndarray:
        """Decodes a picture of any colour mode to uint8 RGB `[H, W, 3]`."""
        return np.asarray(self.picture(index, number))

    def picture(self, index: int, number: int) -> Image.Image:
        """Decodes a picture of any colour mode, as Pillow has it, for a resize that follows."""
        try:
            if len(data := self._load(index)) > MAX_BYTES:
                raise ValueError(f'it has more than {MAX_BYTES:,} bytes')
            return media.decode_picture(data)
        except Exception as error:  # array_record and Pillow raise many kinds
            path = self._where / self.outline(index)['clip_id']
            raise ValueError(f'{path} is not a whole picture ({error}); {self._remedy}') from error


class Outlines(Sequence):
    """The outlines of a split, made on access."""

    def __init__(self, pictures: Pictures):
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict:
        return self._pictures.outline(index)


@dataclasses.dataclass(frozen=True)
class PictureSet:
    """A set on disk, used like data.records.Dataset; its splits are the keys of SPLITS."""

    name: str
    classes: tuple[str, ...]
    fingerprint: str  # changes with the content, or in a folder with names and sizes
    splits: Mapping[str, Pictures]
    left_out: tuple[str, ...] = ()
    kind: ClassVar[Kind] = 'exclusive'
    fingerprint_by_size: str = ''  # by which earlier versions knew it, if another

    @property
    def identities(self) -> tuple[str, ...]:
        """Its names in a run's `environment.json`; see data.records.Dataset."""
        known = (self.fingerprint, self.fingerprint_by_size or self.fingerprint)
        return tuple(f'{self.name} {fingerprint}' for fingerprint in known)

    def num_records(self, split: str) -> int:
        return len(self.records(split))

    def records(self, split: str, *, fields: tuple[str, ...] = ('frames',)) -> Pictures:
        """Opens a split; `fields` is for likeness with Dataset and changes nothing."""
        if split not in self.splits:
            raise ValueError(f'{self.name} has no split {split!r}; it has {", ".join(self.splits)}')
        return self.splits[split]

    def outlines(self, split: str) -> Outlines:
        return Outlines(self.records(split))

    def title(self, split: str) -> str:
        return split


class PictureSource(DataSource):
    """A set of pictures that the user has prepared; no run builds it.

    Args:
      name: a key of SETS.
    """

    has_folds = False

    def __init__(self, name: str):
        self.name = name

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """Reads the pictures; the token demo makes only the networks small."""
        if config.data.source == 'auto':
            config.data.source = 'tau'

    def is_prepared(self, data: Mapping, data_dir: Path) -> bool:
        """Returns whether the set's folder exists; opening it checks the content."""
        has_folder = self.name == 'places365' and os.path.lexists(data_dir / PLACES_FOLDER)
        return has_folder or records.is_prepared(SETS[self.name], '', data_dir)

    def command(self, data: Mapping, data_dir: Path) -> str:
        return f'tfds build {SETS[self.name]} --file_format=array_record --data_dir={data_dir}'

    def open(self, data: Mapping, data_dir: Path) -> PictureSet:
        """Opens the set, for which all files of a Places365 folder are listed."""
        if not self.is_prepared(data, data_dir):
            raise self._missing(data, data_dir)
        if self.name == 'places365' and os.path.lexists(folder := data_dir / PLACES_FOLDER):
            return _folder(folder, data['num_classes'])
        return _stored(records.open_dataset(SETS[self.name], '', data_dir), data['num_classes'])

    def forecast(self, data: Mapping, data_dir: Path) -> Forecast:
        """Raises FileNotFoundError, because no run builds the set."""
        raise self._missing(data, data_dir)

    def _missing(self, data: Mapping, data_dir: Path) -> FileNotFoundError:
        return FileNotFoundError(
            f'{self.name} is not in {data_dir}: {ARCHIVES[self.name]} run, after '
            f'pip install "avsc_jax[tf]": {self.command(data, data_dir)}'
        )

    def warnings(self, data: Mapping, dataset: PictureSet) -> list[str]:
        """Says what a folder of pictures is known by; they are real, also with the token demo."""
        if dataset.name != PLACES_FOLDER:
            return []
        return [
            f'{dataset.name} is known by the names and sizes of its pictures: one that was '
            'replaced by another of the same size is not noticed'
        ]

    def has_one_frame(self, data: Mapping) -> bool:
        return True


def _folder(folder: Path, num_classes: int) -> PictureSet:
    """Opens the pictures of a folder that has a folder for each class."""
    classes, others = (_class_names(folder / part) for part in SPLITS.values())
    _check_classes(classes, num_classes, folder)
    if unshared := sorted({*classes} ^ {*others}):
        raise ValueError(
            f'{len(unshared)} classes, such as {unshared[0]!r}, are in only one of '
            f'{" and ".join(SPLITS.values())} of {folder}; both must have the same'
        )
    digest, splits = hashlib.sha256(), {}
    for split, part in SPLITS.items():
        listing = _listed(folder / part, classes, digest.update)
        splits[split] = Pictures(
            len(listing[0]),
            lambda listing=listing: listing,
            lambda index, place=folder / part, names=listing[0]: _head(place, names[index]),
            folder / part,
            'put a whole one there, or remove it',
        )
    return PictureSet(PLACES_FOLDER, classes, digest.hexdigest()[:16], splits)


def _class_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f'{folder} is not a folder; {folder.parent} must hold {" and ".join(SPLITS.values())}, '
            'with a folder of pictures for each class'
        )
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return tuple(sorted(name for name in names if not name.startswith('.')))


def _check_classes(classes: Sequence[str], num_classes: int, place: Path) -> None:
    if len(classes) != num_classes:
        raise ValueError(
            f'{place} has {len(classes)} classes, not {num_classes}; put the whole set there, or '
            f'train on these by --config.data.num_classes={len(classes)}'
        )


def _listed(folder: Path, classes: Sequence[str], note: Callable[[bytes], None]) -> NamesAndLabels:
    """Lists the pictures of a split, class by class; calls `note` with names and sizes."""
    names, counts = [], []
    for name in classes:
        with os.scandir(folder / name) as entries:
            files = sorted(
                (f'{name}/{entry.name}', entry.stat().st_size)
                for entry in entries
                if not entry.name.startswith('.')
                and entry.name.lower().endswith(ENDINGS)
                and entry.is_file()
            )
        if not files:
            raise ValueError(
                f'{folder / name} holds no pictures ({", ".join(ENDINGS)}); put those of the class '
                'there'
            )
        note(os.fsencode(repr(files)))
        names.append(np.array([os.fsencode(path) for path, _ in files]))
        counts.append(len(files))
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return np.concatenate(names), labels


def _head(folder: Path, name: bytes) -> bytes:
    """Reads a file, or its start if it is larger than MAX_BYTES."""
    with (folder / os.fsdecode(name)).open('rb') as file:
        return file.read(MAX_BYTES + 1)


def _stored(dataset: records.Dataset, num_classes: int) -> PictureSet:
    """Opens the pictures that TFDS has prepared."""
    info, folder = dataset.builder.info, Path(dataset.builder.data_dir)
    _check_classes(dataset.classes, num_classes, folder)
    if missing := [split for split in SPLITS if split not in info.splits]:
        raise ValueError(
            f'{folder} has no split {missing[0]!r}, only {", ".join(info.splits)}; remove it and '
            'build it again from all archives'
        )
    splits = {}
    for split in SPLITS:
        # ours checks sizes, TFDS's decoder does not
        skip = {'image': tfds.decode.SkipDecoding()}
        source = dataset.builder.as_data_source(split, decoders=skip)
        splits[split] = Pictures(
            len(source),
            lambda source=source, split=split: _labels(source, f'{dataset.name}, {split}'),
            lambda index, source=source: source[index]['image'],
            folder / split,
            'remove the folder and build it again',
        )
    return PictureSet(
        dataset.name,
        dataset.classes,
        dataset.fingerprint,
        splits,
        fingerprint_by_size=dataset.fingerprint_by_size,
    )


def _labels(source: Sequence, where: str) -> NamesAndLabels:
    """Reads names and labels from all records, which takes minutes for a set of millions."""
    (name,) = {'filename', 'file_name'} & source[0].keys()

    def facts(index: int) -> tuple[bytes, int]:
        record = source[index]
        return record[name], record['label']

    rows = read_ahead(facts, range(len(source)))
    bar = tqdm(rows, total=len(source), desc=f'labels of {where}', unit='picture', leave=False)
    names, labels = zip(*bar, strict=True)
    return np.array(names), np.array(labels, np.int32)
