"""TFDS builder of TAU Urban Audio-Visual Scenes 2021, and of a made-up set in the same layout.

It needs no TensorFlow: records are ArrayRecord files of FLAC and JPEG bytes, read with
`tfds.data_source` or `builder.as_data_source`.
"""

import collections
import dataclasses
import itertools
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_metadata
from tqdm import tqdm

from avsc_jax.runtime import download
from avsc_jax.runtime.files import link
from avsc_jax.scenes import SCENES
from tfds_tau import bad_media, demo, splits
from tfds_tau.clips import read as read_clip
from tfds_tau.files import MediaFiles
from tfds_tau.spool import Shard, Spool

CLIPS_PER_SHARD = 128  # about 400 MB
BYTES = tfds.features.Tensor(shape=(), dtype=np.object_)


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


class Builder(tfds.core.GeneratorBasedBuilder):
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
    workers: int | None = None  # threads that decode, one clip each; None: one for each core
    on_error: str = 'fail'  # or 'skip': leave clips out whose files are broken or missing
    skip_flag = '--on_error=skip'
    read = staticmethod(read_clip)  # of what the spool keeps

    def __init__(self, *, file_format: str | None = None, **kwargs: Any):
        # TFDS's own default, tfrecord, cannot be written without TensorFlow
        super().__init__(file_format=file_format or 'array_record', **kwargs)

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
        metadata = super().get_metadata()
        first_part = metadata.description.partition('\n## ')[0].strip()
        return dataclasses.replace(metadata, description=first_part)

    def download_and_prepare(self, **kwargs: Any) -> None:
        """TFDS's, by one process at a time; who comes second finds the data set finished."""
        folder = Path(self.data_path)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with download.locked(folder):
                # what a killed build left of TFDS's own; the spool holds all that is of use
                for left in folder.parent.glob(f'incomplete.*_{self.version}'):
                    shutil.rmtree(left)
                super().download_and_prepare(**kwargs)
        else:
            super().download_and_prepare(**kwargs)
        if not self.info.splits:  # another process has built it meanwhile
            self.info.read_from_directory(folder)
        shutil.rmtree(self._beside('spool'), ignore_errors=True)

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> list[tfds.core.SplitInfo]:
        """Builds through the spool; adds `train`, stored in `train_inner` and `validation`."""
        files, lists = self._sources(dl_manager)
        self._lists = {s: lists[s][: download_config.max_examples_per_split] for s in lists}
        folder = self._beside('spool') / self.info.file_format.value
        options = self.builder_config.options
        self._spool = Spool(folder, files, self.info.features, options, self.read)
        self._spool.forget_bad()
        bad_media.warn_of_missing(files, list(itertools.chain(*self._lists.values())))
        if download_config.beam_options or download_config.beam_runner:
            stored = super()._generate_splits(dl_manager, download_config)
            self._spool.check_filled(itertools.chain(*self._lists.values()))
            self._report()
        else:
            shards = {
                split: self._write_shards(split, clips, download_config.num_shards)
                for split, clips in self._lists.items()
            }
            self._report()
            stored = [self._linked(split, shards[split]) for split in shards]
        parts = [split for split in stored if split.name in splits.TRAIN_PARTS]
        return [_joined('train', parts), *stored] if parts else stored

    def _report(self) -> None:
        bad = self._spool.bad()
        self.info.metadata['left_out'] = [clip_id for clip_id, _ in bad]
        total, path = sum(map(len, self._lists.values())), self._beside('bad_media.tsv')
        bad_media.report(bad, total, path, skip=self.on_error == 'skip', flag=self.skip_flag)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(clips) for split, clips in self._lists.items()}

    def _generate_examples(self, clips: list[splits.Clip]) -> Any:
        """The way of many machines, which share the folders: a Beam transform."""
        import apache_beam as beam  # of the [beam] extra

        return beam.Create(enumerate(clips)) | beam.Reshuffle() | beam.FlatMap(self._spool.examples)

    def _sources(
        self, dl_manager: tfds.download.DownloadManager
    ) -> tuple[MediaFiles, dict[str, list[splits.Clip]]]:
        """The media, and which clips are in which split."""
        files = self._files(dl_manager)
        is_evaluation = self.builder_config.name.startswith('evaluation')
        return files, splits.evaluation(files) if is_evaluation else splits.development(files)

    def _files(self, dl_manager: tfds.download.DownloadManager) -> MediaFiles:
        if not self.builder_config.name.startswith('demo'):
            return MediaFiles(_manual_dir(dl_manager))
        folder = Path(dl_manager.download_dir) / f'tfds_tau_demo-{self.version}'
        with download.locked(folder):  # of all configs made of it
            return MediaFiles(demo.render(folder, workers=self.workers))

    def _write_shards(
        self, split: str, clips: list[splits.Clip], num_shards: int | None
    ) -> list[Shard]:
        """Encodes what the spool lacks, in threads, and merges it shard by shard."""
        length = math.ceil(len(clips) / num_shards) if num_shards else CLIPS_PER_SHARD
        groups = [clips[start : start + length] for start in range(0, len(clips), length)]
        finished = [self._spool.has_shard(group) for group in groups]
        todo = [c for group, done in zip(groups, finished, strict=True) if not done for c in group]
        filled = _ordered_map(self._spool.fill, todo, self.workers or os.cpu_count())
        write, shards = self._example_writer().write, []
        with tqdm(total=len(clips), desc=split, unit='clip', leave=False) as bar:
            for group, done in zip(groups, finished, strict=True):
                for _ in group:
                    if not done:
                        next(filled)
                    bar.update()
                shards.append(self._spool.merge(group, write))
        return [shard for shard in shards if shard]

    def _linked(self, split: str, shards: list[Shard]) -> tfds.core.SplitInfo:
        """Takes finished shards into the data set."""
        if not shards:
            raise ValueError(f'no clip of {split!r} has whole files; fetch them again')
        template = self._get_filename_template(split)
        for i, shard in enumerate(shards):
            target = template.sharded_filepath(shard_index=i, num_shards=len(shards))
            link(shard.path, Path(target))
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.num_examples for shard in shards],
            num_bytes=sum(shard.num_bytes for shard in shards),
            filename_template=template,
        )

    def _beside(self, name: str) -> Path:
        """A path next to the data set, also while TFDS builds under another name."""
        return Path(self.data_path).parent / f'{self.version}.{name}'


