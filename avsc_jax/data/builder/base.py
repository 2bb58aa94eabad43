"""A TFDS builder of records: sound as FLAC, pictures as JPEG, in ArrayRecord files.

It needs no TensorFlow: `tfds.data_source` or `builder.as_data_source` read the files.
"""

import collections
import dataclasses
import inspect
import itertools
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_metadata
from tqdm import tqdm

from avsc_jax.data import content, label_kinds, split_words
from avsc_jax.data.builder import bad_media
from avsc_jax.data.builder.clip_reader import Clip, read_windows
from avsc_jax.data.builder.media_files import FolderFiles, MediaFiles
from avsc_jax.data.builder.spool import Shard, Spool
from avsc_jax.runtime import cli, disk
from avsc_jax.runtime.files import link, locked, some
from avsc_jax.types import Kind

CLIPS_PER_SHARD = 128  # about 400 MB
TRAIN_PARTS = ('train_inner', 'validation')
BYTES = tfds.features.Tensor(shape=(), dtype=np.object_)


@dataclasses.dataclass(eq=False)
class WindowConfig(tfds.core.BuilderConfig):
    """Settings of records that are windows of sound and of pictures.

    Attributes:
      frames: rule of media.FRAME_RULES that picks the pictures.
      short_side: larger pictures are scaled down to this short side in pixels.
      window_s: length of the windows into which longer files are cut.
    """

    frames: str = 'clip12'
    short_side: int = 448
    window_s: float = 10.0
    sample_rate_hz: int = 48000

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `read`: what a record's content depends on besides its clip."""
        names = ('frames', 'short_side', 'window_s', 'sample_rate_hz')
        return {name: getattr(self, name) for name in names}


class RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes clips as records, by threads or Beam; a killed build continues where it stopped.

    A data set is a subclass with a VERSION, the names of its `classes`, and `clips`. Its docstring
    is the description that is stored.

    Attributes:
      kind: 'exclusive' where a clip has one class; 'independent' where `Clip.scene` is a tuple.
      workers: number of decoding threads; None for one per core.
      on_error: 'skip' leaves out clips whose files are broken or missing; 'fail' raises.
      skip_flag: how a user asks for 'skip', for the error.
      read: files, clip and the config's options -> records of the clip; raises BadMedia.
    """

    classes: Sequence[str]
    kind: Kind = 'exclusive'
    workers: int | None = None
    on_error: str = 'fail'
    skip_flag = "on_error = 'skip' in the builder's class"
    read: Callable[..., list[dict]] = staticmethod(read_windows)

    def __init__(self, *, file_format: str | None = None, **kwargs: Any):
        # TFDS's own default, tfrecord, cannot be written without TensorFlow
        super().__init__(file_format=file_format or 'array_record', **kwargs)

    def clips(
        self, dl_manager: tfds.download.DownloadManager
    ) -> tuple[MediaFiles | FolderFiles, dict[str, list[Clip]]]:
        """Returns the media files and the clips of each split; the data set defines it.

        If `train_inner` or `validation` is among the splits and `train` is not, `train` is added
        and has the clips of both.
        """
        raise NotImplementedError(f'{type(self).__name__} must define clips')

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=record_features(self.classes, self.kind),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(left_out=[]),  # ids of clips whose files are bad
        )

    @classmethod
    def get_metadata(cls) -> dataset_metadata.DatasetMetadata:
        """Describes the data set by its class's docstring, not by a README beside its module."""
        return dataset_metadata.DatasetMetadata(inspect.getdoc(cls), citation='', tags=[])

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Prepares the data set in one process at a time; others wait and use the result."""
        folder = Path(self.data_path)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                # TFDS's leftovers of killed builds; all reusable work is in the spool
                for left in folder.parent.glob(f'incomplete.*_{self.version}'):
                    shutil.rmtree(left)
                spool = self._beside('spool')
                kept = f'the same command goes on from the encoded clips, which are kept in {spool}'
                with cli.next_start(kept), disk.writing(folder):
                    super().download_and_prepare(**kwargs)
        else:
            super().download_and_prepare(**kwargs)
        if not self.info.splits:  # another process has built it meanwhile
            self.info.read_from_directory(folder)
        shutil.rmtree(self._beside('spool'), ignore_errors=True)
        counts = (f'{split_words.title(n)} {s.num_examples:,}' for n, s in self.info.splits.items())
        print(f'{self.info.full_name} is prepared: {", ".join(counts)} records', file=sys.stderr)
        if self.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
            content.read(self)  # makes it while the files are still in memory

    def _log_download_bytes(self) -> None:
        """Leaves out TFDS's line of unknown sizes; `_generate_splits` prints what is built."""

    def _log_download_done(self) -> None:
        """Leaves out TFDS's line on the standard output, which is for results."""

    def _generate_splits(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> list[tfds.core.SplitInfo]:
        """Builds through the spool; adds `train`, stored in `train_inner` and `validation`."""
        classes, kind = label_kinds.of_feature(self.info.features['label'])
        files, lists = _checked(self.clips(dl_manager), classes, kind)
        self._lists = {s: lists[s][: download_config.max_examples_per_split] for s in lists}
        folder = self._beside('spool') / self.info.file_format.value
        config = self.builder_config or WindowConfig(name='')
        self._spool = Spool(folder, files, self.info.features, config.options, self.read)
        self._spool.forget_bad()
        clips = [*itertools.chain(*self._lists.values())]
        num_files = len({name for clip in clips for name in (clip.audio, clip.video) if name})
        print(
            f'building {self.info.full_name} in {self._beside("").parent}: {len(clips):,} clips of '
            f'{num_files:,} files in {files.root}',
            file=sys.stderr,
        )
        bad_media.warn_of_missing(files, clips)
        with bad_media.notes_printed(files):
            if download_config.beam_options or download_config.beam_runner:
                stored = super()._generate_splits(dl_manager, download_config)
                self._spool.check_filled(clips)
                self._report()
            else:
                shards = {
                    split: self._write_shards(split, part, download_config.num_shards)
                    for split, part in self._lists.items()
                }
                self._report()
                stored = [self._linked(split, shards[split]) for split in shards]
        parts = [split for split in stored if split.name in TRAIN_PARTS]
        joins = parts and 'train' not in lists
        return [_joined('train', parts), *stored] if joins else stored

    def _report(self) -> None:
        bad = self._spool.bad()
        self.info.metadata['left_out'] = [clip_id for clip_id, _ in bad]
        total, path = sum(map(len, self._lists.values())), self._beside('bad_media.tsv')
        bad_media.report(bad, total, path, skip=self.on_error == 'skip', flag=self.skip_flag)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(clips) for split, clips in self._lists.items()}

    def _generate_examples(self, clips: list[Clip]) -> Any:
        """Returns a Beam transform, which builds on many machines that share the folders."""
        import apache_beam as beam  # of the [beam] extra

        return beam.Create(enumerate(clips)) | beam.Reshuffle() | beam.FlatMap(self._spool.examples)

    def _write_shards(self, split: str, clips: list[Clip], num_shards: int | None) -> list[Shard]:
        """Encodes clips that are not yet in the spool, in threads, and merges them into shards."""
        length = math.ceil(len(clips) / num_shards) if num_shards else CLIPS_PER_SHARD
        groups = [clips[start : start + length] for start in range(0, len(clips), length)]
        finished = [self._spool.has_shard(group) for group in groups]
        todo = [c for group, done in zip(groups, finished, strict=True) if not done for c in group]
        filled = _ordered_map(self._spool.fill, todo, self.workers or os.cpu_count())
        write, shards = self._example_writer().write, []
        with tqdm(total=len(clips), desc=split_words.title(split), unit='clip', leave=False) as bar:
            for group, done in zip(groups, finished, strict=True):
                for _ in group:
                    if not done:
                        next(filled)
                    bar.update()
                shards.append(self._spool.merge(group, write))
        return [shard for shard in shards if shard]

    def _linked(self, split: str, shards: list[Shard]) -> tfds.core.SplitInfo:
        """Links finished shards into the data set."""
        if not shards:
            raise ValueError(f'no clip of {split!r} has unbroken files; fetch them again')
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
        """Returns a path next to the finished data set, whatever name TFDS builds it under."""
        return Path(self.data_path).parent / f'{self.version}.{name}'


