"""The reference is the published front end written out in numpy, float64 and frame by frame."""

import importlib.util
import os
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from avsc_jax.audio import frontends
from avsc_jax.audio.efficientat import efficientat_facts, mel_filters
from avsc_jax.audio.frontends import efficientat_logmel
from avsc_jax.audio.resample import resampled
from avsc_jax.data import media

sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))  # where torch_peers lies

STREET = Path(__file__).parents[1] / 'data_files/acoustic_scene.flac'  # a second
# Above float32's rounding: of full-scale tones, it shows in the noise 44 dB below them.
CLOSE = np.array([1e-5, 3e-4, 1e-4, 1e-5, 1e-6, 1e-5])
LOGMEL = jax.jit(lambda x: efficientat_logmel(x, sample_rate_hz=32000))


def sounds(num=32000):
    """Noise, tones in it, clipped noise, noise that fades, silence, a street: in two channels."""
    draw, t = np.random.default_rng(0), np.arange(num)[:, None] / 32000
    noise = draw.normal(0, 3e-3, (num, 2))
    tones = noise + 0.5 * np.sin(2 * np.pi * t * [440, 9000])
    clipped = np.clip(draw.normal(0, 2, (num, 2)), -1, 1)
    fading = noise * np.maximum(0, 1 - t)
    street = resampled(*media.read_audio(STREET), 32000)
    street = np.pad(street, [(0, num - len(street)), (0, 0)])
    return np.stack([noise, tones, clipped, fading, 0 * noise, street]).astype(np.float32)


def bands():
    """[513, 128]: triangles with straight sides over mels, as Kaldi's."""
    mels = 2595 * np.log10(1 + np.arange(513) * 31.25 / 700)
    edges = np.linspace(0, 2595 * np.log10(1 + 15000 / 700), 130)
    return np.stack([np.interp(mels, edges[k : k + 3], [0, 1, 0]) for k in range(128)], 1)


def published(audio):
    """[128, T] of one sound."""
    mono = audio.astype(float).mean(1)
    sharp = np.convolve(mono, [1, -0.97], 'valid')
    padded = np.pad(sharp, 512, mode='reflect')
    hann = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 799), 112)
    frames = [padded[320 * k : 320 * k + 1024] * hann for k in range(1 + len(sharp) // 320)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    return (np.log(power @ bands() + 1e-5).T + 4.5) / 5


def test_the_spectrogram_is_the_published_one():
    got = np.asarray(LOGMEL(sounds()))
    assert got.shape == (6, 128, 100, 1)
    for ours, sound, atol in zip(got, sounds(), CLOSE, strict=True):
        np.testing.assert_allclose(ours[..., 0], published(sound), atol=atol)
    np.testing.assert_allclose(got[4], (np.log(1e-5) + 4.5) / 5, rtol=1e-6)


@pytest.mark.parametrize(
    ('num', 'columns'), [(514, 2), (320000, 1000), (320001, 1001), (320321, 1002)]
)
def test_a_column_begins_every_10_ms(num, columns):
    sound = jax.ShapeDtypeStruct((num, 2), np.float32)
    assert jax.eval_shape(LOGMEL, sound).shape == (128, columns, 1)


def test_filters_reach_from_0_to_15_khz_and_each_has_a_bin():
    filters = mel_filters()
    np.testing.assert_allclose(filters, bands().T, atol=1e-6)
    assert filters.any(axis=1).all() and not filters[:, 480:].any()
    np.testing.assert_array_equal(
        frontends.find('efficientat_logmel').filters(sample_rate_hz=32000), filters
    )
    assert efficientat_facts(32000)['filters']['high_hz'] == 480 * 31.25


def test_wrong_rates_and_lengths_are_sentences():
    with pytest.raises(ValueError, match='at 32000 Hz, not 48000; resample'):
        efficientat_logmel(np.zeros((32000, 1), np.float32), sample_rate_hz=48000)
    with pytest.raises(ValueError, match=r'takes 514 samples or more.* not 513: complete'):
        efficientat_logmel(np.zeros((513, 1), np.float32), sample_rate_hz=32000)


@pytest.mark.parity
def test_the_source_s_own_module_gives_the_same():
    if 'AVSC_EFFICIENTAT' not in os.environ:
        pytest.skip('AVSC_EFFICIENTAT names no clone of fschmid56/EfficientAT')
    if importlib.util.find_spec('torchaudio') is None:
        pytest.skip('torchaudio, which has the mel filters, is not installed')
    import torch
    import torch_peers

    source = torch_peers.import_efficientat('models.preprocess')
    import torchaudio.compliance.kaldi

    module = source.AugmentMelSTFT(freqm=0, timem=0).eval()
    theirs = module(torch.from_numpy(sounds(320000).mean(2))).numpy()
    ours = np.asarray(LOGMEL(sounds(320000)))[..., 0]
    assert ours.shape == theirs.shape == (6, 128, 1000)
    # its filters are off by 1e-5, since it computes them in float32
    off = np.abs(ours - theirs).max(axis=(1, 2))
    assert (off < 2 * CLOSE + 1e-5).all(), off
    print('largest differences:', off)
    filters, _ = torchaudio.compliance.kaldi.get_mel_banks(
        128, 1024, 32000, 0.0, 15000.0, 100.0, -500.0, 1.0
    )
    np.testing.assert_allclose(mel_filters()[:, :512], filters.numpy(), atol=2e-5)
