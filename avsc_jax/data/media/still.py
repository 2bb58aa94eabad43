"""Decodes, encodes and resizes still pictures."""

import contextlib
import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from avsc_jax.data.media.source import MAX_SIDE_PX, MediaFile, checked, name_of

# Pillow decodes these within our own process. Others it knows start programs, such as Ghostscript.
FORMATS = (
    ('JPEG', 'PNG', 'GIF', 'BMP', 'PPM', 'TIFF', 'WEBP', 'JPEG2000')
    + ('AVIF',) * ('avif' in features.modules and features.check('avif'))  # Pillow 11.3 and later
)  # fmt: skip
JPEG_PIXELS_PER_BYTE = 1024  # black pictures have 340 at most
PAPER = (255, 255, 255)  # the colour behind transparent pixels
_DEFECTS = (  # that Pillow raises for a broken file
    OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip
Picture = np.ndarray | Image.Image  # RGB; the second one saves copies where a resize follows
_GREYS = ('I', 'F', 'I;16', 'I;16L', 'I;16B', 'I;16N')  # Pillow's modes of more than 8 bits
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF

LONGEST = 128  # short sides of a strip; it would fill the memory if its ends were enlarged too


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """Encodes an RGB picture [H, W, 3] uint8."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', quality=quality)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decodes the bytes of a JPEG, or of any format in FORMATS, to RGB [H, W, 3] uint8, unturned.

    Colours become RGB as in read_picture.
    """
    return np.asarray(decode_picture(data))


def decode_picture(data: bytes) -> Image.Image:
    """Decodes the bytes of a picture as decode_jpeg does, for a resize that follows."""
    with _opened(io.BytesIO(data), 'the picture', f'a picture of {len(data)} bytes') as image:
        if image.format == 'JPEG' and math.prod(image.size) > JPEG_PIXELS_PER_BYTE * len(data):
            width, height = image.size
            raise ValueError(f'it claims {width} x {height} pixels in {len(data):,} bytes')
        if image.format == 'JPEG' and image.mode == 'RGB':  # which `_rgb` would copy
            image.load()
            return image
        return _rgb(image, 'the picture')


def read_picture(source: MediaFile, short_side: int | None = None) -> np.ndarray:
    """Decodes a picture file to RGB [H, W, 3] uint8, turned as its camera was held.

    Grey values of 12 and 16 bits are scaled by their full range, floats from [0, 1]. Transparent
    pixels are shown on white. Of several pictures (GIF, APNG, WebP, pages of a TIFF) the first is
    read. Whatever its name, the file must be of a format in FORMATS.

    Args:
      short_side: see Pick.

    Raises:
      ValueError: the file cannot be decoded, or its values have no known white: integers with a
        sign or of 32 bits, floats outside of [0, 1].
    """
    name = name_of(source)
    with _opened(checked(source), name, name) as image:
        ImageOps.exif_transpose(image, in_place=True)  # a copy would lose the facts of a TIFF
        size = scaled(*image.size, short_side)
        return np.asarray(_rgb(image, name).resize(size, Image.Resampling.BICUBIC))


def num_pictures(source: MediaFile) -> int:
    """Returns how many pictures a file of stills holds, of which read_picture reads the first.

    The extra pictures of a camera's JPEG, such as thumbnails and depth, are not counted.
    """
    name = name_of(source)
    with _opened(checked(source), name, name) as image:
        return 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)


def first_note(count: int) -> str:
    """Describes, for a user, what is read of a file with several pictures."""
    return f'the file holds {count} pictures; the first one is used'


@contextlib.contextmanager
def _opened(source: MediaFile, name: str, described: str) -> Iterator[Image.Image]:
    """Opens a picture of a format in FORMATS; what Pillow raises becomes a ValueError."""
    # never a path: Pillow maps such a TIFF into memory, and mixes up its rows if it is turned
    is_open = hasattr(source, 'read')
    with contextlib.nullcontext(source) if is_open else Path(source).open('rb') as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                check_picture_size(name, *image.size)
                _scale_transparency(image)
                yield image
        except UnidentifiedImageError as error:
            kinds = f'cannot identify its format, which is none of {", ".join(FORMATS)}'
            raise ValueError(f'cannot decode {described}: {kinds}') from error
        except _DEFECTS as error:
            if isinstance(error, ValueError) and str(error).startswith(name):
                raise  # it is ours
            raise ValueError(f'cannot decode {described}: {error}') from error


