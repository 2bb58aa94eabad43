"""A user's own media files as a data set that is read directly: no records are written.

A file is a record, whose windows are decoded one by one when its features are made, in processes
of their own under limits of time and memory.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

from ml_collections import ConfigDict

from avsc_jax.data import media, split_words
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.decode_workers import MAX_WORKERS, Readers
from avsc_jax.data.sources import listing
from avsc_jax.data.sources.folder import Folder, listed, summary
from avsc_jax.data.sources.source import DataSource, Forecast
from avsc_jax.data.sources.tfds import demo_media
from avsc_jax.data.windows import Wants
from avsc_jax.runtime import nearest
from avsc_jax.runtime.files import printable
from avsc_jax.types import Kind

SHARES = {'train_inner': 0.8, 'test': 0.2}  # cross-validation needs no split of its own
SKIP = '--config.data.on_error=skip'


class OwnMedia(Folder):
    """The files of the folder or table `data.folder`, read directly; the demo's if it is ''."""

    has_folds = False

    def command(self, data: Mapping, data_dir: Path) -> str:
        """Returns the command of a run, which reads the files."""
        return super().command(data, data_dir).replace('SYSTEM', 'probe')

    def lists(self, listed: listing.Listing) -> dict[str, list[Clip]]:
        """Returns the clips of each split, without one for validation."""
        return listing.split(listed, SHARES)

    def is_prepared(self, data: Mapping, data_dir: Path) -> bool:
        """Returns whether the files are there; of the demo, which a run renders, never."""
        return bool(data['folder']) and Path(data['folder']).exists()

    def prepare(self, config: ConfigDict, data_dir: Path) -> None:
        """Prints what the files are."""
        opened = self.open(config.data, data_dir)
        lists = {name: opened.splits[name] for name in ('train', 'test')}
        print(summary(opened.listed, lists), file=sys.stderr)

    def open(self, data: Mapping, data_dir: Path) -> 'MediaSet':
        """Lists the files; renders the demo's if they are missing."""
        place = Path(data['folder']) if data['folder'] else demo_media(data_dir) / 'meta.csv'
        has_pictures = 'picture' in data['needs']
        wants = Wants(
            audio='sound' in data['needs'],
            frames=data['frames'] if has_pictures else None,
            short_side=data['short_side'] if has_pictures else None,
            media=None,
            window_s=float(data['window_s']),
        )
        files = listed(data, place)
        name = f'{data["name"]}/{data["config"]}'
        return MediaSet(name, files, self.lists(files), wants, data['on_error'] == 'skip')

    def identities(self, config: ConfigDict, data_dir: Path) -> tuple[str, ...] | None:
        """Returns the identities of the files as they are now; None if they are not there."""
        return DataSource.identities(self, config, data_dir)

    def forecast(self, data: Mapping, data_dir: Path) -> Forecast:
        """Returns the demo's classes, or raises FileNotFoundError for files that are missing."""
        if data['folder']:
            listed(data, Path(data['folder']))
        return DataSource.forecast(self, data, data_dir)

    def warnings(self, data: Mapping, dataset: 'MediaSet') -> list[str]:
        """Warns that files of one recording may be in two splits."""
        made_up = DataSource.warnings(self, data, dataset)
        return made_up + [self.no_groups] * (not dataset.listed.has_groups)


