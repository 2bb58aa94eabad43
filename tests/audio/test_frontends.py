from functools import partial

import jax
import librosa
import numpy as np
import pytest

from avsc_jax.audio.frontends import hitachi_logmel


def sounds():
    rng = np.random.default_rng(0)
    t = np.arange(48000) / 48000
    # 60 dB below the tone: at the very floor of 80 dB, float32 spectra differ by 1e-3 dB themselves
    quiet = rng.normal(0, 3e-3, (48000, 2))
    tone = 0.5 * np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 9000 * t)], 1)
    clipped = np.clip(rng.normal(0, 2, (48000, 2)), -1, 1)
    burst = quiet * (t > 0.5)[:, None]
    return np.stack([quiet, tone + quiet, clipped, burst, np.zeros_like(quiet)]).astype(np.float32)


def reference(audio):
    """librosa's own functions, one clip."""
    mel = librosa.feature.melspectrogram(
        y=audio.mean(1), sr=48000, n_fft=4096, hop_length=512, n_mels=256
    )
    level = librosa.power_to_db(mel, ref=1.0)
    deltas = [librosa.feature.delta(level, order=order) for order in (1, 2)]
    return np.stack([level, *deltas], axis=-1)


def test_hitachi_logmel_equals_librosa_within_a_thousandth_of_a_decibel():
    audio = sounds()
    got = jax.jit(partial(hitachi_logmel, sample_rate_hz=48000))(audio)
    got = np.asarray(got)
    assert got.shape == (5, 256, 94, 3)
    for ours, clip in zip(got, audio, strict=True):
        np.testing.assert_allclose(ours, reference(clip), atol=1e-3)


def test_ten_seconds_equal_librosa_too():
    audio = np.concatenate(list(sounds())[:3] * 4)[: 10 * 48000]
    got = hitachi_logmel(audio, sample_rate_hz=48000)
    np.testing.assert_allclose(np.asarray(got), reference(audio), atol=1e-3)


def test_each_piece_of_a_batch_has_a_floor_of_its_own():
    audio = sounds()[[0, 2]]
    both = hitachi_logmel(audio, sample_rate_hz=48000)
    alone = hitachi_logmel(audio[0], sample_rate_hz=48000)
    np.testing.assert_allclose(both[0], alone, atol=1e-4)


def test_the_gradient_reaches_the_sound():
    audio = sounds()[0]
    gradient = jax.grad(lambda x: hitachi_logmel(x, sample_rate_hz=48000).sum())(audio)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_another_sample_rate_is_refused():
    with pytest.raises(ValueError, match='takes sound at 48000 Hz, not 44100'):
        hitachi_logmel(sounds()[0], sample_rate_hz=44100)
