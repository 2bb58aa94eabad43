from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from avsc_jax.augment import image

NUM = 20_000
KEYS = jax.random.split(jax.random.key(0), NUM)
PICTURE = jax.random.uniform(jax.random.key(1), (24, 32, 3))
affine = jax.jit(image.affine)
blur = jax.jit(image.blur, static_argnums=2)


def draws(function, *settings):
    """NUM draws, as numpy arrays."""
    drawn = jax.jit(jax.vmap(lambda key: function(key, *settings)))(KEYS)
    return jax.tree.map(np.asarray, drawn)


def check_uniform(values, low, high):
    """Within its limits, near both, and with the mean and variance of a uniform distribution."""
    width = high - low
    assert low - 1e-5 <= values.min() < low + 0.01 * width
    assert high - 0.01 * width < values.max() <= high + 1e-5
    assert abs(values.mean() - (low + high) / 2) < 4 * width / np.sqrt(12 * values.size)
    np.testing.assert_allclose(values.var(), width**2 / 12, rtol=0.04)


def test_affine_parameters_are_uniform_and_shifts_whole_pixels():
    angle, shift, scale = draws(image.draw_affine, 100, 200, 10.0, (0.1, 0.1), (0.5, 1.5))
    check_uniform(angle, -10, 10)
    check_uniform(scale, 0.5, 1.5)
    np.testing.assert_array_equal(shift, np.round(shift))
    for values, limit in zip(shift.T, (20, 10), strict=True):  # of the width, of the height
        counts = np.bincount((values + limit).astype(int), minlength=2 * limit + 1)
        expected = np.full(2 * limit + 1, NUM / (2 * limit))
        expected[[0, -1]] /= 2  # what is rounded to the ends comes from half a pixel
        assert len(counts) == len(expected)
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_colors_are_drawn_uniformly_in_all_orders():
    order, factors, turn = draws(image.draw_colors, 0.2, 0.4, 2.0, 0.1)
    check_uniform(turn, -0.1, 0.1)
    for values, limits in zip(factors.T, [(0.8, 1.2), (0.6, 1.4), (0, 3)], strict=True):
        check_uniform(values, *limits)
    _, counts = np.unique(order, axis=0, return_counts=True)
    assert len(counts) == 24
    assert (np.abs(counts - NUM / 24) < 5 * np.sqrt(NUM / 24)).all()


def test_the_rectangles_that_are_erased_have_the_paper_s_areas_and_aspects():
    height, width = 400, 600
    top, left, h, w = draws(image.draw_erasing, height, width, 0.5, (0.02, 0.33), (0.3, 3.3))
    erased = h > 0
    assert abs(erased.mean() - 0.5) < 4 * 0.5 / np.sqrt(NUM)
    top, left, h, w = (values[erased] for values in (top, left, h, w))
    assert (h < height).all() and (w < width).all()
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + h <= height).all() and (left + w <= width).all()
    # every place that fits is as likely: uniform once divided by the room there is
    check_uniform((top + 0.5) / (height - h + 1), 0, 1)
    check_uniform((left + 0.5) / (width - w + 1), 0, 1)
    check_sides((h, w), (height - 1, width - 1), height * width, (0.02, 0.33), (0.3, 3.3))


def check_sides(sides, limits, pixels, area, aspect):
    """Against a loop's worth of numpy: the first of ten pairs within `limits` is taken."""
    rng = np.random.default_rng(0)
    areas = pixels * rng.uniform(*area, (NUM, 10))
    ratios = np.exp(rng.uniform(*np.log(aspect), (NUM, 10)))
    first, second = np.round(np.sqrt(areas * ratios)), np.round(np.sqrt(areas / ratios))
    fits = (first <= limits[0]) & (second <= limits[1])
    assert fits.any(1).all()
    chosen = np.arange(NUM), fits.argmax(1)
    first, second = first[chosen], second[chosen]
    assert stats.ks_2samp(sides[0] * sides[1], first * second).pvalue > 1e-3
    assert stats.ks_2samp(sides[0] / sides[1], first / second).pvalue > 1e-3


def test_crops_lie_inside_and_fall_back_to_the_middle():
    top, left, h, w = draws(image.draw_crop, 90, 160, (0.08, 0.6), (3 / 4, 4 / 3))
    assert (h > 0).all() and (w > 0).all() and (top >= 0).all() and (left >= 0).all()
    assert (top + h <= 90).all() and (left + w <= 160).all()
    check_sides((w, h), (160, 90), 90 * 160, (0.08, 0.6), (3 / 4, 4 / 3))
    check_uniform((left + 0.5) / (160 - w + 1), 0, 1)
    # nothing of half the picture's area and a ratio near 1 fits into a strip
    for height, width, middle in [(40, 400, (0, 173, 40, 53)), (400, 40, (173, 0, 53, 40))]:
        crop = partial(image.draw_crop, height=height, width=width)
        drawn = jax.jit(partial(crop, area=(0.5, 1.0), aspect=(3 / 4, 4 / 3)))(KEYS[0])
        assert tuple(int(value) for value in drawn) == middle


