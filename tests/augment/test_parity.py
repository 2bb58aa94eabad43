"""Against torchvision, for the same parameters and in distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from avsc_jax.augment import image, rand_augment
from avsc_jax.input_pipeline import images

pytestmark = pytest.mark.parity
SETTINGS = [(-10.0, (4, -3), 0.5), (7.3, (0, 2), 1.37), (3.1, (-6, 0), 0.83), (0.0, (5, 1), 1.0)]
DRAWS = 1500


@pytest.fixture(scope='module')
def pictures():
    """Smooth, noisy, grey, black and white, and of few colours: `[5, 72, 101, 3]`."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(size=(5, 9, 11, 3)).astype(np.float32)
    x = np.array(jax.image.resize(coarse, (5, 72, 101, 3), 'cubic'))
    x[1] = rng.uniform(size=x[1].shape)
    x[2] = x[2, :, :, :1]
    x[3] = x[3] > 0.5
    x[4] = np.round(2 * x[4]) / 2
    return np.clip(x, 0, 1)


@pytest.fixture
def functional(torchvision):
    """Calls a function of torchvision on one picture of ours."""
    import torch

    def call(name, x, *args, **kwargs):
        function = getattr(torchvision.transforms.v2.functional, name)
        tensor = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(x), -1, 0)))
        return np.moveaxis(function(tensor, *args, **kwargs).numpy(), 0, -1)

    return call


@pytest.mark.parametrize(('angle', 'shift', 'scale'), SETTINGS)
def test_affine(pictures, functional, angle, shift, scale):
    x = pictures[1]
    expected = functional('affine', x, angle, list(shift), scale, [0.0, 0.0])
    got = np.asarray(jax.jit(image.affine)(x, angle, jnp.array(shift, float), scale))
    differs = (got != expected).any(-1)
    # float32: only what lies between two pixels (to 1e-4 of one) may fall to either
    turn = np.exp(-1j * np.radians(angle)) / scale
    row, column = np.mgrid[:72, :101]
    source = turn * ((column - 50 - shift[0]) + 1j * (row - 35.5 - shift[1])) + 50 + 35.5j
    between = [np.abs(part % 1 - 0.5) < 1e-4 for part in (source.real, source.imag)]
    assert not (differs & ~(between[0] | between[1])).any()
    assert differs.mean() < 1e-3


def test_colors_in_every_order(pictures, functional):
    names = ('adjust_brightness', 'adjust_contrast', 'adjust_saturation', 'adjust_hue')
    factors, turn = (1.3, 0.7, 1.4), -0.15
    ours = jax.jit(jax.vmap(image.adjust_colors, (0, None, None, None)))
    for order in [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)]:
        got = ours(pictures, jnp.array(order), jnp.array(factors), jnp.float32(turn))
        for x, picture in zip(pictures, got, strict=True):
            for operation in order:
                x = functional(names[operation], x, (*factors, turn)[operation])
            np.testing.assert_allclose(picture, x, atol=2e-5)


@pytest.mark.parametrize('sigma', [0.1, 0.7, 2.0])
def test_blur(pictures, functional, sigma):
    got = jax.jit(image.blur, static_argnums=2)(pictures[1], sigma, 11)
    expected = functional('gaussian_blur', pictures[1], [11, 11], [sigma, sigma])
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_erasing_and_flip(pictures, functional):
    import torch

    x = pictures[0] * 4 - 2
    expected = functional('erase', x, 60, 90, 12, 11, torch.zeros(1, 1, 1))
    np.testing.assert_array_equal(image.erase(x, 60, 90, 12, 11), expected)
    flipped = image.horizontal_flip(jax.random.key(0), x, probability=1.0)
    np.testing.assert_array_equal(flipped, functional('horizontal_flip', x))


@pytest.mark.parametrize('crop', [(0, 0, 72, 101), (5, 7, 60, 33), (40, 80, 9, 11), (3, 2, 32, 48)])
def test_resized_crop(pictures, functional, crop):
    got = jax.jit(image.resized_crop, static_argnums=5)(pictures[1], *crop, (32, 48))
    expected = functional('resized_crop', pictures[1], *crop, [32, 48], antialias=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize('size', [(72, 100), (256, 100), (30, 120)])
def test_plain_bilinear_resize(pictures, size):
    import torch

    got = images.resize_bilinear(pictures, size)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(np.moveaxis(pictures, -1, 1)), size, mode='bilinear', align_corners=False
    )
    np.testing.assert_allclose(got, np.moveaxis(expected.numpy(), 1, -1), atol=1e-5)


def check_same(ours, theirs):
    assert stats.ks_2samp(np.ravel(ours), np.ravel(theirs)).pvalue > 1e-3


@pytest.fixture
def drawn(torchvision):
    """(ours, torchvision's): DRAWS parameters of an op for pictures of 100 x 140."""
    import torch

    def draw(ours, transform):
        keys = jax.random.split(jax.random.key(0), DRAWS)
        torch.manual_seed(0)
        template = [torch.zeros(3, 100, 140)]
        theirs = [transform.make_params(template) for _ in range(DRAWS)]
        return jax.jit(jax.vmap(ours))(keys), theirs

    return draw


