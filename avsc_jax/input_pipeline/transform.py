"""What stands between a record and a network, for every caller: training, predict, explain, export.

A transform takes the items of a record on the host, such as pieces of sound or pictures, and turns
them into rows of a network's input on the device. Its facts say the same in plain data.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax import weights
from avsc_jax.data import media
from avsc_jax.input_pipeline import images
from avsc_jax.types import Array

Takes = Literal['audio', 'frames', 'media']
# What a transform takes -> where a record has it.
FIELDS = {'audio': 'audio', 'frames': 'frames', 'media': 'media_frames'}


class Transform(Protocol):
    """From a record to the rows of a network's input.

    `prepare(cut(items))` is traceable. Between the two are *cut items*, all of one shape: another
    program can make them without this package, since they are only cut or resized.

    Attributes:
      takes: of a record: its sound, its frames, or pictures of its video file.
      item: shape and type of a cut item.
      facts: the same in plain data.
    """

    @property
    def takes(self) -> Takes: ...

    @property
    def item(self) -> jax.ShapeDtypeStruct: ...

    @property
    def facts(self) -> Mapping: ...

    def items(self, record: Mapping) -> Sequence[np.ndarray]:
        """The items of a record, on the host; their sizes may differ."""

    def cut(self, items: Array) -> Array:
        """Items of one size `[B, ...]` -> cut items `[B, *item]`, of any type."""

    def prepare(self, items: Array) -> Array:
        """Cut items `[B, *item]` -> their rows `[R, ...]`, those of the first item first."""

    def notes(self, record: Mapping) -> list[str]:
        """What a user should know of how a record was read."""


def cut_items(transform: Transform, record: Mapping) -> np.ndarray:
    """The cut items of a record `[T, *item]`; the items must be of one size."""
    items = np.stack(transform.items(record))
    if items.shape[1:] == transform.item.shape and items.dtype == transform.item.dtype:
        return items
    return np.asarray(transform.cut(items)).astype(transform.item.dtype)


class Squares:
    """Squares out of the middle of resized pictures, for CLIP and ImageNet networks.

    Args:
      source: of the network's weights, which says how pictures are resized and scaled.
      size: side of the square.
    """

    takes: Takes = 'frames'

    def __init__(self, source: weights.Source, size: int):
        # None of networks of sound only
        assert source.interpolation and source.mean and source.std
        self._resize, self._interpolation = source.resize, source.interpolation
        self._mean, self._std, self._size = source.mean, source.std, size
        self._resized = math.floor(size / source.crop_fraction)
        self.item = jax.ShapeDtypeStruct((size, size, 3), np.uint8)
        self.facts = {
            'resize': {source.resize: self._resized, 'how': f"Pillow's {source.interpolation}"},
            'crop': {'centre': [size, size]},
            'scale': 1 / 255,
            'mean': list(source.mean),
            'std': list(source.std),
        }

    def items(self, record: Mapping) -> Sequence[np.ndarray]:
        """The frames of the record."""
        return record['frames']

    def cut(self, items: Array) -> Array:
        """uint8 frames `[B, H, W, 3]` -> squares of whole numbers."""
        return images.resize_and_crop(
            items,
            self._size,
            resized=self._resized,
            keep_aspect=self._resize == 'short side',
            interpolation=self._interpolation,
        )

    def prepare(self, items: Array) -> Array:
        """Squares as the weights expect them."""
        return images.normalize(items.astype(jnp.float32), self._mean, self._std)

    def notes(self, record: Mapping) -> list[str]:
        """None: any picture is read alike."""
        return []


class OpenL3Pictures:
    """Pictures as OpenL3's network takes them, which are made on the host.

    Args:
      frames: the rule by which they were picked from a video file; None: those of the record.
      size: side of the square.
    """

    def __init__(self, frames: str | None, size: int):
        self.takes: Takes = 'media' if frames else 'frames'
        self._size = size
        self.item = jax.ShapeDtypeStruct((size, size, 3), np.float32)
        self.facts = {
            'frames': media.frame_facts(frames),
            'same_size': 'pixel / 127.5 - 1, where a picture has the size already; else:',
            'resize': {'short side': size * 8 // 7, 'how': 'bilinear, not enlarged, no antialias'},
            'crop': {'centre': [size, size]},
            'scale': 1 / 255,
        }

    def items(self, record: Mapping) -> Sequence[np.ndarray]:
        """Squares `[size, size, 3]`."""
        if self.takes == 'media':
            return record['media_frames']
        return [media.openl3_pictures(frame, self._size) for frame in record['frames']]

    def cut(self, items: Array) -> Array:
        """Returns the items as they are."""
        return items

    def prepare(self, items: Array) -> Array:
        """Returns the items as they are."""
        return items

    def notes(self, record: Mapping) -> list[str]:
        """None: any picture is read alike."""
        return []
