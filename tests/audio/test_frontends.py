import os
from functools import partial
from pathlib import Path

import jax
import librosa
import numpy as np
import pytest

from avsc_jax.audio.frontends import hitachi_logmel
from avsc_jax.data import media

RECORDING = Path(__file__).parents[1] / 'data_files/acoustic_scene.flac'  # a second of a real scene
LOGMEL = jax.jit(partial(hitachi_logmel, sample_rate_hz=48000))


def sounds():
    rng = np.random.default_rng(0)
    t = np.arange(48000) / 48000
    # 60 dB below the tone: at the very floor of 80 dB, float32 spectra differ by 1e-3 dB themselves
    quiet = rng.normal(0, 3e-3, (48000, 2))
    tones = 0.5 * np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 9000 * t)], 1)
    clipped = np.clip(rng.normal(0, 2, (48000, 2)), -1, 1)
    burst = quiet * (t > 0.5)[:, None]
    silence, (recording, _) = np.zeros_like(quiet), media.read_audio(RECORDING)
    found = [quiet, tones + quiet, clipped, burst, silence, tones, recording]
    return np.stack(found).astype(np.float32)


def reference(audio):
    """librosa's own functions, one clip."""
    mel = librosa.feature.melspectrogram(
        y=audio.mean(1), sr=48000, n_fft=4096, hop_length=512, n_mels=256
    )
    level = librosa.power_to_db(mel, ref=1.0)
    deltas = [librosa.feature.delta(level, order=order) for order in (1, 2)]
    return np.stack([level, *deltas], axis=-1)


def lineage_reference(audio):
    """Written out in float64: filters from the definition of HTK's scale, line fits by polyfit."""
    padded = np.pad(audio.astype(float).mean(1), 2048)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(4096) / 4096)
    num = 1 + len(audio) // 512
    frames = np.stack([padded[512 * t : 512 * t + 4096] * window for t in range(num)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    top = 2595 * np.log10(1 + 24000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, 258) / 2595) - 1)
    bins = np.arange(2049) * 48000 / 4096
    filters = np.stack([np.interp(bins, edges[m : m + 3], [0, 1, 0]) for m in range(256)])
    level = np.log(power @ filters.T + 1e-8)
    level = (level - level.min()) / max(np.ptp(level), 1e-30)

    def slopes(x):
        return np.stack([np.polyfit(np.arange(5), x[t : t + 5], 1)[0] for t in range(len(x) - 4)])

    delta = slopes(level)
    return np.stack([level[4:-4].T, delta[2:-2].T, slopes(delta).T], -1)


def test_hitachi_logmel_equals_librosa_within_a_thousandth_of_a_decibel():
    audio = sounds()
    got = np.asarray(LOGMEL(audio))
    assert got.shape == (7, 256, 94, 3)
    for ours, clip in zip(got, audio, strict=True):
        np.testing.assert_allclose(ours, reference(clip), atol=1e-3)


def test_ten_seconds_equal_librosa_too():
    audio = np.concatenate([*sounds(), *sounds()[:3]])
    got = np.asarray(LOGMEL(audio))
    assert got.shape == (256, 938, 3)
    np.testing.assert_allclose(got, reference(audio), atol=1e-3)


@pytest.mark.data
def test_recordings_as_long_as_they_are_equal_librosa_too():
    if not (folder := os.environ.get('AVSC_RECORDINGS')):
        pytest.skip('AVSC_RECORDINGS names no folder of sound or video files')
    files = [file for file in sorted(Path(folder).iterdir()) if file.is_file()]
    assert files
    for file in files:
        audio, rate = media.read_audio(file)
        audio = librosa.resample(audio, orig_sr=rate, target_sr=48000, axis=0)
        np.testing.assert_allclose(
            np.asarray(LOGMEL(audio)), reference(audio), atol=1e-3, err_msg=file.name
        )


def test_each_piece_of_a_batch_has_a_floor_of_its_own():
    audio = sounds()
    audio[3] *= 5  # 80 dB below its maximum is then above the least power of -100 dB
    clipped, burst = np.asarray(LOGMEL(audio)[..., 0])[2:4]
    assert clipped.max() > burst.max() + 20
    np.testing.assert_allclose(burst.min(), burst.max() - 80, atol=1e-3)  # half of it is silent


def test_the_lineage_equals_its_definition():
    audio = sounds()[[0, 3, 4]]  # noise, half noise, silence
    got = jax.jit(partial(hitachi_logmel, sample_rate_hz=48000, lineage=True))(audio)
    assert got.shape == (3, 256, 86, 3)
    for ours, clip in zip(got[:2], audio[:2], strict=True):
        np.testing.assert_allclose(ours, lineage_reference(clip), atol=5e-6)  # float32
    assert not np.any(got[2])  # of silence, whose lowest and highest values are one


def test_every_way_of_batching_gives_the_same():
    audio = sounds()[:3]  # odd, so that the last of a few at a time stands alone
    whole = np.asarray(LOGMEL(audio))
    mapped = jax.jit(jax.vmap(LOGMEL))(audio)
    np.testing.assert_allclose(mapped, whole, atol=1e-4)


def test_the_gradient_reaches_the_sound():
    audio = sounds()[0, :8192]
    direction = np.random.default_rng(1).normal(size=audio.shape).astype(np.float32) * 1e-3
    loss = jax.jit(jax.value_and_grad(lambda x: LOGMEL(x)[..., 0].mean()))
    slope = (loss(audio)[1] * direction).sum()
    step = 0.02
    difference = (loss(audio + step * direction)[0] - loss(audio - step * direction)[0]) / 2 / step
    np.testing.assert_allclose(slope, difference, rtol=0.02)


def test_another_sample_rate_is_refused():
    with pytest.raises(ValueError, match='takes sound at 48000 Hz, not 44100'):
        hitachi_logmel(sounds()[0], sample_rate_hz=44100)
