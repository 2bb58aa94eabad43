from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from avsc_jax.data import media
from avsc_jax.input_pipeline import images

FILES = Path(__file__).parents[1] / 'data_files'


def check_against_pillow(picture: np.ndarray, to: int, *, sides=None, **options) -> None:
    """Equal bytes, as torchvision's Resize and CenterCrop give of Pillow's pictures."""
    height, width = picture.shape[:2]
    short = min(height, width)
    sides = sides or (int(to * height / short), int(to * width / short))
    kernel = Image.Resampling[options.get('interpolation', 'bicubic').upper()]
    expected = np.asarray(Image.fromarray(picture).resize(sides[::-1], kernel))
    top, left = (round((n - to) / 2) for n in sides)
    expected = expected[top : top + to, left : left + to]
    options = {'interpolation': 'bicubic', 'resized': to} | options
    np.testing.assert_array_equal(media.crop_picture(picture, to, **options), expected)


@pytest.mark.parametrize(
    'size', [(97, 160), (160, 97), (64, 64), (30, 45), (720, 1280), (21, 1009)]
)
@pytest.mark.parametrize('to', [32, 64])
def test_resizing_and_cropping_equals_pillow_and_a_centre_crop(size, to):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(size[::-1], Image.BILINEAR)
    noise = rng.integers(-20, 20, (*size, 3))
    picture = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
    check_against_pillow(picture, to)


@pytest.mark.parametrize('to', [224, 288])  # RN101 and ViT-B/32, RN50x4
@pytest.mark.parametrize('file', ['cat.jpg', 'parrot.jpg', 'CLIP.png'])
def test_real_pictures_are_resized_as_by_pillow(file, to):
    check_against_pillow(np.asarray(Image.open(FILES / file).convert('RGB')), to)


@pytest.mark.parametrize(
    ('options', 'sides'),
    [
        ({'resized': 72}, (72, 121)),
        ({'resized': 73, 'interpolation': 'bilinear'}, (73, 122)),
        ({'keep_aspect': False}, (64, 64)),
        ({'resized': 80, 'keep_aspect': False, 'interpolation': 'bilinear'}, (80, 80)),
    ],
)
def test_pictures_are_resized_beyond_the_crop_and_as_wanted(options, sides):
    picture = np.asarray(Image.open(FILES / 'cat.jpg').convert('RGB').resize((251, 149)))
    check_against_pillow(picture, 64, sides=sides, **options)


def test_openl3_scales_the_short_side_to_256_without_antialias():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (301, 407, 3), dtype=np.uint8)
    got = media.openl3_pictures(picture, 224)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(media.openl3_pictures(picture[None], 224), got[None])
    scale = 301 / 256  # to 256 x 346, of which rows 16 ... 239 and columns 61 ... 284 count
    rows, columns = (np.arange(start, start + 224) for start in (16, 61))
    places = np.meshgrid(
        (rows + 0.5) * scale - 0.5, (columns + 0.5) * 407 / 346 - 0.5, indexing='ij'
    )
    for channel in range(3):
        expected = ndimage.map_coordinates(picture[..., channel] / 255, places, order=1)
        np.testing.assert_allclose(got[..., channel], expected, atol=1e-6)


def test_openl3_s_range_hangs_on_the_size():
    white = np.full((2, 250, 224, 3), 255, np.uint8)
    white[:, :13] = 0  # above the square in the middle
    got = media.openl3_pictures(white, 224)
    assert got.shape == (2, 224, 224, 3) and np.all(got == 1)
    black = media.openl3_pictures(np.zeros((1, 224, 224, 3), np.uint8), 224)
    assert np.all(black == -1)
    with pytest.raises(ValueError, match='pictures are 224x223; OpenL3 needs sides of 224 or more'):
        media.openl3_pictures(white[:, :223], 224)


def test_normalising_centres_and_scales_each_channel():
    x = np.full((1, 2, 2, 3), 255.0, np.float32)
    got = images.normalize(x, (0.5, 0.25, 1.0), (0.5, 0.25, 2.0))
    np.testing.assert_allclose(got[0, 0, 0], [1.0, 3.0, 0.0], atol=1e-6)
