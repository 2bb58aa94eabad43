from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax.augment import spectrogram

KEYS = jax.random.split(jax.random.key(0), 4000)


def test_gains_are_uniform_in_decibels_and_scale_all_of_a_sound():
    audio = jnp.array([[0.1, -0.2], [0.3, 0.0]])
    got = np.asarray(jax.jit(jax.vmap(spectrogram.random_gain, (0, None)))(KEYS, audio))
    gains_db = 20 * np.log10(got[:, 0, 0] / 0.1)
    assert gains_db.min() < -5.9 and gains_db.max() > 5.9 and np.abs(gains_db).max() <= 6.001
    assert abs(gains_db.mean()) < 4 * 12 / np.sqrt(12 * len(KEYS))  # four standard errors
    np.testing.assert_allclose(
        got, 10 ** (gains_db / 20)[:, None, None] * np.asarray(audio), rtol=1e-5
    )


@pytest.mark.parametrize(
    ('mask', 'axis'),
    [
        (partial(spectrogram.frequency_mask, max_bands=3, value=-1.0), 1),
        (partial(spectrogram.time_mask, max_frames=3, value=-1.0), 2),
    ],
)
def test_one_run_of_bands_or_frames_is_set_and_the_rest_stays(mask, axis):
    x = jnp.ones((6, 6, 2))
    got = np.asarray(jax.jit(jax.vmap(mask, (0, None)))(KEYS, x))
    other = 3 - axis
    lines = got.min((other, 3))  # one value for each band or frame
    np.testing.assert_array_equal(lines, got.max((other, 3)))
    hit = lines == -1
    assert (lines[~hit] == 1).all()
    edges = np.abs(np.diff(np.pad(hit, ((0, 0), (1, 1))).astype(int), axis=1)).sum(1)
    assert (edges <= 2).all()
    widths = hit.sum(1)
    counts = np.bincount(widths, minlength=4)
    assert len(counts) == 4  # 0 ... 3, each a quarter
    np.testing.assert_allclose(counts / len(KEYS), 0.25, atol=4 * np.sqrt(0.19 / len(KEYS)))
    starts = hit.argmax(1)[widths == 3]  # 0 ... 3, so that the last line is reached
    np.testing.assert_allclose(
        np.bincount(starts, minlength=4) / len(starts), 0.25, atol=4 * np.sqrt(0.19 / len(starts))
    )


def test_four_masks_hide_what_four_independent_ones_do():
    x = jnp.ones((20, 1, 1))
    mask = partial(spectrogram.frequency_mask, max_bands=2, num_masks=4)
    hidden = np.mean(jax.jit(jax.vmap(mask, (0, None)))(KEYS, x) == 0)
    assert abs(hidden - (1 - 0.95**4)) < 0.01  # a mask hides one of 20 bands on average


def test_a_mask_longer_than_the_spectrogram_is_refused():
    with pytest.raises(ValueError, match='a mask of up to 7 does not fit a length of 6'):
        spectrogram.frequency_mask(KEYS[0], jnp.ones((6, 8, 1)), max_bands=7)