def test_flips_come_with_their_probability():
    x = jnp.array([[[0.0, 0, 0], [1, 1, 1]]])
    got = jax.vmap(partial(image.horizontal_flip, probability=0.3), (0, None))(KEYS, x)
    assert abs(np.mean(got[:, 0, 0, 0]) - 0.3) < 4 * 0.5 / np.sqrt(NUM)


def test_sigma_of_the_blur_is_uniform():
    """A point's blur of sigma s keeps softmax(0) of 1-D taps, squared, at its place."""
    point = jnp.zeros((11, 11, 1)).at[5, 5].set(1)
    blurred = jax.jit(jax.vmap(image.gaussian_blur, (0, None)))(KEYS[:4000], point)
    kept = np.asarray(blurred)[:, 5, 5, 0]
    sigmas = np.linspace(0.1, 2, 2001)
    peaks = 1 / np.exp(-0.5 * (np.arange(-5, 6)[:, None] / sigmas) ** 2).sum(0)
    drawn = np.interp(-np.sqrt(kept), -peaks, sigmas)
    drawn = drawn[drawn > 0.35]  # below, the peak is 1 for any sigma
    assert abs(len(drawn) / 4000 - 1.65 / 1.9) < 4 * np.sqrt(0.12 / 4000)
    check_uniform(drawn, 0.35, 2.0)


def test_an_affine_without_change_and_whole_shifts_are_exact():
    still = affine(PICTURE, jnp.float32(0), jnp.zeros(2), jnp.float32(1))
    np.testing.assert_array_equal(still, PICTURE)
    moved = affine(PICTURE, jnp.float32(0), jnp.array([3.0, -2.0]), jnp.float32(1))
    np.testing.assert_array_equal(moved[:-2, 3:], PICTURE[2:, :-3])
    assert not np.any(moved[-2:]) and not np.any(moved[:, :3])


def test_a_quarter_turn_is_clockwise():
    square = PICTURE[:, :24]
    turned = affine(square, jnp.float32(90), jnp.zeros(2), jnp.float32(1))
    np.testing.assert_array_equal(turned, np.rot90(square, -1))


def test_jitter_by_default_is_the_picture_itself():
    assert image.color_jitter(KEYS[0], PICTURE) is PICTURE


def test_a_third_turn_of_the_hue_moves_the_channels_on():
    np.testing.assert_allclose(
        image.shift_hue(PICTURE, jnp.float32(1 / 3)), np.roll(PICTURE, 1, 2), atol=1e-5
    )


def test_blurring_keeps_a_plain_picture_and_spreads_a_point_evenly():
    plain = jnp.full((16, 20, 3), 0.25)
    np.testing.assert_allclose(blur(plain, jnp.float32(2), 11), plain, atol=1e-6)
    point = jnp.zeros((15, 15, 1)).at[7, 7].set(1)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    expected = np.outer(taps, taps) / taps.sum() ** 2
    got = np.asarray(blur(point, jnp.float32(1.5), 11))[2:13, 2:13, 0]
    np.testing.assert_allclose(got, expected, atol=1e-7)


def test_erasing_zeroes_the_rectangle_and_nothing_else():
    got = np.asarray(image.erase(PICTURE + 1, 3, 5, 7, 11))
    expected = np.asarray(PICTURE + 1).copy()
    expected[3:10, 5:16] = 0
    np.testing.assert_array_equal(got, expected)


def test_a_crop_looks_at_nothing_outside_it():
    outside = PICTURE.at[4:12, 6:18].set(0.5) * 1.0
    got = jax.jit(image.resized_crop, static_argnums=5)(outside, 4, 6, 8, 12, (16, 10))
    np.testing.assert_allclose(got, 0.5, atol=1e-6)


def all_of(key, x):
    keys = jax.random.split(key, 5)
    x = image.random_affine(keys[0], x)
    x = image.color_jitter(keys[1], x, brightness=0.2, hue=0.1)
    x = image.gaussian_blur(keys[2], x)
    x = image.random_resized_crop(keys[3], x, size=(16, 16))
    return image.random_erasing(keys[4], x)


def test_a_key_gives_the_same_wherever_in_the_batch_its_picture_lies():
    x = jnp.stack([PICTURE, 1 - PICTURE, PICTURE / 2, PICTURE])
    run, turned = jax.jit(jax.vmap(all_of)), np.array([2, 3, 0, 1])
    got = np.asarray(run(KEYS[:4], x))
    np.testing.assert_allclose(run(KEYS[turned], x[turned]), got[turned], atol=1e-6)
    assert np.abs(got[0] - got[3]).max() > 0.1  # another key, another picture


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: image.color_jitter(KEYS[0], PICTURE, hue=0.6), 'hue must lie in'),
        (lambda: image.blur(PICTURE[:5], jnp.float32(1), 11), 'needs sides over 5, not'),
        (lambda: image.blur(PICTURE, jnp.float32(1), 10), r'a blur of 10 taps \(odd\)'),
    ],
)
def test_settings_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
