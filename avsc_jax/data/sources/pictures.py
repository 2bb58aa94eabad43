"""Sets of labelled pictures that image networks learn first: Places365 and ImageNet.

A picture is a record of one frame, so that what reads the frames of clips reads these too.

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

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from tqdm import tqdm

from avsc_jax.data import media, records
from avsc_jax.data.batches import read_ahead
from avsc_jax.data.sources.source import Forecast, Source

SETS = {'places365': 'places365_small', 'imagenet2012': 'imagenet2012'}  # -> what TFDS calls it
ARCHIVES = {
    'places365': 'extract places365standard_easyformat.tar of places2.csail.mit.edu there, or',
    'imagenet2012': 'put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar of image-net.org into '
    'its folder downloads/manual and',
}
PLACES_FOLDER = 'places365_standard'
SPLITS = {'train': 'train', 'validation': 'val'}  # -> its folder there
ENDINGS = ('.jpg', '.jpeg', '.png')
MAX_BYTES = 1 << 26  # of a picture's file, and none of these sets has one near it

Listing = tuple[np.ndarray, np.ndarray]  # names, bytes [N], and labels, int32 [N], of a split


class Pictures(Sequence):
    """One split, in the way of data.records.Records; safe to read from several threads.

    Names and labels are arrays, for there may be millions.

    Args:
      size: number of pictures.
      listing: is called once, when a name or a label is first needed.
      load: the bytes of a picture's file, at most MAX_BYTES + 1 of them.
      where: holds the pictures, in errors.
      remedy: what to do about a broken one, in errors.
    """

    def __init__(
        self,
        size: int,
        listing: Callable[[], Listing],
        load: Callable[[int], bytes],
        where: Path,
        remedy: str,
    ):
        self._size, self._list, self._load = size, listing, load
        self._where, self._remedy = where, remedy

    @cached_property
    def _listing(self) -> Listing:
        return self._list()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> dict:
        """The record's fields; its only frame, uint8 RGB `[H, W, 3]`, is in the list `frames`."""
        return self.outline(index) | {'frames': [self.frame(index, 0)]}

    def outline(self, index: int) -> dict:
        """What is known of a record without decoding its picture."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        names, labels = self._listing
        name, label = os.fsdecode(names[index]), int(labels[index])
        return {'clip_id': name, 'segment': -1, 'label': label, 'num_frames': 1}

    def frame(self, index: int, number: int) -> np.ndarray:
        """The picture, of whatever colours it was, as uint8 RGB `[H, W, 3]`."""
        try:
            if len(data := self._load(index)) > MAX_BYTES:
                raise ValueError(f'it has more than {MAX_BYTES:,} bytes')
            return media.decode_jpeg(data)
        except Exception as error:  # array_record and Pillow raise many kinds
            path = self._where / self.outline(index)['clip_id']
            raise ValueError(f'{path} is no whole picture ({error}); {self._remedy}') from error


class Outlines(Sequence):
    """The outlines of a split, each made when it is asked for."""

    def __init__(self, pictures: Pictures):
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> dict:
        return self._pictures.outline(index)


@dataclasses.dataclass(frozen=True)
class PictureSet:
    """A set on disk, in the way of data.records.Dataset; its splits are those of SPLITS."""

    name: str
    classes: tuple[str, ...]
    fingerprint: str  # changes with the content
    splits: Mapping[str, Pictures]
    left_out: tuple[str, ...] = ()

    def num_records(self, split: str) -> int:
        return len(self.records(split))

    def records(self, split: str, *, fields: tuple[str, ...] = ('frames',)) -> Pictures:
        """Opens a split; there are no fields to choose from."""
        if split not in self.splits:
            raise ValueError(f'{self.name} has no split {split!r}; it has {", ".join(self.splits)}')
        return self.splits[split]

    def outlines(self, split: str) -> Outlines:
        """What there is to read of each record of a split."""
        return Outlines(self.records(split))

    def title(self, split: str) -> str:
        """What a report calls a split."""
        return split


class PictureSource(Source):
    """A set of pictures, which others have put there; no run builds it.

    Args:
      name: one of SETS.
    """

    has_folds = False

    def __init__(self, name: str):
        self.name = name

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """The pictures, with small networks where the demo is asked for."""
        if config.data.source == 'auto':
            config.data.source = 'tau'

    def is_prepared(self, data: Mapping, data_dir: Path) -> bool:
        """Whether something is there that claims to be the set; opening it tells if it is."""
        has_folder = self.name == 'places365' and os.path.lexists(data_dir / PLACES_FOLDER)
        return has_folder or records.is_prepared(SETS[self.name], '', data_dir)

    def command(self, data: Mapping, data_dir: Path) -> str:
        """TFDS's own."""
        return f'tfds build {SETS[self.name]} --file_format=array_record --data_dir={data_dir}'

    def open(self, data: Mapping, data_dir: Path) -> PictureSet:
        """Opens the set; its folder, where there is one, is listed now."""
        if not self.is_prepared(data, data_dir):
            raise self._missing(data, data_dir)
        if self.name == 'places365' and os.path.lexists(folder := data_dir / PLACES_FOLDER):
            return _folder(folder, data['num_classes'])
        return _stored(records.open_dataset(SETS[self.name], '', data_dir), data['num_classes'])

    def forecast(self, data: Mapping, data_dir: Path) -> Forecast:
        """An error: no run builds the set."""
        raise self._missing(data, data_dir)

    def _missing(self, data: Mapping, data_dir: Path) -> FileNotFoundError:
        return FileNotFoundError(
            f'{self.name} is not in {data_dir}: {ARCHIVES[self.name]} run, after '
            f'pip install "avsc_jax[tf]": {self.command(data, data_dir)}'
        )

    def warnings(self, data: Mapping, dataset: PictureSet) -> list[str]:
        """None: the pictures are real, also with the token demo."""
        return []

    def has_one_frame(self, data: Mapping) -> bool:
        """A picture."""
        return True


