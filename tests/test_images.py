from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from avsc_jax import images

FILES = Path(__file__).parent / 'data_files'


def check_against_pillow(picture: np.ndarray, to: int) -> None:
    """Within a byte, and nearly always equal: float32 against Pillow's fixed point."""
    height, width = picture.shape[:2]
    short = min(height, width)
    resized = (int(to * height / short), int(to * width / short))
    expected = np.asarray(Image.fromarray(picture).resize(resized[::-1], Image.BICUBIC), float)
    top, left = (round((n - to) / 2) for n in resized)
    expected = expected[top : top + to, left : left + to]
    got = np.asarray(jax.jit(images.resize_and_crop, static_argnums=1)(picture[None], to))[0]
    assert np.abs(got - expected).max() <= 1
    assert (got != expected).mean() < 2e-3


@pytest.mark.parametrize('size', [(97, 160), (160, 97), (64, 64), (30, 45), (720, 1280)])
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


def test_normalising_centres_and_scales_each_channel():
    x = np.full((1, 2, 2, 3), 255.0, np.float32)
    got = images.normalize(x, (0.5, 0.25, 1.0), (0.5, 0.25, 2.0))
    np.testing.assert_allclose(got[0, 0, 0], [1.0, 3.0, 0.0], atol=1e-6)