class MediaSet:
    """Labelled media files, used like data.records.Dataset.

    Attributes:
      name: of the data set.
      listed: its files.
      wants: what is decoded of them.
      left_out: ids of files that could not be read.
    """

    def __init__(
        self,
        name: str,
        listed: listing.Listing,
        lists: Mapping[str, list[Clip]],
        wants: Wants,
        skip: bool,
    ):
        self.name, self.listed, self.wants, self._skip = name, listed, wants, skip
        self.splits = {**lists, 'train': lists['train_inner'] + lists['validation']}
        self.left_out: list[str] = []

    @property
    def classes(self) -> tuple[str, ...]:
        return self.listed.classes

    @property
    def kind(self) -> Kind:
        """Whether a file has one of the classes, or several; see `data.label_kinds`."""
        return self.listed.kind

    @cached_property
    def fingerprint(self) -> str:
        """A digest of names, labels, groups and splits, and of size and time of each file."""
        return f'files:{self.listed.digest}'

    @property
    def identities(self) -> tuple[str, ...]:
        """Its names in a run's `environment.json`; see data.records.Dataset."""
        return (f'{self.name} {self.fingerprint}',) * 2

    def num_records(self, split: str) -> int:
        return len(self.records(split))

    def records(self, split: str, *, fields: tuple[str, ...] = ('audio', 'frames')) -> 'Files':
        """Opens a split, such as 'train' or 'train+test'."""
        known = self.splits
        if unknown := [part for part in split.split('+') if part not in known]:
            meant = nearest.meant(unknown[0], known)
            raise ValueError(
                f'{self.name} has no split {unknown[0]!r}; it has {", ".join(known)}{meant}'
            )
        clips = [clip for part in split.split('+') for clip in known[part]]
        audio, frames = self.wants.audio, self.wants.frames
        wants = dataclasses.replace(
            self.wants,
            audio=audio and 'audio' in fields,
            frames=frames if 'frames' in fields else None,
        )
        return Files(clips, self.listed.root, self.classes, wants, skip=self._skip)

    def outlines(self, split: str) -> list[dict]:
        """Returns the outline of each file of a split."""
        opened = self.records(split)
        return [opened.outline(index) for index in range(len(opened))]

    def title(self, split: str) -> str:
        return split_words.title(split)


class Files(Sequence):
    """The media files of one split, used like data.records.Records; safe to read from threads.

    `num_threads` is how many should read: a file of several windows has a process meanwhile.

    Args:
      clips: the files' names below `root`, and their classes.
      wants: what is decoded.
      skip: a file that cannot be read has no windows, with a note; else it is a ValueError.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        root: Path,
        classes: Sequence[str],
        wants: Wants,
        *,
        skip: bool,
    ):
        self._clips, self._root, self._wants, self._skip = clips, root, wants, skip
        self._label_of = {scene: label for label, scene in enumerate(classes)}
        self._readers = cache(Readers)
        self.num_threads = min(os.cpu_count() or 1, MAX_WORKERS)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> dict:
        """Returns the fields of `outline`, and `windows`, an iterator that decodes the file."""
        return self.outline(index) | {'windows': self._windows(self._clips[index])}

    def outline(self, index: int) -> dict:
        """Returns a record's plain fields; `num_frames` is 1 for a still, and 0 for what is not."""
        clip = self._clips[index]
        numbers = [self._label_of[name] for name in clip.labels]
        label = sorted(numbers) if isinstance(clip.scene, tuple) else numbers[0]
        facts = {'clip_id': clip.clip_id, 'segment': -1, 'label': label}
        is_still = clip.video.lower().endswith(media.PICTURES)
        return facts | {'city': '', 'location': clip.group, 'num_frames': int(is_still)}

    def _windows(self, clip: Clip) -> Iterator[dict]:
        """Yields the windows of a clip's file, or of its sound and then of its picture file."""
        files = {clip.audio: {'audio': self._wants.audio and bool(clip.audio)}}
        files.setdefault(clip.video, {})['frames'] = self._wants.frames if clip.video else None
        for name, wanted in files.items():
            wants = dataclasses.replace(self._wants, **{'audio': False, 'frames': None} | wanted)
            if not (wants.audio or wants.frames):
                continue
            try:
                yield from self._readers(wants).windows(self._root / name)
            except ValueError as error:
                if not self._skip:
                    raise ValueError(
                        f'{error}; mend the file or remove it, or leave out what cannot be read by '
                        f'{SKIP}'
                    ) from error
                print(printable(f'note: not read: {error}'), file=sys.stderr)
