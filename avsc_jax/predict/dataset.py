"""Reads the records of a prepared dataset, with the fields that a system takes."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avsc_jax.data.batches import read_ahead
from avsc_jax.data.records import Dataset
from avsc_jax.data.sources import media_files
from avsc_jax.input_pipeline.preprocess import FeatureInputs, FeaturesAndFrames
from avsc_jax.predict.predictor import Predictor

MAX_ITEM_S = 1.5  # items of a second, whose files may be a little longer


def records(
    predictor: Predictor,
    dataset: Dataset,
    split: str,
    data_dir: Path,
    media_dir: Path | None = None,
    *,
    places: Sequence[int] | None = None,
) -> Iterator[dict]:
    """Yields the records of a split in their order, read ahead, with a progress bar.

    Args:
      places: the numbers of the records to read; None: all.
      media_dir: folder of the video files, for systems that take pictures from them; see
        `sources.media_files`.
    """
    fields = {field for part in predictor.members for field in part.preprocess.fields}
    stored = dataset.records(split, fields=tuple(fields - {'media_frames'}))
    from_media = [
        part.preprocess
        for part in predictor.members
        if isinstance(part.preprocess, FeatureInputs | FeaturesAndFrames)
        and 'media_frames' in part.preprocess.fields
    ]
    media = media_files(dataset, data_dir, media_dir)
    rules = {
        part.preprocess.settings.get('frames')
        for part in predictor.members
        if 'frames' in part.preprocess.fields
    }

    def read(index: int) -> dict:
        record = stored[index]
        if rules == {'second_centres'}:
            record |= central(record)
        for preprocess in from_media:
            record |= preprocess.pictures(media(record['clip_id']))
        return record

    places = range(len(stored)) if places is None else places
    ahead = read_ahead(read, places, num_threads=os.cpu_count() or 1)
    return iter(tqdm(ahead, total=len(places), unit='clip'))


def central(record: Mapping) -> dict:
    """Picks the frame at the centre of a one-second item that holds several; else nothing.

    Of the five frames of an item of the evaluation set it is frame 2: systems that take one picture
    of each second (frame rule second_centres) take one of it.

    Returns:
      The fields `frames` and `frame_times`, if they change.
    """
    times = np.asarray(record['frame_times'])
    if len(times) < 2 or times[0] + times[-1] > MAX_ITEM_S:  # evenly spaced over the item
        return {}
    place = int(np.abs(times - (times[0] + times[-1]) / 2).argmin())
    return {'frames': record['frames'][place : place + 1], 'frame_times': times[place : place + 1]}