def record_features(classes: Sequence[str]) -> tfds.features.FeaturesDict:
    """What a record holds."""
    return tfds.features.FeaturesDict(
        {
            'clip_id': tfds.features.Text(),
            'segment': np.int32,  # the second of a one-second piece; -1: the whole clip
            'audio': BYTES,  # FLAC, two channels, at the source's bit depth
            'sample_rate': np.int32,
            'frames': tfds.features.Sequence(BYTES),  # JPEG
            'frame_index': tfds.features.Sequence(np.int32),
            'frame_times': tfds.features.Sequence(np.float32),
            'label': tfds.features.ClassLabel(names=classes),  # -1: unknown
            'city': tfds.features.Text(),
            'location': tfds.features.Text(),
        }
    )


def _joined(name: str, parts: list[tfds.core.SplitInfo]) -> tfds.core.SplitInfo:
    """A split whose shards are links to the shards of its parts, in order."""
    template = parts[0].filename_template.replace(split=name)
    shards = [
        part.filename_template.sharded_filepath(shard_index=i, num_shards=part.num_shards)
        for part in parts
        for i in range(part.num_shards)
    ]
    for i, shard in enumerate(shards):
        link = template.sharded_filepath(shard_index=i, num_shards=len(shards))
        Path(link).symlink_to(shard.name)
    lengths = [length for part in parts for length in part.shard_lengths]
    # no bytes of its own: TFDS adds up the splits to tell the data set's size
    return tfds.core.SplitInfo(
        name=name, shard_lengths=lengths, num_bytes=0, filename_template=template
    )


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> Path:
    try:
        return Path(dl_manager.manual_dir)
    except AssertionError as error:  # missing or empty, told by TFDS in a paragraph
        raise FileNotFoundError(
            'the folder with the TAU archives is missing or empty: put the zips of '
            'zenodo.org/records/4477542 (development) and 4767103 (evaluation) into '
            f'{dl_manager.download_dir / "manual"}, or name their folder by --manual_dir'
        ) from error


def _ordered_map(function: Callable, items: Iterable, workers: int) -> Iterator:
    """Like map(), in threads, with at most two results a worker held in memory."""
    pool, pending = ThreadPoolExecutor(workers), collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
