"""The table of data sets that a config may name; finds and opens them."""

import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from avsc_jax.data import media, records
from avsc_jax.data.builder.media_files import MediaFiles
from avsc_jax.data.sources import folder, media_set, pictures, tfds
from avsc_jax.data.sources.source import DataSource
from avsc_jax.data.sources.tfds import same_clips

__all__ = ['SOURCES', 'DataSource', 'find', 'media_files', 'named', 'open_dataset', 'same_clips']

# A name that is none of these is a module of the user's; see CONTRIBUTING.md, "Add a data set".
SOURCES: dict[str, DataSource] = {
    'tfds_tau': tfds.Tau(),
    'own_data': folder.Folder(),
    'own_media': media_set.OwnMedia(),
    **{name: pictures.PictureSource(name) for name in pictures.SETS},
}


def find(name: str) -> DataSource:
    """Returns the source of a data set: a row of SOURCES, or a module that defines a builder."""
    return SOURCES.get(name) or tfds.Module(name, SOURCES)


def open_dataset(data: Mapping, data_dir: Path) -> records.Dataset:
    """Opens the data set that a config's `data` section names, cut into folds if it names one."""
    return find(data['name']).open(data, data_dir)


def named(text: str, data_dir: Path) -> records.Dataset:
    """Opens CONFIG of tfds_tau, NAME/CONFIG, or NAME of a module whose builder has no configs."""
    name, slash, config = text.partition('/')
    if not slash:
        is_tau = records.is_prepared('tfds_tau', text, data_dir) or not tfds.is_module(text)
        name, config = ('tfds_tau', text) if is_tau else (text, '')
    return open_dataset({'name': name, 'config': config}, data_dir)


class Videos:
    """The video files that the records of a data set were built from; see `media_files`."""

    def __init__(self, dataset: records.Dataset, data_dir: Path, media_dir: Path | None):
        self._dataset, self._data_dir, self._media_dir = dataset, data_dir, media_dir
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple:
        return Videos, (self._dataset, self._data_dir, self._media_dir)

    def __call__(self, clip_id: str) -> media.MediaFile:
        """Returns the video file of a clip."""
        with self._lock:  # only one of many threads lists the files
            files = self._files
        return files.source(f'video/{clip_id}.mp4')

    def stamp(self, clip_id: str) -> list[int]:
        """Returns numbers that change with a clip's video; none if the files are not there."""
        try:
            with self._lock:
                return self._files.stamp(f'video/{clip_id}.mp4', inode=True)
        except FileNotFoundError:
            return []

    @cached_property
    def _files(self) -> MediaFiles:
        config = self._dataset.builder.builder_config
        source = SOURCES.get(self._dataset.builder.name, DataSource())
        folder = self._media_dir or source.media_dir(config.name if config else '', self._data_dir)
        if not folder.is_dir():
            raise FileNotFoundError(
                f'pictures are read from the video files, and their folder {folder} is missing; '
                'name the folder of the files, or of their zips, by --media_dir'
            )
        return MediaFiles(folder)


def media_files(dataset: records.Dataset, data_dir: Path, media_dir: Path | None) -> Videos:
    """Returns a function from a clip id to the video file that its record was built from.

    Args:
      media_dir: folder of the video files, zipped or not; None for the builder's own.
    """
    return Videos(dataset, data_dir, media_dir)
