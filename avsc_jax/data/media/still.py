"""Decodes, encodes and resizes still pictures."""

import io
import os

import numpy as np
from PIL import Image, ImageOps

from avsc_jax.data.media.source import MAX_SIDE_PX, checked, name_of, one_sentence

LONGEST = 16  # short sides of a strip; it would fill the memory if its ends were enlarged too


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


def resize_picture(
    image: np.ndarray, height: int, width: int, interpolation: str = 'bilinear'
) -> np.ndarray:
    """Resizes a picture [H, W, 3] uint8, uncropped, by one of Pillow's antialiased filters.

    Args:
      interpolation: 'bilinear' or 'bicubic'.
    """
    if image.shape[:2] == (height, width):
        return image
    resample = Image.Resampling[interpolation.upper()]
    return np.asarray(Image.fromarray(image).resize((width, height), resample))


def crop_picture(
    image: np.ndarray, size: int, resized: int, interpolation: str = 'bilinear'
) -> np.ndarray:
    """Resizes the short side of a picture [H, W, 3] uint8, and crops the square in the middle.

    Args:
      size: side of the square.
      resized: what the short side becomes before the crop, at least `size`.
      interpolation: 'bilinear' or 'bicubic'.

    Source: torchvision's Resize and CenterCrop, for Pillow's pictures.
    """
    short = min(image.shape[:2])
    image = _centre(image, *(min(side, LONGEST * short) for side in image.shape[:2]))
    height, width = (int(resized * side / short) for side in image.shape[:2])
    return _centre(resize_picture(image, height, width, interpolation), size, size)


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crops the middle of a picture."""
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


def pad_picture(
    image: np.ndarray, height: int, width: int, interpolation: str = 'bilinear'
) -> tuple[np.ndarray, tuple[int, int]]:
    """Puts a picture [H, W, 3] uint8 into the top left corner of a larger one, else black.

    A picture that is too large is reduced, with its proportions, until it fits.

    Returns:
      The larger picture, and the part's height and width.
    """
    scale = min(1.0, height / image.shape[0], width / image.shape[1])
    rows, columns = (max(1, round(scale * side)) for side in image.shape[:2])
    padded = np.zeros((height, width, 3), np.uint8)
    padded[:rows, :columns] = resize_picture(image, rows, columns, interpolation)
    return padded, (rows, columns)


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