def _scale_transparency(image: Image.Image) -> None:
    """Scales the transparent value of a PNG to the 8 bits that Pillow scales its pixels to."""
    clear = image.info.get('transparency')
    coding = image.tile[0][3] if image.format == 'PNG' and image.tile else ''
    if clear is not None and coding in ('L;2', 'L;4'):
        image.info['transparency'] = clear * {'L;2': 85, 'L;4': 17}[coding]
    if clear is not None and coding == 'RGB;16B':
        image.info['transparency'] = tuple(value >> 8 for value in clear)


def _rgb(image: Image.Image, name: str) -> Image.Image:
    """Converts a picture of any mode to RGB; see read_picture."""
    if 2 in getattr(image, 'tag_v2', {}).get(_SAMPLE_FORMAT, ()):
        raise ValueError(f'{name} holds integers with a sign; save it with 8 or 16 bits, unsigned')
    if image.mode in _GREYS:
        image = _grey(image, name)
    return flattened(image)


def _grey(image: Image.Image, name: str) -> Image.Image:
    """Converts grey values of more than 8 bits to 8, with their transparent value."""
    tags = getattr(image, 'tag_v2', {})
    values = np.asarray(image)
    if image.mode == 'F':
        eight = eight_bits(values, name)
    elif image.mode == 'I' and image.format not in ('PNG', 'PPM'):  # whose values have 16 bits
        raise ValueError(f'{name} holds integers of 32 bits; save it with 8 or 16 bits, unsigned')
    else:
        white = (1 << max(tags.get(_BITS, (16,)))) - 1
        eight = eight_bits(values / np.float32(white), name)
    grey = Image.fromarray(255 - eight if tags.get(_PHOTOMETRIC) == 0 else eight)
    if (clear := image.info.get('transparency')) is not None:
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def eight_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Scales floats in [0, 1] to uint8; ValueError, with the file's name, for any outside."""
    levels = np.rint(values * np.float32(255))
    if not ((levels >= 0) & (levels <= 255)).all():  # NaN is outside
        least, most = np.min(values), np.max(values)
        raise ValueError(
            f'{name} holds floats from {least:g} to {most:g}; save it with values from 0 to 1, or '
            'with 8 or 16 bits'
        )
    return levels.astype(np.uint8)


def flattened(image: Image.Image) -> Image.Image:
    """Converts a picture of 8 bits to RGB; transparent pixels show PAPER."""
    if not image.has_transparency_data:
        return image.convert('RGB')
    image = image.convert('LA') if image.mode == 'La' else image  # premultiplied
    paper = Image.new('RGBA', image.size, PAPER)
    return Image.alpha_composite(paper, image.convert('RGBA')).convert('RGB')


def resize_picture(
    image: Picture, height: int, width: int, interpolation: str = 'bilinear'
) -> np.ndarray:
    """Resizes a picture to [height, width, 3] uint8, uncropped, by an antialiased filter of Pillow.

    Args:
      interpolation: 'bilinear' or 'bicubic'.
    """
    if _size(image) == (height, width):
        return np.asarray(image)
    resample = Image.Resampling[interpolation.upper()]
    whole = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    return np.asarray(whole.resize((width, height), resample))


def crop_picture(
    image: Picture,
    size: int,
    resized: int,
    interpolation: str = 'bilinear',
    *,
    keep_aspect: bool = True,
) -> np.ndarray:
    """Resizes the short side of a picture, and crops the square in the middle, [H, W, 3] uint8.

    Args:
      size: side of the square.
      resized: what the short side becomes before the crop, at least `size`.
      interpolation: 'bilinear' or 'bicubic'.
      keep_aspect: else both sides become `resized`.

    Source: torchvision's Resize and CenterCrop, for Pillow's pictures.
    """
    height = width = resized
    if keep_aspect:
        short = min(_size(image))
        if max(_size(image)) > LONGEST * short:
            image = _centre(np.asarray(image), *(min(n, LONGEST * short) for n in _size(image)))
        height, width = (int(resized * side / short) for side in _size(image))
    return _centre(resize_picture(image, height, width, interpolation), size, size)


def _size(image: Picture) -> tuple[int, int]:
    """Returns the height and width of a picture."""
    height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]
    return height, width


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crops the middle of a picture."""
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]


def pad_picture(
    image: Picture, height: int, width: int, interpolation: str = 'bilinear'
) -> tuple[np.ndarray, tuple[int, int]]:
    """Puts a picture into the top left corner of a larger one, [H, W, 3] uint8, else black.

    A picture that is too large is reduced, with its proportions, until it fits.

    Returns:
      The larger picture, and the part's height and width.
    """
    own_height, own_width = _size(image)
    scale = min(1.0, height / own_height, width / own_width)
    rows, columns = (max(1, round(scale * side)) for side in (own_height, own_width))
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
