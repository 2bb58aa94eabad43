"""Turns decoded frames of films into upright RGB pictures."""

import re
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from PIL import Image

from avsc_jax.data.media.still import eight_bits, flattened

_FLOATS = re.compile(r'f(16|32)[bl]e$')
_SMALL_BIG_ENDIAN = re.compile(r'(555|565)be$')  # FFmpeg mixes up their bytes on the way to RGB
# Else each frame keeps threads until it is collected, hundreds in a worker with limited memory.
_ONE_THREAD: dict[str, Any] = (
    {'threads': 1} if 'threads=' in (av.VideoFrame.reformat.__doc__ or '') else {}
)
_CHANNELS = {1: 'gray', 3: 'rgb24', 4: 'rgba'}


def rgb(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Converts a frame to RGB [H, W, 3] uint8 of a width and height, then turns it upright.

    Floats are scaled from [0, 1], transparent pixels are shown on white, and the frame is turned
    and mirrored as its display matrix says: all as in read_picture.

    Raises:
      ValueError: its pixels are floats outside of [0, 1], or of a format that is not read.
    """
    small = _plain(frame).reformat(*size, 'rgb24', interpolation='BICUBIC', **_ONE_THREAD)
    return _upright(small.to_ndarray(), frame)


def _plain(frame: av.VideoFrame) -> av.VideoFrame:
    """Returns a frame without floats and without transparency."""
    name = frame.format.name
    if _FLOATS.search(name):
        try:
            values = frame.to_ndarray()
        except ValueError as error:
            raise ValueError(f'frames of the pixel format {name} cannot be read') from error
        levels = eight_bits(values, f'a frame of the pixel format {name}')
        channels = _CHANNELS[1 if levels.ndim == 2 else levels.shape[2]]
        frame = av.VideoFrame.from_ndarray(levels, channels)
    elif _SMALL_BIG_ENDIAN.search(name):
        frame = frame.reformat(format='gbrp', **_ONE_THREAD)
    if frame.format.has_palette or any(part.is_alpha for part in frame.format.components):
        rgba = frame.reformat(format='rgba', **_ONE_THREAD)
        image = flattened(Image.fromarray(rgba.to_ndarray()))
        frame = av.VideoFrame.from_ndarray(np.asarray(image), 'rgb24')
    return frame


def _upright(image: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Turns and mirrors a picture [H, W, 3] as its frame's display matrix says, by right angles.

    The matrix [[a, b], [c, d]] takes the pixel (x, y) to (a x + c y, b x + d y).
    """
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return image
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(int)
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
