"""TFDS builder of TAU Urban Audio-Visual Scenes 2021, and of a made-up set in the same layout.

It needs no TensorFlow: records are ArrayRecord files of FLAC and JPEG bytes, read with
`tfds.data_source` or `builder.as_data_source`.
"""

import collections
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from avsc_jax.data import media
from avsc_jax.scenes import SCENES, parse_clip_id
from tfds_tau import demo, splits
from tfds_tau.files import MediaFiles

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


class Builder(tfds.core.GeneratorBasedBuilder):
    """Clips of ten urban scenes: sound as FLAC, pictures as JPEG, at the times a config picks."""

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': "First version: fold 1, the baseline's inner split, a made-up demo."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        'Put the zips of zenodo.org/records/4477542 (development) and 4767103 (evaluation), packed '
        'or extracted, into one folder and name it by --manual_dir. `demo` needs none.'
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

    def __init__(self, *, file_format: str | None = None, **kwargs: Any):
        # TFDS's own default, tfrecord, cannot be written without TensorFlow
        super().__init__(file_format=file_format or 'array_record', **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    'clip_id': tfds.features.Text(),
                    'segment': np.int32,  # the second of a one-second piece; -1: the whole clip
                    'audio': BYTES,  # FLAC, two channels, at the source's bit depth
                    'sample_rate': np.int32,
                    'frames': tfds.features.Sequence(BYTES),  # JPEG
                    'frame_index': tfds.features.Sequence(np.int32),
                    'frame_times': tfds.features.Sequence(np.float32),
                    'label': tfds.features.ClassLabel(names=SCENES),  # -1: unknown
                    'city': tfds.features.Text(),
                    'location': tfds.features.Text(),
                }
            ),
            homepage='https://zenodo.org/records/4477542',
            license='Free for non-commercial use; see the licence in the TAU archives.',
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        if self.builder_config.name == 'demo':
            folder = Path(dl_manager.download_dir) / f'tfds_tau_demo-{self.version}'
            demo.render(folder, workers=self.workers)
        else:
            folder = _manual_dir(dl_manager)
        files = MediaFiles(folder)
        is_evaluation = self.builder_config.name.startswith('evaluation')
        lists = splits.evaluation(files) if is_evaluation else splits.development(files)
        return {split: self._generate_examples(files, split, lists[split]) for split in lists}

    def _generate_examples(
        self, files: MediaFiles, split: str, clips: list[splits.Clip]
    ) -> Iterator[tuple[str, dict]]:
        read = functools.partial(_records, files, self.builder_config)
        with tqdm(total=len(clips), desc=split, unit='clip', leave=False) as bar:
            for records in _ordered_map(read, clips, self.workers or os.cpu_count()):
                yield from records
                bar.update()

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> list[tfds.core.SplitInfo]:
        """Adds `train`, whose clips are stored once, in `train_inner` and `validation`."""
        stored = super()._generate_splits(dl_manager, download_config)
        parts = [split for split in stored if split.name in splits.TRAIN_PARTS]
        return [_joined('train', parts), *stored] if parts else stored


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


def _records(files: MediaFiles, config: Config, clip: splits.Clip) -> list[tuple[str, dict]]:
    """Reads one clip into its keyed records: one, or one a second."""
    source = files.source(clip.audio)
    samples, rate = media.read_audio(source)
    bits = media.audio_bit_depth(source)
    pictures = media.read_frames(
        files.source(clip.video), config.frames, short_side=config.short_side
    )
    name = parse_clip_id(clip.clip_id)
    shared = {
        'clip_id': clip.clip_id,
        'sample_rate': rate,
        'label': clip.scene or -1,
        'city': name.city if name else '',
        'location': name.location if name else '',
    }

    def record(segment: int, sound: np.ndarray, chosen: slice) -> dict:
        return shared | {
            'segment': segment,
            'audio': media.encode_flac(sound, rate, bits),
            'frames': [media.encode_jpeg(image) for image in pictures.images[chosen]],
            'frame_index': pictures.index[chosen],
            'frame_times': pictures.times_s[chosen],
        }

    if not config.seconds:
        return [(clip.clip_id, record(-1, samples, slice(None)))]
    if len(samples) <= (len(pictures.images) - 1) * rate:
        raise ValueError(
            f'{clip.audio} lasts {len(samples) / rate:.1f} s, its pictures about '
            f'{len(pictures.images)} s; they should be equally long'
        )
    return [
        (f'{clip.clip_id}-{k}', record(k, samples[k * rate : (k + 1) * rate], slice(k, k + 1)))
        for k in range(len(pictures.images))
    ]


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