def _folder(folder: Path, num_classes: int) -> PictureSet:
    """Pictures in a folder for each class."""
    classes, others = (_class_names(folder / part) for part in SPLITS.values())
    _check_classes(classes, num_classes, folder)
    if unlike := sorted({*classes} ^ {*others}):
        raise ValueError(
            f'{len(unlike)} classes, such as {unlike[0]!r}, are in only one of '
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
            f'{folder} is no folder; {folder.parent} must hold {" and ".join(SPLITS.values())}, '
            'with a folder of pictures for each class'
        )
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))


def _check_classes(classes: Sequence[str], num_classes: int, place: Path) -> None:
    if len(classes) != num_classes:
        raise ValueError(
            f'{place} has {len(classes)} classes, not {num_classes}; put the whole set there, or '
            f'train on what is there by --config.data.num_classes={len(classes)}'
        )


def _listed(folder: Path, classes: Sequence[str], note: Callable[[bytes], None]) -> Listing:
    """The pictures of a split, class by class; `note` is told their names and sizes."""
    names, counts = [], []
    for name in classes:
        with os.scandir(folder / name) as entries:
            found = sorted(
                (f'{name}/{entry.name}', entry.stat().st_size)
                for entry in entries
                if entry.name.lower().endswith(ENDINGS) and entry.is_file()
            )
        if not found:
            raise ValueError(
                f'{folder / name} holds no pictures ({", ".join(ENDINGS)}); put those of the class '
                'there'
            )
        note(os.fsencode(repr(found)))
        names.append(np.array([os.fsencode(path) for path, _ in found]))
        counts.append(len(found))
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return np.concatenate(names), labels


def _head(folder: Path, name: bytes) -> bytes:
    with (folder / os.fsdecode(name)).open('rb') as file:
        return file.read(MAX_BYTES + 1)


def _stored(dataset: records.Dataset, num_classes: int) -> PictureSet:
    """Pictures that TFDS has prepared."""
    info, folder = dataset.builder.info, Path(dataset.builder.data_dir)
    _check_classes(dataset.classes, num_classes, folder)
    if lacking := [split for split in SPLITS if split not in info.splits]:
        raise ValueError(
            f'{folder} has no split {lacking[0]!r}, only {", ".join(info.splits)}; remove it and '
            'build it again from all archives'
        )
    splits = {}
    for split in SPLITS:
        # TFDS's own decoder trusts the files
        skip = {'image': tfds.decode.SkipDecoding()}
        source = dataset.builder.as_data_source(split, decoders=skip)
        splits[split] = Pictures(
            len(source),
            lambda source=source, split=split: _labels(source, f'{dataset.name}, {split}'),
            lambda index, source=source: source[index]['image'],
            folder / split,
            'remove the folder and build it again',
        )
    return PictureSet(dataset.name, dataset.classes, dataset.fingerprint, splits)


def _labels(source: Sequence, where: str) -> Listing:
    """Names and labels, for which all records are read: minutes, of a set of millions."""
    (name,) = {'filename', 'file_name'} & source[0].keys()

    def facts(index: int) -> tuple[bytes, int]:
        record = source[index]
        return record[name], record['label']

    found = read_ahead(facts, range(len(source)))
    bar = tqdm(found, total=len(source), desc=f'labels of {where}', unit='picture', leave=False)
    names, labels = zip(*bar, strict=True)
    return np.array(names), np.array(labels, np.int32)