def _checked(
    made: Any, classes: Sequence[str], kind: Kind = 'exclusive'
) -> tuple[MediaFiles | FolderFiles, dict[str, list[Clip]]]:
    """Returns what `clips` of a builder gave, checked before any file is read.

    Places that are in several splits are printed as a note: scores on them are too good.

    Raises:
      ValueError: it is nothing that can be built, or a clip is in two splits.
    """
    if len(classes) < 2:
        raise ValueError(f'classes are {[*classes]}; a data set needs two or more')
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], dict)):
        raise ValueError('clips must return the media files and a dict of split -> list of Clip')
    split_of: dict[str, str] = {}
    splits_of: dict[str, dict[str, None]] = {}
    for split, clips in made[1].items():
        for clip in clips:
            if not isinstance(clip, Clip):
                raise ValueError(f'split {split} holds {clip!r}; each clip must be a Clip')
            if isinstance(clip.scene, tuple) != (kind == 'independent'):
                raise ValueError(
                    f'{clip.clip_id} is {clip.scene!r}; where classes are {kind} it must be '
                    + ('one name' if kind == 'exclusive' else 'a tuple of names')
                )
            if unknown := [name for name in clip.labels if name not in classes]:
                raise ValueError(
                    f'{clip.clip_id} is {unknown[0]!r}, which is none of {", ".join(classes)}'
                )
            if not (clip.audio or clip.video):
                raise ValueError(f'{clip.clip_id} has neither a sound file nor a film; name one')
            if (other := split_of.setdefault(clip.clip_id, split)) != split:
                raise ValueError(f'{clip.clip_id} is in the splits {other} and {split}; keep one')
            if clip.group:
                splits_of.setdefault(clip.group, {})[split] = None
    if several := [group for group, splits in splits_of.items() if len(splits) > 1]:
        print(
            f'note: {len(several)} places are in several splits ({some(several)}); scores on '
            'places of the training are too good',
            file=sys.stderr,
        )
    return made


def record_features(classes: Sequence[str], kind: Kind = 'exclusive') -> tfds.features.FeaturesDict:
    """Returns the features of a record, whose label is one of these classes, or several."""
    return tfds.features.FeaturesDict(
        {
            'clip_id': tfds.features.Text(),
            'segment': np.int32,  # the second of a one-second piece; -1: the whole clip
            'audio': BYTES,  # FLAC, two channels, at the source's bit depth
            'sample_rate': np.int32,
            'frames': tfds.features.Sequence(BYTES),  # JPEG
            'frame_index': tfds.features.Sequence(np.int32),
            'frame_times': tfds.features.Sequence(np.float32),
            'label': label_kinds.feature(classes, kind),  # -1: unknown
            'city': tfds.features.Text(),
            'location': tfds.features.Text(),
        }
    )


def _joined(name: str, parts: list[tfds.core.SplitInfo]) -> tfds.core.SplitInfo:
    """Makes a split whose shards are links to the shards of its parts, in order."""
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
    # no bytes of its own: TFDS adds up the splits for the size of the data set
    return tfds.core.SplitInfo(
        name=name, shard_lengths=lengths, num_bytes=0, filename_template=template
    )


def _ordered_map(function: Callable, items: Iterable, workers: int) -> Iterator:
    """Works like map(), in threads, with at most two results per worker in memory."""
    pool, pending, waits = ThreadPoolExecutor(workers), collections.deque(), True
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except KeyboardInterrupt:  # the process ends, and what its threads have not finished with it
        waits = False
        raise
    finally:
        pool.shutdown(waits, cancel_futures=True)
