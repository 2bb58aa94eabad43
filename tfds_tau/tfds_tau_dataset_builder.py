"""TFDS builder of TAU Urban Audio-Visual Scenes 2021, and of a made-up set in the same layout.

It needs no TensorFlow: records are ArrayRecord files of FLAC and JPEG bytes, read with
`tfds.data_source` or `builder.as_data_source`.
"""

import dataclasses
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_metadata

from avsc_jax.data.builder import clip_reader
from avsc_jax.data.builder.base import RecordBuilder, record_features
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import MediaFiles
from avsc_jax.runtime.files import locked
from avsc_jax.scenes import SCENES
from tfds_tau import demo, splits


@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    """Which frames a record holds, and how large.

    Attributes:
      frames: a rule of media.FRAME_RULES.
      short_side: larger pictures are scaled down to it.
      seconds: one record a second with its one frame, instead of one a clip.
    """

    frames: str = 'clip12'
    short_side: int = 448
    seconds: bool = False

    @property
    def options(self) -> dict:
        """What the content of a record depends on, besides its clip."""
        return dict(frames=self.frames, short_side=self.short_side, seconds=self.seconds)


class Builder(RecordBuilder):
    """Clips of ten urban scenes: sound as FLAC, pictures as JPEG, at the times a config picks."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': "First version: fold 1, the baseline's inner split, a made-up demo."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        'Put the zips of zenodo.org/records/4477542 (development) and 4767103 (evaluation), packed '
        'or extracted, into one folder and name it by --manual_dir. The demo needs none.'
    )
    DEFAULT_BUILDER_CONFIG_NAME = 'clips'
    BUILDER_CONFIGS = [
        Config(name='demo', description='200 made-up clips of 10 s: sound, 12 frames.'),
        Config(name='clips', description='Development set, 10 s clips: sound, 12 frames.'),
        Config(
            name='segments',
            description='Development set, 1 s pieces: sound, the centre frame.',
            frames='second_centres',
            short_side=480,
            seconds=True,
        ),
        Config(
            name='demo_segments',
            description='The made-up clips, 1 s pieces: sound, the centre frame.',
            frames='second_centres',
            seconds=True,
        ),
        Config(
            name='frames10',
            description='Development set, 10 s clips: sound, frames at 0.4, 1.4 ... 9.4 s.',
            frames='hou',
        ),
        Config(
            name='evaluation',
            description='Evaluation set, 1 s items without labels: sound, 5 frames.',
            frames='evaluation5',
        ),
        Config(
            name='evaluation_hou',
            description='Evaluation set, 1 s items without labels: sound, 10 frames.',
            frames='hou',
        ),
    ]
    skip_flag = '--on_error=skip'
    read = staticmethod(clip_reader.read)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=record_features(SCENES),
            homepage='https://zenodo.org/records/4477542',
            license='Free for non-commercial use; see the licence in the TAU archives.',
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(left_out=[]),  # ids of clips whose files are bad
        )

    @classmethod
    def get_metadata(cls) -> dataset_metadata.DatasetMetadata:
        """TFDS's, which takes the README for the description; its first part is one."""
        metadata = super(RecordBuilder, cls).get_metadata()
        first_part = metadata.description.partition('\n## ')[0].strip()
        return dataclasses.replace(metadata, description=first_part)

    def clips(
        self, dl_manager: tfds.download.DownloadManager
    ) -> tuple[MediaFiles, dict[str, list[Clip]]]:
        """The media, and which clips are in which split."""
        files = self._files(dl_manager)
        is_evaluation = self.builder_config.name.startswith('evaluation')
        return files, splits.evaluation(files) if is_evaluation else splits.development(files)

    def _files(self, dl_manager: tfds.download.DownloadManager) -> MediaFiles:
        if not self.builder_config.name.startswith('demo'):
            return MediaFiles(_manual_dir(dl_manager))
        folder = Path(dl_manager.download_dir) / f'tfds_tau_demo-{self.version}'
        with locked(folder):  # of all configs made of it
            return MediaFiles(demo.render(folder, workers=self.workers))


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> Path:
    try:
        return Path(dl_manager.manual_dir)
    except AssertionError as error:  # missing or empty, told by TFDS in a paragraph
        raise FileNotFoundError(
            'the folder with the TAU archives is missing or empty: put the zips of '
            'zenodo.org/records/4477542 (development) and 4767103 (evaluation) into '
            f'{dl_manager.download_dir / "manual"}, or name their folder by --manual_dir'
        ) from error
