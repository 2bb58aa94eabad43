"""From a folder or table of one's own clips to a data set that every system reads."""

import collections
import hashlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from ml_collections import ConfigDict

from avsc_jax.data import media, records
from avsc_jax.data.builder.base import RecordBuilder
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import FolderFiles
from avsc_jax.data.sources import listing as own
from avsc_jax.runtime import download


def settle(config: ConfigDict) -> None:
    """What follows from the folder, the windows and the system: the name of the data set first."""
    data = config.data
    if data.folder:
        data.folder = str(Path(data.folder).expanduser().resolve())
        data.source = 'own'
    elif data.source != 'demo':
        raise ValueError(
            'no data was named; give --config.data.folder=FOLDER, which has a folder of files for '
            'each class, or is a CSV file with the columns path and label; the token demo takes '
            'made-up clips'
        )
    if not 0.5 <= data.window_s <= 60:
        raise ValueError(f'data.window_s is {data.window_s}; it must be 0.5 to 60 seconds')
    if data.on_error not in ('fail', 'skip'):
        raise ValueError(f'data.on_error is {data.on_error!r}; it must be fail or skip')
    if 'frames' in config:
        data.frames, data.short_side = config.frames, config.short_side
    if {'openl3_image', 'openl3_audio'} <= {*config.get('encoders', ())}:  # as many of both
        frames = media.pick_frames(config.frames, 1000, duration_s=data.window_s)
        config.encoders.openl3_audio.max_windows = len(frames)
    facts = [data.folder, data.needs, _options(config)]
    digest = hashlib.sha256(repr(facts).encode('utf-8', 'surrogateescape')).hexdigest()[:8]
    stem = re.sub(r'\W+', '_', Path(data.folder).stem, flags=re.ASCII)[:40] or 'made_up'
    data.config = f'{stem}-{digest}'
    config.paper = ConfigDict()  # nobody has published anything about these clips


def _options(config: ConfigDict) -> dict:
    """What a record holds: see WindowConfig."""
    data = config.data
    options = {'window_s': float(data.window_s), 'sample_rate_hz': data.sample_rate_hz}
    if 'picture' in data.needs:
        options |= {'frames': data.frames, 'short_side': data.short_side}
    return options


def prepare(config: ConfigDict, data_dir: Path) -> None:
    """Builds the data set, unless it is there and the files are those that it was built from."""
    data, place = config.data, _place(config, data_dir)
    built = records.is_prepared(data.name, data.config, data_dir)
    if built and not place.exists():
        print(f'{place} is not there; what was built of it is taken', file=sys.stderr)
        return
    listing = own.read(place, data.needs)
    lists = own.split(listing)
    print(told(listing, lists), file=sys.stderr)
    if built:
        found = records.open_dataset(data.name, data.config, data_dir).builder
        if found.info.metadata.get('listing') == listing.digest:
            return
        print(f'{place} has changed since; its data set is built again', file=sys.stderr)
        shutil.rmtree(found.data_dir)
    files = FolderFiles(listing.root)
    builder = OwnData(
        files=files,
        lists=lists,
        facts={'listing': listing.digest, 'groups': 'named' if listing.has_groups else 'files'},
        config=WindowConfig(name=data.config, **_options(config)),
        data_dir=data_dir,
    )
    builder.on_error = data.on_error
    tfds.disable_progress_bar()  # the builder shows its own
    try:
        builder.download_and_prepare()
    finally:  # what is encoded is kept, and not looked at again
        for note, clips in sorted(files.notes.items()):
            more = f' and {len(clips) - 1:,} more' if clips[1:] else ''
            print(f'note: {note}: {min(clips)}{more}', file=sys.stderr)


def told(listing: own.Listing, lists: dict[str, list[Clip]]) -> str:
    """How many files there are of each class and in each split, and what was left out."""
    counts = collections.Counter(item.scene for item in listing.items)
    lines = [
        f'{len(listing.items):,} files of {len(counts)} classes in {listing.place}: '
        + ', '.join(f'{scene} {counts[scene]:,}' for scene in listing.classes),
        'splits: ' + ', '.join(f'{split} {len(items):,}' for split, items in lists.items()),
    ]
    if not listing.has_groups:
        lines.append(
            'note: each file is a group of its own; where several are of one place or recording, '
            'name it, or the scores are too good: by folders in the class folders, or a column '
            'group'
        )
    if listing.left_out:
        lines.append(
            f'note: {len(listing.left_out):,} files in no class folder, or of other kinds, are '
            f'left out: {listing.left_out[0]}'
        )
    return '\n'.join(lines)


def _place(config: ConfigDict, data_dir: Path) -> Path:
    """The folder or table; the made-up clips are rendered where they are missing."""
    from tfds_tau import demo
    from tfds_tau.tfds_tau_dataset_builder import Builder

    if config.data.folder:
        return Path(config.data.folder)
    folder = data_dir / 'downloads' / f'tfds_tau_demo-{Builder.VERSION}'
    folder.parent.mkdir(parents=True, exist_ok=True)
    with download.locked(folder):
        return demo.render(folder) / 'meta.csv'


class OwnData(RecordBuilder):
    """Media of your own.

    Args:
      files: where the media are.
      lists: split -> its clips: train_inner, validation and test.
      facts: kept with the data set.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First version.'}
    MANUAL_DOWNLOAD_INSTRUCTIONS = None
    BUILDER_CONFIGS = []
    DEFAULT_BUILDER_CONFIG_NAME = None
    skip_flag = '--config.data.on_error=skip'

    def __init__(
        self,
        *,
        files: FolderFiles,
        lists: dict[str, list[Clip]],
        facts: dict[str, str],
        **kwargs: Any,
    ):
        self._own_files, self._own_lists, self._facts = files, lists, facts
        told = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # TFDS warns of every config that is made here
        super().__init__(**kwargs)
        logging.set_verbosity(told)

    @property
    def classes(self) -> list[str]:
        """Of all clips."""
        return sorted({clip.scene for clips in self._own_lists.values() for clip in clips})

    def _info(self) -> tfds.core.DatasetInfo:
        info = super()._info()
        info.metadata.update(self._facts)
        return info

    def clips(
        self, dl_manager: tfds.download.DownloadManager
    ) -> tuple[FolderFiles, dict[str, list[Clip]]]:
        """Those that were given."""
        return self._own_files, self._own_lists
