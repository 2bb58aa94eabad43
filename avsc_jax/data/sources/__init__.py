"""The data sets that a config may name, and how each is found, built and opened."""

import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from avsc_jax.data import media, records
from avsc_jax.data.builder.media_files import MediaFiles
from avsc_jax.data.sources import folder, pictures, tfds
from avsc_jax.data.sources.source import Source
from avsc_jax.data.sources.tfds import same_clips

__all__ = ['SOURCES', 'Source', 'find', 'media_files', 'named', 'open_dataset', 'same_clips']

# A name that is none of these is a module of the user's; see CONTRIBUTING.md, "Add a data set".
SOURCES: dict[str, Source] = {
    'tfds_tau': tfds.Tau(),
    'own_data': folder.Folder(),
    **{name: pictures.PictureSource(name) for name in pictures.SETS},
}


def find(name: str) -> Source:
    """The source of a data set: a row of the table, or a module that defines a builder."""
    return SOURCES.get(name) or tfds.Module(name, SOURCES)


def open_dataset(data: Mapping, data_dir: Path) -> records.Dataset:
    """Opens what a config's `data` section names, cut into folds where it names a `fold`."""
    return find(data['name']).open(data, data_dir)


def named(text: str, data_dir: Path) -> records.Dataset:
    """Opens CONFIG of tfds_tau, NAME/CONFIG, or NAME of a module whose builder has no configs."""
    name, slash, config = text.partition('/')
    if not slash:
        is_tau = records.is_prepared('tfds_tau', text, data_dir) or not tfds.is_module(text)
        name, config = ('tfds_tau', text) if is_tau else (text, '')
    return open_dataset({'name': name, 'config': config}, data_dir)


def media_files(
    dataset: records.Dataset, data_dir: Path, media_dir: Path | None
) -> Callable[[str], media.MediaFile]:
    """Clip id -> its video file, among those that the data set was built from.

    Args:
      media_dir: holds them, zipped or not; None: where the builder looks for them by itself.
    """
    lock = threading.Lock()

    @cache
    def files() -> MediaFiles:
        config = dataset.builder.builder_config
        source = SOURCES.get(dataset.builder.name, Source())
        folder = media_dir or source.media_dir(config.name if config else '', data_dir)
        if not folder.is_dir():
            raise FileNotFoundError(
                f'pictures are read from the video files, and there is no folder {folder}; name '
                'the one that holds them, or their zips, by --media_dir'
            )
        return MediaFiles(folder)

    def video(clip_id: str) -> media.MediaFile:
        with lock:  # many threads ask, one looks
            place = files()
        return place.source(f'video/{clip_id}.mp4')

    return video
