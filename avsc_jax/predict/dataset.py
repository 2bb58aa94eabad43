"""Reads the records of a prepared dataset, with the fields that a system takes."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from avsc_jax.data.batches import read_ahead
from avsc_jax.data.records import Dataset
from avsc_jax.data.sources import media_files
from avsc_jax.input_pipeline.preprocess import FeatureInputs, FeaturesAndFrames
from avsc_jax.predict.predictor import Predictor


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

    def read(index: int) -> dict:
        record = stored[index]
        for preprocess in from_media:
            record |= preprocess.pictures(media(record['clip_id']))
        return record

    places = range(len(stored)) if places is None else places
    ahead = read_ahead(read, places, num_threads=os.cpu_count() or 1)
    return iter(tqdm(ahead, total=len(places), unit='clip'))
