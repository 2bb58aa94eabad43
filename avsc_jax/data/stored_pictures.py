"""Pictures as they come back from records, which hold them as JPEG.

A network is trained on such pictures, so predict sees others as if they had been stored. Measured
with clip_fusion on the demo's 60 test clips: raw pictures change the scene of 3 of them and a
probability by up to 0.07; quality 100 changes 1 and 0.03; the records' own quality changes none.
It costs 4 to 5 ms for a picture of 796 x 448.
"""

import io
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from PIL import Image

from avsc_jax.data import media

QUALITY = 90  # of our builders, and of the records of runs that name none


def as_stored(image: np.ndarray, quality: int) -> np.ndarray:
    """Returns a picture `[H, W, 3]` uint8 as it comes back from a record."""
    return media.decode_jpeg(media.encode_jpeg(image, quality))


def resize_of(settings: Mapping) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns the `resize` of a media.Pick for a run's pictures; None leaves them as they are.

    Args:
      settings: the run's preprocessing; `jpeg_quality` is that of its records, or None.
    """
    quality = quality_of(settings)
    return partial(as_stored, quality=quality) if quality else None


def quality_of(settings: Mapping) -> int | None:
    """Returns the JPEG quality of the records that a run was trained on; None: they lost nothing.

    Args:
      settings: the run's preprocessing.
    """
    return settings.get('jpeg_quality', QUALITY)


def measured_quality(dataset: Any) -> int | None:
    """Finds the JPEG quality of a data set's pictures; None if they are not stored as JPEG.

    The first picture tells it, by its quantization tables. Sets of picture files are read as they
    are, without records.
    """
    if not hasattr(dataset, 'builder'):
        return None
    for split in dataset.builder.info.splits:
        source = dataset.builder.as_data_source(split)
        if len(source) and len(frames := source[0]['frames']):
            return _quality(frames[0])
    return None


def _quality(data: bytes) -> int | None:
    with Image.open(io.BytesIO(data)) as image:
        if not (tables := getattr(image, 'quantization', None)):
            return None
    coarseness = float(np.mean(tables[0]))
    return min(range(1, 101), key=lambda quality: abs(_coarseness(quality) - coarseness))


@cache
def _coarseness(quality: int) -> float:
    """Returns the mean of the first quantization table of Pillow's JPEG files."""
    data = media.encode_jpeg(np.zeros((8, 8, 3), np.uint8), quality)
    with Image.open(io.BytesIO(data)) as image:
        return float(np.mean(image.quantization[0]))
