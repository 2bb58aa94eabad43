"""Data sets made of a user's own media: a folder or table of labelled clips."""

import collections
import hashlib
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from ml_collections import ConfigDict

from avsc_jax.data import folder_walk, label_kinds, media, records, split_words
from avsc_jax.data.builder.base import RecordBuilder, WindowConfig
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles
from avsc_jax.data.sources import listing
from avsc_jax.data.sources.source import DataSource, Forecast, build
from avsc_jax.data.sources.tfds import demo_media
from avsc_jax.runtime.files import locked
from avsc_jax.scenes import PLACES, SCENES
from avsc_jax.types import Kind


class Folder(DataSource):
    """Clips of the folder or table `data.folder`; the demo's media files if it is ''."""

    no_groups = (
        'no groups were named: if clips of one place or recording are both in train and in test, '
        'the scores are too good'
    )

    def choose(self, config: ConfigDict, data_dir: Path, *, named: bool) -> None:
        """Reads the folder's clips; the token demo makes only the networks small."""
        if config.data.source == 'auto':
            config.data.source = 'own'

    def settle(self, config: ConfigDict) -> None:
        """Checks the data section, and names the data set after all that its records depend on.

        An empty `data.needs` becomes what the files hold: sound, pictures or both.
        """
        data = config.data
        if not data.needs:  # what the files hold
            place, kind = Path(data.folder).expanduser().resolve(), label_kinds.kind_of(data)
            data.needs = listing.held(place, kind) if data.folder else tuple(listing.ENDINGS)
        if data.folder:
            data.folder = str(Path(data.folder).expanduser().resolve())
            data.source = 'own'
        elif data.source != 'demo':
            raise ValueError(
                'no data was named; give --config.data.folder=FOLDER, which has a folder of files '
                'for each class, or is a CSV file with the columns path and label; the token demo '
                'takes made-up clips'
            )
        if not 0.5 <= data.window_s <= 60:
            raise ValueError(f'data.window_s is {data.window_s}; it must be 0.5 to 60 seconds')
        if data.on_error not in ('fail', 'skip'):
            raise ValueError(f'data.on_error is {data.on_error!r}; it must be fail or skip')
        if 'frames' in config:
            data.frames, data.short_side = config.frames, config.short_side
        facts = [data.folder, data.needs, _options(data)]
        facts += [label_kinds.kind_of(data)] * (label_kinds.kind_of(data) != 'exclusive')
        digest = hashlib.sha256(repr(facts).encode('utf-8', 'surrogateescape')).hexdigest()[:8]
        stem = re.sub(r'\W+', '_', Path(data.folder).stem, flags=re.ASCII)[:40] or 'made_up'
        data.config = f'{stem}-{digest}'
        config.paper = ConfigDict()  # no scores are published for these clips

    def check(self, data: Mapping, data_dir: Path) -> None:
        """Raises ValueError or FileNotFoundError for a folder or table that cannot be split."""
        place = Path(data['folder'])
        if data['folder'] and (place.exists() or not self.is_prepared(data, data_dir)):
            self.lists(listed(data, place))

    def lists(self, listed: listing.Listing) -> dict[str, list[Clip]]:
        """Returns the clips of each split; raises ValueError if a class has none to train on."""
        return listing.split(listed)

    def command(self, data: Mapping, data_dir: Path) -> str:
        """Returns the command of a run, which builds the data set first."""
        return (
            'python -m avsc_jax.main --config=configs/own_data.py:SYSTEM '
            f'--config.data.folder=FOLDER --data_dir={data_dir}'
        )

    def prepare(self, config: ConfigDict, data_dir: Path) -> None:
        """Builds the data set, unless it is prepared from the same files; one process at a time."""
        place = data_dir / config.data.name / config.data.config
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place):
            self._prepare(config, data_dir)

    def _prepare(self, config: ConfigDict, data_dir: Path) -> None:
        data = config.data
        place = Path(data.folder) if data.folder else demo_media(data_dir) / 'meta.csv'
        built = self.is_prepared(data, data_dir)
        if built and not place.exists():
            print(f'{place} is missing; its data set was built before and is used', file=sys.stderr)
            return
        clips = listed(data, place)
        lists = self.lists(clips)
        print(summary(clips, lists), file=sys.stderr)
        if built:
            stored = records.open_dataset(data.name, data.config, data_dir).builder
            is_old = stored.version < OwnData.VERSION
            if not is_old and stored.info.metadata.get('listing') == clips.digest:
                return
            why = 'is read otherwise since version 1.1.0' if is_old else 'has changed since'
            print(f'{place} {why}; its data set is built again', file=sys.stderr)
            if not is_old:
                shutil.rmtree(stored.data_dir)
        builder = OwnData(
            files=FolderFiles(clips.root),
            lists=lists,
            kind=clips.kind,
            facts={'listing': clips.digest, 'groups': 'named' if clips.has_groups else 'files'},
            config=WindowConfig(name=data.config, **_options(data)),
            data_dir=data_dir,
        )
        builder.on_error = data.on_error
        build(builder)

    def identities(self, config: ConfigDict, data_dir: Path) -> tuple[str, ...] | None:
        """Returns the identities of the data set as it is now; see DataSource.identities.

        Files that have changed since the data set was built make another one.
        """
        data = config.data
        known = super().identities(config, data_dir)
        if known is None or not data.folder or not Path(data.folder).exists():
            return known
        stored = records.open_dataset(data.name, data.config, data_dir).builder
        now = listed(data, Path(data.folder))
        if stored.info.metadata.get('listing') == now.digest:
            return known
        name = known[0].split()[0]
        return tuple(f'{name} changed-since-it-was-built' for _ in known)

    def forecast(self, data: Mapping, data_dir: Path) -> Forecast:
        """Returns classes and numbers of files; a long file becomes several clips."""
        if not data['folder']:
            several = label_kinds.kind_of(data) == 'independent'
            names = sorted({*SCENES, *PLACES.values()}) if several else SCENES
            return Forecast(tuple(names), {})
        clips = listed(data, Path(data['folder']))
        parts = self.lists(clips)
        parts['train'] = parts['train_inner'] + parts['validation']
        stills = {
            split: sum(item.video.lower().endswith(media.PICTURES) for item in part)
            for split, part in parts.items()
        }
        return Forecast(clips.classes, {split: len(part) for split, part in parts.items()}, stills)

    def suffix(self, data: Mapping) -> str:
        return f'-{data["config"]}'

    def overrides(self, data: Mapping) -> tuple[str, ...]:
        same = ('folder', 'needs', 'frames', 'short_side', 'window_s', 'on_error')
        return tuple(f'--config.data.{name}={data[name]}' for name in same)

    def window_s(self, data: Mapping, dataset: records.Dataset | None = None) -> float:
        """Returns the length of the windows into which files are cut."""
        return float(data['window_s'])

    def warnings(self, data: Mapping, dataset: records.Dataset) -> list[str]:
        """Warns that clips of one recording may be in two splits."""
        has_none = dataset.builder.info.metadata.get('groups') == 'files'
        return super().warnings(data, dataset) + [self.no_groups] * has_none


