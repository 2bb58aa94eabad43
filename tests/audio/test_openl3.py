"""The reference is kapre's layers written out in float64, kernels and filters by their formulas."""

import os
from functools import cache, partial
from pathlib import Path

import jax
import librosa
import numpy as np
import pytest
import soundfile

from avsc_jax import weights
from avsc_jax.audio.frontends import openl3_mel256
from avsc_jax.audio.openl3 import openl3_windows

VERSIONS = ('0.3.1', '0.4-kapre', '0.4-librosa')


def sounds():
    """Tones in noise, half a second of noise, silence: one second each."""
    t = np.arange(48000)[:, None] / 48000
    noise = np.random.default_rng(0).normal(0, 3e-3, (48000, 2))
    tones = noise + 0.5 * np.sin(2 * np.pi * t * [440, 9000])
    return np.stack([tones, noise * (t > 0.5), 0 * noise]).astype(np.float32)


@cache
def fourier_kernels(window):
    """[window, 2, bins]: cosines and negative sines under a periodic Hann window."""
    n = np.arange(window)[:, None]
    angle = 2 * np.pi * n * np.arange(window // 2 + 1) / window
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / window)
    return np.stack([hann * np.cos(angle), -hann * np.sin(angle)], 1)


@cache
def mel_filters(rate, window, bands, htk):
    """[bins, bands]: triangles over the mel scale's edges, each of the area that Slaney gave it."""
    if htk:
        top = 2595 * np.log10(1 + rate / 2 / 700)
        edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    else:  # linear to 1 kHz, 27 steps for each factor of 6.4 above
        step = np.log(6.4) / 27
        mels = np.linspace(0, 15 + np.log(rate / 2 / 1000) / step, bands + 2)
        edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    bins = np.arange(window // 2 + 1) * rate / window
    peaks = [np.interp(bins, edges[m : m + 3], [0, 1, 0]) for m in range(bands)]
    return (np.stack(peaks) * (2 / (edges[2:] - edges[:-2]))[:, None]).T


def kapre(audio, version):
    """kapre's Melspectrogram of one window, its conv2d as a product with every frame."""
    before = {'0.3.1': (198 * 242 + 2048 - 48000) // 2, '0.4-kapre': 0}[version]
    padded = np.pad(audio.astype(float).mean(1), (before, 2048))
    frames = np.stack([padded[242 * t : 242 * t + 2048] for t in range(199)])
    spectrum = np.tensordot(frames, fourier_kernels(2048), 1)
    power = np.square(spectrum).sum(1)
    if version == '0.3.1':
        mel = np.sqrt(power @ mel_filters(48000, 2048, 256, htk=True))
    else:
        mel = np.sqrt(power) @ mel_filters(48000, 2048, 256, htk=False)
    level = 10 * np.log10(np.maximum(mel, 1e-10))
    return np.maximum(level - level.max(), -80).T[..., None]


def by_librosa(audio):
    """openl3 0.4's own call, with the edges of the librosa of its time."""
    mel = librosa.feature.melspectrogram(
        y=audio.mean(1),
        sr=48000,
        n_fft=2048,
        hop_length=242,
        n_mels=256,
        power=1,
        pad_mode='reflect',
    )
    level = librosa.power_to_db(mel, ref=1.0)
    return (level - level.max())[..., None]


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.filterwarnings('ignore:Empty filters')
def test_each_version_s_spectrogram_is_its_definition_s(version):
    audio = sounds()
    got = jax.jit(partial(openl3_mel256, sample_rate_hz=48000, version=version))(audio)
    assert got.shape == (3, 256, 199, 1)
    reference = by_librosa if version == '0.4-librosa' else partial(kapre, version=version)
    for ours, clip in zip(got, audio, strict=True):
        off = np.abs(ours - reference(clip))
        # dB; in float32 the few filters that hold but one bin stray where it is quiet
        assert (off > 1e-3).mean() < 1e-3 and off.max() < 0.05
    assert not np.any(got[2])


def test_ten_seconds_are_96_windows_whose_middles_lie_a_tenth_apart():
    audio = np.arange(1, 480001, dtype=np.float32)[:, None] + np.float32([0, 2])
    windows = openl3_windows(audio, sample_rate_hz=48000)
    assert windows.shape == (96, 48000, 1)
    assert not windows[0, :24000].any()
    np.testing.assert_array_equal(windows[:, 24000, 0], 2 + np.arange(96) * 4800)
    np.testing.assert_array_equal(windows[-1, :, 0], audio[-48000:].mean(1))


@pytest.mark.parametrize(
    ('num', 'options', 'count'),
    [
        (1, {}, 1),
        (24000, {}, 1),
        (24001, {}, 2),
        (48000, {}, 6),
        (475201, {}, 96),
        (480001, {}, 97),
        (1, {'centre': False}, 1),
        (48000, {'centre': False}, 1),
        (48001, {'centre': False}, 2),
        (96000, {'centre': False, 'hop_s': 0.5}, 3),
    ],
)
def test_the_last_window_holds_the_last_sample(num, options, count):
    audio = np.ones((2, num, 6), np.float32)  # as from 5.1 channels
    cut = partial(openl3_windows, sample_rate_hz=48000, **options)
    assert jax.eval_shape(cut, audio).shape == (2, count, 48000, 1)
    if num < 1e5:
        hop = int(options.get('hop_s', 0.1) * 48000)
        last = num + 24000 * options.get('centre', True) - hop * (count - 1)
        windows = np.asarray(cut(audio))
        assert windows[1, -1, last - 1] == 1 and not windows[1, -1, last:].any()


def test_windows_of_many_clips_become_spectrograms_of_each():
    windows = openl3_windows(sounds()[:2], sample_rate_hz=48000)[:, :3]
    whole = np.asarray(openl3_mel256(windows, sample_rate_hz=48000))
    assert whole.shape == (2, 3, 256, 199, 1)
    np.testing.assert_allclose(whole[1, 2], kapre(np.asarray(windows[1, 2]), '0.3.1'), atol=1e-3)
    assert np.all(whole.max((2, 3, 4)) == 0)  # each has a maximum of its own


def test_what_cannot_be_cut_or_is_no_window_is_one_sentence():
    audio = sounds()[0]
    for function in (openl3_windows, openl3_mel256):
        with pytest.raises(ValueError, match='takes sound at 48000 Hz, not 8000; resample'):
            function(audio, sample_rate_hz=8000)
    with pytest.raises(
        ValueError, match='takes windows of 48000 samples, not 47999: cut the sound'
    ):
        openl3_mel256(audio[1:], sample_rate_hz=48000)
    with pytest.raises(ValueError, match=r'cannot cut 0 samples into windows every 0\.1 s'):
        openl3_windows(audio[:0], sample_rate_hz=48000)
    with pytest.raises(
        ValueError, match=r'every 0\.0 s: give one sample or more and a hop of 0\.0000'
    ):
        openl3_windows(audio, sample_rate_hz=48000, hop_s=0.0)


@pytest.mark.data
def test_the_reference_s_filters_and_kernels_are_those_of_a_published_file():
    if not (file := os.environ.get('AVSC_EDGEL3_H5')):
        pytest.skip('AVSC_EDGEL3_H5 names no edgel3_sea_ust_audio_emb_64.h5.gz')
    state = weights.read(file)  # of 64 bands from 1024 samples at 8 kHz
    group = 'model_weights/melspectrogram_1/melspectrogram_1'
    np.testing.assert_allclose(
        state[f'{group}/Variable:0'], mel_filters(8000, 1024, 64, htk=True), atol=1e-8
    )
    kernels = [state[f'{group}/{part}_kernels:0'][:, 0, 0] for part in ('real', 'imag')]
    np.testing.assert_allclose(np.stack(kernels, 1), fourier_kernels(1024), atol=1e-7)


@pytest.mark.data
@pytest.mark.parametrize('name', ['chirp_44k', 'chirp_44k_linear'])
def test_windows_are_as_many_as_the_published_embeddings(name):
    if not (folder := os.environ.get('AVSC_OPENL3_REGRESSION')):
        pytest.skip(
            "AVSC_OPENL3_REGRESSION names no folder that holds openl3's audio/ and regression/"
        )
    times = np.load(Path(folder, 'regression', f'{name}.npz'))['timestamps']
    sound = soundfile.info(Path(folder, 'audio/chirp_44k.wav'))
    audio = np.zeros((round(sound.duration * 48000), 1), np.float32)
    options = {'hop_s': 0.5, 'centre': False} if name.endswith('linear') else {}
    assert len(openl3_windows(audio, sample_rate_hz=48000, **options)) == len(times)
