from functools import partial

import jax
import numpy as np
import pytest

from avsc_jax.audio import spectrum


@pytest.mark.parametrize(('window', 'hop'), [(8, 2), (7, 3), (4, 9)])
def test_frames_are_the_slices_of_the_padded_sound(window, hop):
    audio = np.arange(1, 41, dtype=np.float32).reshape(2, 20)
    got = np.asarray(spectrum.frames(audio, window=window, hop=hop))
    padded = np.pad(audio, ((0, 0), (window // 2, window // 2)))
    expected = [padded[:, start : start + window] for start in range(0, 21, hop)]
    np.testing.assert_array_equal(got, np.stack(expected, 1)[:, : 1 + 20 // hop])


@pytest.mark.parametrize('htk', [False, True])
def test_leaving_out_zeros_does_not_change_the_product(htk):
    filters = spectrum.mel_matrix(48000, 1024, 40, htk)
    power = np.random.default_rng(0).uniform(size=(2, 5, 513)).astype(np.float32)
    got = jax.jit(partial(spectrum.filter_bands, filters=filters))(power)
    np.testing.assert_allclose(got, power @ filters.T, rtol=1e-5, atol=1e-7)
    if htk:
        assert 0.9 < filters.max() <= 1


def test_a_line_has_its_slope_everywhere():
    x = 3.0 * np.arange(9, dtype=np.float32)[:, None]
    np.testing.assert_allclose(spectrum.regression_delta(x), np.full((5, 1), 3.0), rtol=1e-6)