def listed(data: Mapping, place: Path) -> listing.Listing:
    """Lists the files of a data section.

    Where files may have several labels, the demo's clips have their scene and its kind of place.

    Args:
      place: the folder or table of `data.folder`, or the demo's table.
    """
    kind = label_kinds.kind_of(data)
    if data['folder'] or kind == 'exclusive':
        return listing.read(place, data['needs'], kind)
    clips = listing.read(place, data['needs'])
    items = [i._replace(scene=tuple(sorted((i.scene, PLACES[i.scene])))) for i in clips.items]
    return clips._replace(items=items, kind=kind)


def _options(data: ConfigDict) -> dict[str, Any]:
    """Returns the fields of WindowConfig."""
    options = {'window_s': float(data.window_s), 'sample_rate_hz': data.sample_rate_hz}
    if 'picture' in data.needs:
        options |= {'frames': data.frames, 'short_side': data.short_side}
    return options


def summary(listed: listing.Listing, lists: Mapping[str, list[Clip]]) -> str:
    """Describes the numbers of files per class and split, and files that are left out."""
    counts = collections.Counter(name for item in listed.items for name in item.labels)
    what = 'classes' if listed.kind == 'exclusive' else 'labels'
    sizes = (f'{split_words.title(split)} {len(items):,}' for split, items in lists.items())
    lines = [
        f'{len(listed.items):,} files of {len(counts)} {what} in {listed.place}: '
        + ', '.join(f'{scene} {counts[scene]:,}' for scene in listed.classes),
        'splits: ' + ', '.join(sizes),
    ]
    if not listed.has_groups:
        lines.append(
            'note: each file is a group of its own; if several are of one place or recording, the '
            'scores are too good: group them by folders in the class folders, or by a column group'
        )
    if listed.left_out:
        astray, others = folder_walk.taken(listed.left_out, tuple(listing.ENDINGS))
        others |= {'files in no class folder': astray} if astray else {}
        lines += folder_walk.counted(others)
    notes = [*listed.notes, *listing.sparse(listed, lists)]
    lines += [f'note: {note}' for note in notes]
    return '\n'.join(lines)


class OwnData(RecordBuilder):
    """Media of your own.

    Args:
      files: media files of the clips.
      lists: clips of train_inner, validation and test.
      facts: metadata to store with the data set.
      kind: whether a clip has one label or several.
    """

    VERSION = tfds.core.Version('1.1.0')
    RELEASE_NOTES = {
        '1.0.0': 'First version.',
        '1.1.0': 'Files are read by their own clock; short ones keep their length.',
    }
    skip_flag = '--config.data.on_error=skip'

    def __init__(
        self,
        *,
        files: FolderFiles,
        lists: dict[str, list[Clip]],
        facts: dict[str, str],
        kind: Kind = 'exclusive',
        **kwargs: Any,
    ):
        self.kind = kind
        self._own_files, self._own_lists, self._facts = files, lists, facts
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # TFDS warns of each config made at run time
        super().__init__(**kwargs)
        logging.set_verbosity(verbosity)

    @property
    def classes(self) -> list[str]:
        """The sorted classes of all clips."""
        every = (clip for clips in self._own_lists.values() for clip in clips)
        return sorted({name for clip in every for name in clip.labels})

    def _info(self) -> tfds.core.DatasetInfo:
        info = super()._info()
        info.metadata.update(self._facts)
        return info

    def clips(
        self, dl_manager: tfds.download.DownloadManager
    ) -> tuple[FolderFiles, dict[str, list[Clip]]]:
        return self._own_files, self._own_lists
