"""TFDS builder of one's own labelled media, with the records and by the way of tfds_tau."""

import dataclasses
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import dataset_metadata

from tfds_tau import own_clips
from tfds_tau.own_clips import OwnClip, OwnFiles
from tfds_tau.tfds_tau_dataset_builder import Builder, record_features


@dataclasses.dataclass(eq=False)
class OwnConfig(tfds.core.BuilderConfig):
    """What a record holds; see own_clips.read."""

    frames: str = 'clip12'
    short_side: int = 448
    window_s: float = 10.0
    sample_rate_hz: int = 48000

    @property
    def options(self) -> dict:
        """See tfds_tau_dataset_builder.Config."""
        names = ('frames', 'short_side', 'window_s', 'sample_rate_hz')
        return {name: getattr(self, name) for name in names}


class OwnData(Builder):
    """Labelled sounds, pictures, or clips of both, in the records of tfds_tau.

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
    read = staticmethod(own_clips.read)

    def __init__(
        self,
        *,
        files: OwnFiles,
        lists: dict[str, list[OwnClip]],
        facts: dict[str, str],
        **kwargs: Any,
    ):
        self._own_files, self._own_lists, self._facts = files, lists, facts
        told = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # TFDS warns of every config that is made here
        super().__init__(**kwargs)
        logging.set_verbosity(told)

    def _info(self) -> tfds.core.DatasetInfo:
        classes = sorted({clip.scene for clips in self._own_lists.values() for clip in clips})
        return self.dataset_info_from_configs(
            features=record_features(classes),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(left_out=[], **self._facts),
        )

    @classmethod
    def get_metadata(cls) -> dataset_metadata.DatasetMetadata:
        """Nothing is published about the data."""
        return dataset_metadata.DatasetMetadata('Media of your own.', citation='', tags=[])

    def _sources(
        self, dl_manager: tfds.download.DownloadManager
    ) -> tuple[OwnFiles, dict[str, list[OwnClip]]]:
        return self._own_files, self._own_lists