def test_parameters_come_from_the_distributions_of_torchvision(torchvision, drawn):
    transforms = torchvision.transforms.v2
    (angle, shift, scale), theirs = drawn(
        lambda key: image.draw_affine(key, 100, 140, 10.0, (0.1, 0.1), (0.5, 1.5)),
        transforms.RandomAffine(10, (0.1, 0.1), (0.5, 1.5)),
    )
    check_same(angle, [p['angle'] for p in theirs])
    check_same(scale, [p['scale'] for p in theirs])
    for side in (0, 1):
        check_same(shift[:, side], [p['translate'][side] for p in theirs])

    (order, factors, turn), theirs = drawn(
        lambda key: image.draw_colors(key, 0.2, 0.4, 1.5, 0.1),
        transforms.ColorJitter(0.2, 0.4, 1.5, 0.1),
    )
    check_same(turn, [p['hue_factor'] for p in theirs])
    for place, name in enumerate(('brightness', 'contrast', 'saturation')):
        check_same(factors[:, place], [p[f'{name}_factor'] for p in theirs])
        check_same(order[:, place], [int(p['fn_idx'][place]) for p in theirs])

    for ours, transform, names in [
        (
            lambda key: image.draw_erasing(key, 100, 140, 1.0, (0.02, 0.33), (0.3, 3.3)),
            transforms.RandomErasing(),
            'ijhw',
        ),
        (
            lambda key: image.draw_crop(key, 100, 140, (0.08, 1.0), (3 / 4, 4 / 3)),
            transforms.RandomResizedCrop(32),
            ('top', 'left', 'height', 'width'),
        ),
    ]:
        rectangles, theirs = drawn(ours, transform)
        for side, name in zip(rectangles, names, strict=True):
            check_same(side, [p[name] for p in theirs])
        check_same(rectangles[2] * rectangles[3], [p[names[2]] * p[names[3]] for p in theirs])


def _expected(functional, name, levels, strength):
    """torchvision's RandAugment's operation of this name, of a picture of bytes."""
    zero = {'translate': [0, 0], 'angle': 0.0, 'scale': 1.0, 'shear': [0.0, 0.0]}
    slope = float(np.degrees(np.arctan(strength)))
    calls = {
        'Identity': lambda: levels,
        'ShearX': lambda: functional(
            'affine', levels, **{**zero, 'shear': [slope, 0.0]}, center=[0, 0]
        ),
        'ShearY': lambda: functional(
            'affine', levels, **{**zero, 'shear': [0.0, slope]}, center=[0, 0]
        ),
        'TranslateX': lambda: functional('affine', levels, **{**zero, 'translate': [strength, 0]}),
        'TranslateY': lambda: functional('affine', levels, **{**zero, 'translate': [0, strength]}),
        'Rotate': lambda: functional('rotate', levels, strength),
        'Brightness': lambda: functional('adjust_brightness', levels, 1 + strength),
        'Color': lambda: functional('adjust_saturation', levels, 1 + strength),
        'Contrast': lambda: functional('adjust_contrast', levels, 1 + strength),
        'Sharpness': lambda: functional('adjust_sharpness', levels, 1 + strength),
        'Posterize': lambda: functional('posterize', levels, int(strength)),
        'Solarize': lambda: functional('solarize', levels, strength),
        'AutoContrast': lambda: functional('autocontrast', levels),
        'Equalize': lambda: functional('equalize', levels),
    }
    return calls[name]()


@pytest.fixture(scope='module')
def levels(pictures):
    """Bytes of the pictures above, and of a photograph."""
    from sklearn.datasets import load_sample_image

    names = ('china.jpg', 'flower.jpg')
    photographs = [load_sample_image(name)[100:172, 200:301] for name in names]
    return [*np.round(255 * pictures).astype(np.uint8), *photographs]


@pytest.mark.parametrize('name', rand_augment.OPS)
def test_each_operation_of_rand_augment_is_torchvisions_to_a_grey_level(levels, functional, name):
    op, apply = rand_augment.OPS.index(name), jax.jit(rand_augment.apply_op)
    moves = rand_augment.OPS[1:6]
    for magnitude in (0, 5, 9, 30):
        for sign in (1, -1) if name in rand_augment.SIGNED else (1,):
            strength = sign * float(rand_augment.op_strengths(magnitude, 72, 101)[op])
            strength = int(strength) if 'Translate' in name else strength
            for x in levels:
                expected = _expected(functional, name, x, strength).astype(int)
                got = 255 * np.asarray(apply(x.astype('f4') / 255, op, float(strength)))
                assert np.allclose(got, got.round(), atol=1e-3)
                off = (np.abs(got.round() - expected) > 1).any(-1)
                # float32: what lies between two pixels may fall to either
                assert off.mean() <= (2e-3 if name in moves else 0), (magnitude, sign)


def test_strengths_of_rand_augment_are_torchvisions(torchvision):
    space = torchvision.transforms.v2.RandAugment._AUGMENTATION_SPACE
    assert {*space} == {*rand_augment.OPS}
    for magnitude in (0, 9, 17, 30):
        ours = rand_augment.op_strengths(magnitude, 72, 101)
        for name, (made, signed) in space.items():
            theirs = made(31, 72, 101)
            theirs = 0.0 if theirs is None else float(theirs[magnitude])
            theirs = int(theirs) if 'Translate' in name else theirs
            theirs *= 255 if name == 'Solarize' else 1
            assert ours[rand_augment.OPS.index(name)] == pytest.approx(theirs, abs=1e-5), name
            assert signed == (name in rand_augment.SIGNED)
