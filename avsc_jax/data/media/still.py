"""Decodes, encodes and resizes still pictures."""

import io
import os

import numpy as np
from PIL import Image, ImageOps

from avsc_jax.data.media.source import MAX_SIDE_PX, checked, name_of, one_sentence


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """Encodes an RGB picture [H, W, 3] uint8."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', quality=quality)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decodes the bytes of any picture file that Pillow reads to RGB [H, W, 3] uint8."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            check_picture_size('the picture', *image.size)
            return np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f'cannot decode a picture of {len(data)} bytes: {error}') from error


def read_picture(source: str | os.PathLike, short_side: int | None = None) -> np.ndarray:
    """Decodes a picture file to RGB [H, W, 3] uint8, turned as its camera was held.

    Args:
      short_side: see Pick.
    """
    with one_sentence(source), Image.open(checked(source)) as image:
        check_picture_size(name_of(source), *image.size)
        turned = ImageOps.exif_transpose(image).convert('RGB')
        size = scaled(*turned.size, short_side)
        return np.asarray(turned.resize(size, Image.Resampling.BICUBIC))


def resize_picture(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a picture [H, W, 3] uint8, uncropped, by Pillow's antialiased bilinear filter."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Returns width and height after the picture is scaled down to a short side; see Pick."""
    scale = min(1.0, (short_side or MAX_SIDE_PX) / min(width, height))
    return round(width * scale), round(height * scale)


def check_picture_size(name: str, width: int, height: int) -> None:
    """Raises ValueError, with the file's name, if a side is 0 or over MAX_SIDE_PX."""
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise ValueError(f'{name} has {width} x {height} pixels; a side may be 1 to {MAX_SIDE_PX}')


def openl3_pictures(images: np.ndarray, size: int) -> np.ndarray:
    """Prepares pictures `[..., H, W, 3]` uint8 for OpenL3's image network, as openl3 0.3.1 does.

    A picture of the network's size is scaled to [-1, 1]. A larger one is scaled to [0, 1]; its
    short side is reduced to 8/7 of the size (256 for 224) if it is longer, bilinear and without
    antialiasing, and the central square is cropped.

    Args:
      size: side of the network's input in pixels; 224 in openl3.

    Source: openl3 0.3.1, which needs scikit-image below 0.15; openl3 0.4 spells out its defaults.
    """
    height, width = images.shape[-3:-1]
    short, most = min(height, width), size * 8 // 7
    if short < size:
        raise ValueError(f'pictures are {width}x{height}; OpenL3 needs sides of {size} or more')
    if (height, width) == (size, size):
        return images / np.float32(127.5) - 1
    scale = min(1.0, most / short)
    x = _middle(images, -3, round(scale * height), size)
    return _middle(x, -2, round(scale * width), size) / np.float32(255)


def _middle(x: np.ndarray, axis: int, resized: int, size: int) -> np.ndarray:
    """Resizes an axis, bilinear and without antialiasing, and crops its middle to `size`."""
    places = (np.arange(size) + resized // 2 - size // 2 + 0.5) * (x.shape[axis] / resized) - 0.5
    places = np.clip(places, 0, x.shape[axis] - 1)
    first = np.minimum(places.astype(int), x.shape[axis] - 2)
    share = np.float32(places - first).reshape(-1, *[1] * (-1 - axis))
    return x.take(first, axis) * (1 - share) + x.take(first + 1, axis) * share
