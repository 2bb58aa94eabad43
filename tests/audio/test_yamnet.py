"""The reference is the published front end written out in numpy, float64 and frame by frame."""

import jax
import numpy as np
import pytest

from avsc_jax.audio import level
from avsc_jax.audio.frontends import yamnet_logmel
from avsc_jax.audio.yamnet import mel_filters, yamnet_views


def sounds():
    """Tones in noise, noise that fades, silence: a patch each, in two channels."""
    t = np.arange(15600)[:, None] / 16000
    noise = np.random.default_rng(0).normal(0, 3e-3, (15600, 2))
    tones = noise + 0.5 * np.sin(2 * np.pi * t * [440, 5000])
    return np.stack([tones, noise * (1 - t), 0 * noise]).astype(np.float32)


def bands(bins):
    """[bins, 64]: triangles with straight sides over mels, as tf.signal's."""
    mels = 2595 * np.log10(1 + np.arange(bins) * 16000 / 2 / (bins - 1) / 700)
    top, low = (2595 * np.log10(1 + hz / 700) for hz in (7500, 125))
    edges = np.linspace(low, top, 66)
    return np.stack([np.interp(mels, edges[k : k + 3], [0, 1, 0]) for k in range(64)], 1)


def published(audio):
    """[96, 64] of one patch."""
    mono = audio.astype(float).mean(1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = [np.fft.rfft(hann * mono[160 * k : 160 * k + 400], 512) for k in range(96)]
    return np.log(np.abs(frames) @ bands(257) + 0.001)


def test_the_patch_is_the_published_one():
    patches = jax.jit(lambda x: yamnet_logmel(x, sample_rate_hz=16000))(sounds())
    assert patches.shape == (3, 96, 64, 1)
    for patch, sound in zip(patches, sounds(), strict=True):
        # float32: the noise below the tones is a thousandth of them
        np.testing.assert_allclose(patch[..., 0], published(sound), atol=2e-3)
    np.testing.assert_allclose(patches[2], np.log(0.001), rtol=1e-6)


def test_filters_reach_from_125_to_7500_hz():
    reached = np.flatnonzero(mel_filters().any(axis=0)) * 16000 / 512
    assert (reached.min(), reached.max()) == (156.25, 7468.75)
    assert mel_filters().shape == (64, 257)


@pytest.mark.parametrize(
    ('num', 'patches'),
    # as the published model gives them; see tests/weights/test_yamnet.py
    [(1, 1), (15599, 1), (15600, 1), (15601, 2), (23280, 2), (23281, 3), (40000, 5), (160001, 20)],
)
def test_a_patch_begins_every_048_s_while_there_is_sound(num, patches):
    sound = np.arange(num, dtype=np.float32)
    views = yamnet_views(sound)
    assert views.shape == (patches, 15600, 1)
    last = views[-1, :, 0]
    assert last[0] == 7680 * (patches - 1)
    rest = min(15600, num - 7680 * (patches - 1))
    assert last[rest - 1] == num - 1 and not last[rest:].any()


def test_wrong_rates_and_lengths_are_sentences():
    with pytest.raises(ValueError, match='at 16000 Hz, not 48000; resample'):
        yamnet_logmel(np.zeros((15600, 1), np.float32), sample_rate_hz=48000)
    with pytest.raises(ValueError, match='windows of 15600 samples, not 16000'):
        yamnet_logmel(np.zeros((16000, 1), np.float32), sample_rate_hz=16000)
    with pytest.raises(ValueError, match='cannot cut 0 samples'):
        yamnet_views(np.zeros(0, np.float32))


@pytest.mark.parametrize(
    ('before', 'after'),
    [(0.2, 0.2), (0.05, 0.05), (0.005, 0.05), (1.01e-4, 0.05), (9.9e-5, 9.9e-5), (0.0, 0.0)],
)
def test_quiet_sound_is_lifted_and_what_is_below_the_floor_is_not(before, after):
    sound = np.float32([before, -before] * 50)
    lifted = level.lifted(sound)
    assert level.rms(lifted) == pytest.approx(after, rel=1e-6) and lifted.dtype == sound.dtype
    assert level.rms(np.zeros(0)) == 0
