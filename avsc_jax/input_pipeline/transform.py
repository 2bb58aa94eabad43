"""Transforms of records into the inputs of networks, for training, predict, explain and export.

A transform takes the items of a record on the host, such as pieces of sound or resized pictures,
and turns them into rows of a network's input on the device. Its facts describe that in plain data.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax import weights
from avsc_jax.data import media
from avsc_jax.input_pipeline import images
from avsc_jax.types import Array

Takes = Literal['audio', 'frames', 'media']
# What a transform takes -> the field of a record.
FIELDS = {'audio': 'audio', 'frames': 'frames', 'media': 'media_frames'}
# What takes pictures -> the field of a record that says at which times it has them.
FILLED = {'frames': 'frame_filled', 'media': 'media_filled'}


class Transform(Protocol):
    """The interface of what turns a record into rows of a network's input.

    `items` runs on the host, `prepare` is traceable. Between the two, another program can take over
    without this package, since items are only cut or resized.

    Attributes:
      takes: the part of a record: its sound, its frames, or pictures of its video file.
      item: shape and type of an item; of a front end with several pieces together, of a piece.
      facts: the transform in plain data, for other programs.
    """

    @property
    def takes(self) -> Takes: ...

    @property
    def item(self) -> jax.ShapeDtypeStruct: ...

    @property
    def facts(self) -> Mapping: ...

    def items(self, record: Mapping) -> Sequence[np.ndarray]:
        """Returns the items of a record, on the host."""

    def prepare(self, items: Array) -> Array:
        """Turns items `[B, *item]` into rows `[R, ...]`, those of the first item first."""

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a record was read."""


def filled_times(record: Mapping, takes: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns at which of the times that a rule asks for a record has pictures; see media.Picked.

    Args:
      takes: name of each encoder -> what it takes; those of sound, and all of records that do not
        say, are left out.
    """
    fields = {name: FILLED.get(kind) for name, kind in takes.items()}
    return {name: record[field] for name, field in fields.items() if field in record}


class Squares:
    """The transform of frames for CLIP and ImageNet networks: resize, centre crop, normalise.

    Pillow resizes on the host, where pictures may be of any size: on the device, each new size
    would compile anew and fill a batch of its own.

    Args:
      source: the network's published weights, which say how pictures are resized and scaled.
      size: side of the square.
    """

    takes: Takes = 'frames'

    def __init__(self, source: weights.Source, size: int):
        # these are None only for networks of sound
        assert source.interpolation and source.mean and source.std
        self._mean, self._std = source.mean, source.std
        self._resized = math.floor(size / source.crop_fraction)
        self._square = partial(
            media.crop_picture,
            size=size,
            resized=self._resized,
            interpolation=source.interpolation,
            keep_aspect=source.resize == 'short side',
        )
        self.item = jax.ShapeDtypeStruct((size, size, 3), np.uint8)
        self.facts = {
            'resize': {source.resize: self._resized, 'how': f"Pillow's {source.interpolation}"},
            'crop': {'centre': [size, size]},
            'scale': 1 / 255,
            'mean': list(source.mean),
            'std': list(source.std),
        }

    def items(self, record: Mapping) -> Sequence[np.ndarray]:
        """Returns squares `[size, size, 3]` uint8 of the record's frames, of any sizes."""
        return [self._square(frame) for frame in record['frames']]

    def prepare(self, items: Array) -> Array:
        """Normalises squares as the weights expect them."""
        return images.normalize(items.astype(jnp.float32), self._mean, self._std)

    def notes(self, record: Mapping) -> list[str]:
        """Returns no notes: all pictures are read alike."""
        return []


class OpenL3Pictures:
    """The transform of pictures for OpenL3's network, all on the host.

    Args:
      frames: the rule that picks them from a video file; None takes those of the record.
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
        """Returns squares `[size, size, 3]`."""
        if self.takes == 'media':
            return record['media_frames']
        return [media.openl3_pictures(frame, self._size) for frame in record['frames']]

    def prepare(self, items: Array) -> Array:
        """Returns the items as they are."""
        return items

    def notes(self, record: Mapping) -> list[str]:
        """Returns no notes: all pictures are read alike."""
        return []
