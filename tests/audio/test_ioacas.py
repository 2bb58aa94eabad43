from functools import partial
from pathlib import Path

import jax
import librosa
import numpy as np
import pytest

from avsc_jax.audio import frontends, ioacas, spectrum
from avsc_jax.data import media

RECORDING = Path(__file__).parents[1] / 'data_files/acoustic_scene.flac'  # a second of a real scene
RATE, WINDOW, HOP = 48000, 24576, 8208
LOGMEL, BARK, SCALOGRAM = (
    jax.jit(partial(getattr(frontends, f'ioacas_{name}'), sample_rate_hz=RATE))
    for name in ('logmel', 'bark', 'scalogram')
)


def sounds():
    """A recording, noise, half noise and silence; the second channel of each has its own."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (2, RATE, 2)) * [[[1.0, 0.3]]]
    noise[1, RATE // 2 :] = 0
    recording, rate = media.read_audio(RECORDING)
    assert (recording.shape, rate) == ((RATE, 2), RATE)
    return np.stack([recording, *noise, np.zeros_like(recording)]).astype(np.float32)


def average_and_difference(audio):
    return np.stack([(audio[..., 0] + audio[..., 1]) / 2, audio[..., 0] - audio[..., 1]], -2)


def power(audio, window, hop):
    """Written out in float64: `[..., 2, T, F]`."""
    channels = average_and_difference(audio.astype(float))
    pads = [(0, 0)] * (channels.ndim - 1) + [(window // 2, window // 2)]
    padded = np.pad(channels, pads, mode='reflect')
    starts = range(0, audio.shape[-2] + 1, hop)
    framed = np.stack([padded[..., start : start + window] for start in starts], -2)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return np.abs(np.fft.rfft(framed * hann)) ** 2


def bark_filters(nyquist, bins_hz):
    """By bisection of z = 6 asinh(f / 600) on a fine grid, and by interpolation."""
    grid = np.linspace(0, nyquist, 2_000_001)
    z = 6 * np.arcsinh(grid / 600)
    corners = np.interp(np.linspace(0, z[-1], 258), z, grid)
    return np.stack([np.interp(bins_hz, corners[m : m + 3], [0, 1, 0]) for m in range(256)])


def scalogram_filters(bins_hz):
    """The bank at 48 kHz by its figures."""
    octaves = 2.0 ** (-np.arange(243, -1, -1) / 32)
    centres = np.concatenate([[0], np.linspace(2.662, 120.238, 45), 23742.865 * octaves])
    widths = np.concatenate([np.full(46, 1.46776), 283.5323 * octaves])
    bells = np.exp(-(((bins_hz - centres[:, None]) / widths[:, None]) ** 2) / 2)
    at_zero = np.exp(-((centres / widths) ** 2) / 2) * (centres > 0)
    return (bells - at_zero[:, None] * np.exp(-((bins_hz / widths[:, None]) ** 2) / 2)) ** 2


@pytest.mark.parametrize('window', [30, 1536, WINDOW, 254 * 257])
def test_products_of_matrices_give_the_power_of_the_fourier_transform(window):
    frames = np.random.default_rng(0).normal(size=(window, 3)).astype(np.float32)
    expected = np.abs(np.fft.rfft(frames.astype(float), axis=0)) ** 2
    got = jax.jit(spectrum.power_of_columns)(frames)
    # float32: a few 1e-7 of the amplitudes, which are about the root of the window
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=5e-6 * window)


def test_logmel_equals_librosa():
    audio = sounds()
    got = np.asarray(LOGMEL(audio))
    mel = librosa.feature.melspectrogram(
        y=average_and_difference(audio),
        sr=RATE,
        n_fft=WINDOW,
        hop_length=HOP,
        n_mels=256,
        pad_mode='reflect',
    )
    assert got.shape == (4, 6, 2, 256)
    # 118 dB below its loudest band the recording has some whose float32 sums differ by so much
    np.testing.assert_allclose(got, np.log(np.moveaxis(mel, -1, -3) + 1e-8), atol=1e-3)


@pytest.mark.parametrize('name', ['bark', 'scalogram'])
def test_bark_and_scalogram_equal_their_definitions(name):
    audio = sounds()
    bins_hz = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    function, filters = {
        'bark': (BARK, bark_filters(RATE / 2, bins_hz)),
        'scalogram': (SCALOGRAM, scalogram_filters(bins_hz)),
    }[name]
    expected = np.log(power(audio, WINDOW, HOP) @ filters.T + 1e-8).swapaxes(-3, -2)
    got = np.asarray(function(audio))
    assert got.shape == expected.shape == (4, 6, 2, 256 if name == 'bark' else 290)
    np.testing.assert_allclose(got, expected, atol=5e-3)  # the figures have four digits
    np.testing.assert_allclose(got[3], np.log(1e-8), rtol=1e-6)


def test_traunmueller_spaces_the_bands_by_his_formula():
    filters = ioacas.bark_matrix(RATE, WINDOW, 256, traunmueller=True)
    peaks = filters.argmax(1) * RATE / WINDOW
    z = 26.81 * peaks / (1960 + peaks) - 0.53
    expected = -0.53 + np.arange(1, 257) * (26.81 * 24000 / 25960) / 257
    # the peak's bin lies within half a bin of the peak
    slack = 26.81 * 1960 / (1960 + peaks) ** 2 * RATE / WINDOW
    assert np.all(np.abs(z - expected) < slack)
    spaced = partial(frontends.ioacas_bark, sample_rate_hz=RATE, traunmueller=True)
    assert np.abs(jax.jit(spaced)(sounds()[:1]) - BARK(sounds())[:1]).max() > 1


def test_the_bank_has_the_figures_of_the_specification():
    centres, widths = ioacas.wavelets(RATE, WINDOW)
    assert len(centres) == len(widths) == 290 and np.all(np.diff(centres) > 0)
    linear, constant_q = np.split(centres[1:], [45])
    assert centres[0] == 0 and len(constant_q) == 244
    np.testing.assert_allclose(linear[[0, -1]], [2.662, 120.238], atol=5e-4)
    np.testing.assert_allclose(np.diff(linear), 2.672, atol=5e-4)
    np.testing.assert_allclose(constant_q[::-1], 23742.865 * 2 ** (-np.arange(244) / 32), rtol=1e-7)
    np.testing.assert_allclose(widths[:46], 1.468, atol=5e-4)
    np.testing.assert_allclose(widths[46:] / constant_q, 283.532 / 23742.865, rtol=5e-6)


@pytest.mark.parametrize(('rate', 'count'), [(44100, 286), (16000, 239), (8000, 207)])
def test_another_rate_has_a_bank_of_its_own(rate, count):
    window, hop = ioacas.window_and_hop(rate)
    assert abs(window - 0.512 * rate) <= 1 and abs(hop - 0.171 * rate) <= 0.5
    centres, _ = ioacas.wavelets(rate, window)
    assert len(centres) == count
    assert 0.98 * rate / 2 < centres[-1] < rate / 2
    audio = jax.ShapeDtypeStruct((rate, 2), np.float32)
    shape = jax.eval_shape(partial(frontends.ioacas_scalogram, sample_rate_hz=rate), audio).shape
    assert shape == (6, 2, count)


def test_wavelets_pass_their_centre_and_nothing_at_zero():
    bank = ioacas.wavelets(RATE, WINDOW)
    at_zero = ioacas.responses(np.zeros((1, 1)), *bank)[:, 0]
    np.testing.assert_allclose(at_zero, np.eye(290)[0], atol=1e-12)
    at_centre = ioacas.responses(bank[0][:, None], *bank)[:, 0]
    assert at_centre.max() <= 1 and np.all(at_centre[3:] > 0.999)


@pytest.mark.parametrize('name', ['logmel', 'bark', 'scalogram'])
def test_a_tone_is_loudest_in_its_own_band(name):
    function, filters = {
        'logmel': (LOGMEL, spectrum.mel_matrix(RATE, WINDOW, 256)),
        'bark': (BARK, ioacas.bark_matrix(RATE, WINDOW, 256)),
        'scalogram': (SCALOGRAM, None),
    }[name]
    bands = np.array([25, 44, 60, 133, 200, 255])
    if name == 'scalogram':
        tones_hz = ioacas.wavelets(RATE, WINDOW)[0][bands]
    else:
        tones_hz = filters[bands].argmax(1) * RATE / WINDOW
    t = np.arange(RATE) / RATE
    tones = 0.1 * np.sin(2 * np.pi * tones_hz[:, None] * t)
    audio = np.stack([tones, -tones], -1).astype(np.float32)  # the difference alone
    # twice four of the six, for which the function is compiled already
    got = np.concatenate([function(audio[:4]), function(audio[2:])[2:]])
    np.testing.assert_array_equal(got[:, 2:4, 1].argmax(-1), bands[:, None].repeat(2, 1))
    np.testing.assert_allclose(got[:, :, 0], np.log(1e-8), rtol=1e-6)


@pytest.mark.parametrize('name', ['logmel', 'bark', 'scalogram'])
@pytest.mark.parametrize(('seconds', 'num_frames'), [(10, 59), (1, 6)])
def test_frames_are_59_in_ten_seconds_and_6_in_one(name, seconds, num_frames):
    function = partial(getattr(frontends, f'ioacas_{name}'), sample_rate_hz=RATE)
    audio = jax.ShapeDtypeStruct((3, seconds * RATE, 2), np.float32)
    filters = 290 if name == 'scalogram' else 256
    assert jax.eval_shape(function, audio).shape == (3, num_frames, 2, filters)


def test_one_channel_is_two_equal_ones_with_a_silent_difference():
    mono = sounds()[..., :1]
    got = np.asarray(BARK(mono))
    np.testing.assert_array_equal(got[:, :, 1], np.float32(np.log(1e-8)))
    np.testing.assert_array_equal(got, BARK(mono.repeat(2, -1)))


def test_the_difference_can_be_scaled():
    audio = sounds()
    halved = partial(frontends.ioacas_logmel, sample_rate_hz=RATE, difference_scale=0.5)
    half = jax.jit(halved)(audio)
    whole = np.asarray(LOGMEL(audio))
    np.testing.assert_allclose(half[:, :, 0], whole[:, :, 0], atol=1e-5)
    expected = np.log((np.exp(whole[:, :, 1]) - 1e-8) / 4 + 1e-8)
    np.testing.assert_allclose(half[:, :, 1], expected, atol=1e-4)


@pytest.mark.parametrize('num', [1, 5000, WINDOW // 2])
def test_a_sound_too_short_to_be_mirrored_has_zeros_appended(num):
    audio = sounds()[1, :num]
    filled = np.pad(audio, ((0, WINDOW // 2 + 1 - num), (0, 0)))
    got = np.asarray(LOGMEL(audio))
    assert got.shape == (2, 2, 256)
    np.testing.assert_array_equal(got, LOGMEL(filled))


def test_three_channels_are_refused():
    with pytest.raises(ValueError, match='one or two channels, not 3'):
        frontends.ioacas_bark(np.zeros((RATE, 3), np.float32), sample_rate_hz=RATE)


def test_every_way_of_batching_gives_the_same():
    audio = np.random.default_rng(0).normal(0, 0.1, (9, 8000, 2)).astype(np.float32)
    function = jax.jit(partial(frontends.ioacas_logmel, sample_rate_hz=8000))
    whole = np.asarray(function(audio))  # nine are two groups, of five and four and one to fill
    assert whole.shape == (9, 6, 2, 256)
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(audio), whole, atol=1e-4)
    np.testing.assert_allclose(function(audio.reshape(3, 3, 8000, 2))[2, 1], whole[7], atol=1e-4)


def test_scattering_is_the_averaged_modulus_of_the_filtered_sound():
    rate, rng = 8000, np.random.default_rng(0)
    window, hop = ioacas.window_and_hop(rate)
    audio = rng.normal(0, 0.1, (4800, 2)) + 0.1 * np.sin(np.arange(4800) * 0.5)[:, None]
    got = frontends.ioacas_scalogram(
        audio[None].astype(np.float32), sample_rate_hz=rate, scattering=True
    )[0]
    channels = average_and_difference(audio)
    padded = np.pad(channels, ((0, 0), (window // 2, window // 2)), mode='reflect')
    num = padded.shape[-1]
    frequencies = np.fft.fftfreq(num, 1 / rate)
    bank = ioacas.wavelets(rate, window)
    bells = ioacas.responses(np.abs(frequencies)[None], *bank) * (frequencies >= 0)
    filtered = np.abs(np.fft.ifft(np.fft.fft(padded)[:, None] * bells))
    middles = window // 2 + np.arange(1 + 4800 // hop) * hop
    distance = (np.arange(num) - middles[:, None]) / rate
    weights = np.exp(-((2 * np.pi * bank[1][0] * distance) ** 2) / 2)
    averages = filtered @ (weights / weights.sum(1, keepdims=True)).T
    expected = np.log(3 / 8 * window**2 * averages**2 + 1e-8).transpose(2, 0, 1)
    # A modulus has kinks, and a few of its samples do not hold them all.
    np.testing.assert_allclose(got, expected, atol=0.03)


def test_scattering_is_near_the_default_on_a_recording_noise_and_a_tone():
    tone = 0.1 * np.sin(2 * np.pi * ioacas.wavelets(RATE, WINDOW)[0][150] * np.arange(RATE) / RATE)
    audio = np.stack([*sounds()[:2], *[np.stack([tone, -tone], -1)] * 2]).astype(np.float32)
    scattering = partial(frontends.ioacas_scalogram, sample_rate_hz=RATE, scattering=True)
    energy, got = np.asarray(SCALOGRAM(audio)), np.asarray(jax.jit(scattering)(audio[:3]))
    for ours, default in zip(got[:2], energy[:2], strict=True):
        assert np.corrcoef(ours.ravel(), default.ravel())[0, 1] > 0.98
        # of Gaussian noise the mean modulus, squared, is pi / 4 of the mean square: -0.24
        assert -0.4 < np.mean(ours - default) < 0
    # a tone that fits the filter has the same value in both
    np.testing.assert_allclose(got[2, 2:4, 1, 150], energy[2, 2:4, 1, 150], atol=0.01)
