"""IOA-CAS's front ends: log-mel, bark and scalogram of windows of 512 ms.

Each takes sound of one or two channels. Channel 0 of the features is (L + R) / 2, channel 1 is
L - R times `difference_scale`, silent for one channel. Windows are centred and the sound's ends
mirrored; zeros first extend a sound of half a window or less, which is too short to mirror. T is 59
for ten seconds and 6 for one. Windows and filters follow the sample rate; the filters ascend in
frequency. Silence is ln(1e-8).

Source: Wang et al. 2021, Sec. 3.1.1, gives lengths and numbers of filters; the mel scale, the bark
formula, the wavelets and the padding are our reading.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.audio.spectrum import filter_bands, mel_facts, mel_matrix, power_of_columns
from avsc_jax.types import Array, Float

WINDOW_S, HOP_S, BANDS = 0.512, 0.171, 256  # Sec. 3.1.1
PER_OCTAVE = 32  # wavelets
EPSILON = 1e-8


def ioacas_logmel(
    audio: Float[Array, '*B N K'], *, sample_rate_hz: int, difference_scale: float = 1.0
) -> Float[Array, '*B T 2 256']:
    """ln(x + 1e-8) of librosa's mel bands of the power (Slaney's scale and norm).

    Example:
      >>> stereo = jax.ShapeDtypeStruct((480000, 2), jnp.float32)  # ten seconds
      >>> jax.eval_shape(lambda x: ioacas_logmel(x, sample_rate_hz=48000), stereo).shape
      (59, 2, 256)
    """
    filters = mel_matrix(sample_rate_hz, window_and_hop(sample_rate_hz)[0], BANDS)
    return _log_bands(audio, filters, sample_rate_hz, difference_scale)


def ioacas_bark(
    audio: Float[Array, '*B N K'],
    *,
    sample_rate_hz: int,
    difference_scale: float = 1.0,
    traunmueller: bool = False,
) -> Float[Array, '*B T 2 256']:
    """ln(x + 1e-8) of triangular bands of the power, of height 1 and equally spaced in bark.

    Args:
      traunmueller: z = 26.81 f / (1960 + f) - 0.53 in place of z = 6 asinh(f / 600).

    Example:
      >>> stereo = jax.ShapeDtypeStruct((480000, 2), jnp.float32)  # ten seconds
      >>> jax.eval_shape(lambda x: ioacas_bark(x, sample_rate_hz=48000), stereo).shape
      (59, 2, 256)
    """
    window, _ = window_and_hop(sample_rate_hz)
    filters = bark_matrix(sample_rate_hz, window, BANDS, traunmueller)
    return _log_bands(audio, filters, sample_rate_hz, difference_scale)


def ioacas_scalogram(
    audio: Float[Array, '*B N K'],
    *,
    sample_rate_hz: int,
    difference_scale: float = 1.0,
    scattering: bool = False,
) -> Float[Array, '*B T 2 M']:
    """ln(x + 1e-8) of the power's sums under the squared `wavelets`; M is 290 at 48 kHz.

    Args:
      scattering: x is the square of the first-order scattering: the modulus of the filtered sound,
        averaged by the bank's low-pass and sampled at the windows' middles; the low-pass's own
        output is treated alike, so that it has a logarithm. Scaled so that x of a steady tone is
        the same both ways. The features of a recording of ten seconds then differ by -0.2 +- 0.5
        (correlation 0.99), those of noise by -0.2 +- 0.3; far from pure tones, where the side lobes
        of the window and the mirrored ends count, by +- 1.4. Takes about five times as long.

    Example:
      >>> stereo = jax.ShapeDtypeStruct((480000, 2), jnp.float32)  # ten seconds
      >>> jax.eval_shape(lambda x: ioacas_scalogram(x, sample_rate_hz=48000), stereo).shape
      (59, 2, 290)
    """
    window, _ = window_and_hop(sample_rate_hz)
    if not scattering:
        filters = scalogram_matrix(sample_rate_hz, window)
        return _log_bands(audio, filters, sample_rate_hz, difference_scale)
    sounds = _padded_channels(audio, window, difference_scale)
    one = partial(_scattering, sample_rate_hz=sample_rate_hz)
    features = jax.lax.map(one, sounds.reshape(-1, sounds.shape[-1]))
    features = features.reshape(-1, 2, *features.shape[1:]).swapaxes(1, 2)
    return features.reshape(*audio.shape[:-2], *features.shape[1:])


def window_and_hop(sample_rate_hz: int) -> tuple[int, int]:
    """Returns the samples of a window, an even number, and of a hop: 24,576, 8,208 at 48 kHz."""
    return 2 * round(WINDOW_S * sample_rate_hz / 2), round(HOP_S * sample_rate_hz)


@lru_cache(maxsize=8)
def bark_matrix(
    sample_rate_hz: int, window: int, num_bands: int, traunmueller: bool = False
) -> np.ndarray:
    """Returns triangles `[M, F]` of height 1, linear in Hz, with corners equally spaced in bark."""
    nyquist = sample_rate_hz / 2
    if traunmueller:
        z = np.linspace(-0.53, 26.81 * nyquist / (1960 + nyquist) - 0.53, num_bands + 2)
        corners = 1960 * (z + 0.53) / (26.28 - z)
    else:
        corners = 600 * np.sinh(np.linspace(0, np.arcsinh(nyquist / 600), num_bands + 2))
    left, peak, right = (corners[k : k + num_bands, None] for k in range(3))
    bins = np.fft.rfftfreq(window, 1 / sample_rate_hz)[None]
    triangles = np.minimum((bins - left) / (peak - left), (right - bins) / (right - peak))
    return np.maximum(triangles, 0).astype(np.float32)


def wavelets(sample_rate_hz: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the wavelets' centres and standard deviations `[M]` in Hz, ascending.

    A low-pass comes first, then wavelets with linear, then with constant-Q centres: 1 + 45 + 244 at
    48 kHz and 24,576 samples, at 2.662 ... 120.238 Hz and, 32 an octave, 122.9 ... 23,742.9 Hz. The
    width of a constant-Q wavelet is in proportion to its centre; the rest are as broad as the
    lowest of these, whose length is the window's.

    Source: our reading of "290 wavelets" (Wang et al. 2021, Sec. 3.1.1).
    """
    step = 2 ** (-1 / PER_OCTAVE)
    nyquist, sigma = sample_rate_hz / 2, 1 / np.sqrt(3) / (1 - step)  # sigma in samples
    half = 1 / np.sqrt(12) / sigma
    constant_q = 1 + round(PER_OCTAVE * np.log2(window / (4 * PER_OCTAVE)))
    linear = round((step - half) / (1 - step))
    scale = step ** np.arange(constant_q)
    centres = (1 + step) / 2 * nyquist * scale
    spacing = nyquist * step**constant_q * (1 - half / step) / linear
    below = centres[-1] - spacing * np.arange(1, linear + 1)
    widths = sample_rate_hz / (2 * np.pi * sigma) * scale
    widths = np.append(widths, np.full(linear + 1, widths[-1]))
    return np.concatenate([centres, below, [0.0]])[::-1], widths[::-1]


def responses(frequencies: np.ndarray, centres: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Returns the responses of wavelets `[M]` at frequencies `[M or 1, F]` in Hz.

    They are bells of height 1, but 0 at 0 Hz: a bell around 0 Hz of the same width is subtracted
    from each, except from the low-pass.
    """
    centres, widths = centres[:, None], widths[:, None]
    bells = np.exp(-0.5 * np.square((frequencies - centres) / widths))
    at_zero = np.where(centres > 0, np.exp(-0.5 * np.square(centres / widths)), 0)
    return bells - at_zero * np.exp(-0.5 * np.square(frequencies / widths))


@lru_cache(maxsize=8)
def scalogram_matrix(sample_rate_hz: int, window: int) -> np.ndarray:
    """Returns the wavelets' squared responses `[M, F]` at a window's bins."""
    frequencies = np.fft.rfftfreq(window, 1 / sample_rate_hz)[None]
    filters = np.square(responses(frequencies, *wavelets(sample_rate_hz, window)))
    # Bells have no end. At 140 dB below the peak float32 spectra hold nothing but rounding.
    return np.where(filters > 1e-14, filters, 0).astype(np.float32)


def _padded_channels(
    audio: Float[Array, '*B N K'], window: int, difference_scale: float
) -> Float[Array, '*B 2 n']:
    """Returns average and difference, with half a window mirrored at both ends."""
    if audio.shape[-1] not in (1, 2):
        raise ValueError(
            f'the front ends of IOA-CAS take one or two channels, not {audio.shape[-1]}: choose two'
        )
    left, right = audio[..., 0], audio[..., -1]
    channels = jnp.stack([(left + right) / 2, (left - right) * difference_scale], axis=-2)
    missing = max(0, window // 2 + 1 - audio.shape[-2])
    keep = [(0, 0)] * (channels.ndim - 1)
    channels = jnp.pad(channels, [*keep, (0, missing)])
    return jnp.pad(channels, [*keep, (window // 2, window // 2)], mode='reflect')


def _log_bands(
    audio: Float[Array, '*B N K'],
    filters: np.ndarray,
    sample_rate_hz: int,
    difference_scale: float,
) -> Float[Array, '*B T 2 M']:
    window, hop = window_and_hop(sample_rate_hz)
    hann = np.hanning(window + 1)[:-1].astype(np.float32)[:, None]

    def bands(clips: Float[Array, 'B N K']) -> Float[Array, 'B T 2 M']:
        sounds = _padded_channels(clips, window, difference_scale)
        sounds = sounds.reshape(-1, sounds.shape[-1]).T
        starts = range(0, len(sounds) - window + 1, hop)
        # Windows are columns, so that the slices of all clips are copied at once.
        columns = [jax.lax.slice_in_dim(sounds, start, start + window) * hann for start in starts]
        power = power_of_columns(jnp.stack(columns, 1).reshape(window, -1))
        levels = jnp.log(filter_bands(power.T, filters) + EPSILON)
        levels = levels.reshape(len(starts), len(clips), 2, len(filters))
        return levels.swapaxes(0, 1)

    def in_groups(clips: Float[Array, 'B N K'], columns: int) -> Float[Array, 'B T 2 M']:
        groups = -(-len(clips) * 2 * (1 + clips.shape[1] // hop) // columns)
        size = -(-len(clips) // groups)
        filled = jnp.pad(clips, [(0, groups * size - len(clips)), (0, 0), (0, 0)])
        features = jax.lax.map(bands, filled.reshape(groups, size, *clips.shape[1:]))
        return features.reshape(groups * size, *features.shape[2:])[: len(clips)]

    clips = audio.reshape(-1, *audio.shape[-2:])
    # On a CPU no more windows at a time than its cache holds.
    features = jax.lax.platform_dependent(
        clips, cpu=partial(in_groups, columns=96), default=partial(in_groups, columns=2048)
    )
    return features.reshape(*audio.shape[:-2], *features.shape[1:])


def _scattering(sound: Float[Array, 'n'], *, sample_rate_hz: int) -> Float[Array, 'T M']:
    """Scatters one padded channel; only a wavelet's own band is transformed back, at its rate."""
    window, hop = window_and_hop(sample_rate_hz)
    centres, widths = wavelets(sample_rate_hz, window)
    bin_hz = sample_rate_hz / len(sound)
    middles_s = (window // 2 + np.arange(1 + (len(sound) - window) // hop) * hop) / sample_rate_hz
    # Bands reach six standard deviations to either side; their modulus is twice as broad. Lengths
    # are powers of 2, so that they are few.
    lengths = 2 ** np.ceil(np.log2(24 * widths / bin_hz)).astype(int)
    lowest = np.maximum(np.round((centres - 6 * widths) / bin_hz), 0).astype(int)
    spectrum = jnp.pad(jnp.fft.rfft(sound), (0, lengths.max()))  # zeros beyond Nyquist
    averages = []
    for length in np.unique(lengths):
        chosen = lengths == length
        bins = lowest[chosen, None] + np.arange(length)[None]
        bells = responses(bins * bin_hz, centres[chosen], widths[chosen]).astype(np.float32)
        bands = jnp.fft.ifft(spectrum[bins] * bells) * (length / len(sound))
        times_s = np.arange(length) / length * len(sound) / sample_rate_hz
        weights = np.exp(-0.5 * (2 * np.pi * widths[0] * (times_s - middles_s[:, None])) ** 2)
        weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        averages.append(jnp.matmul(weights, jnp.abs(bands).T, precision='highest'))
    scattered = jnp.concatenate(averages, -1)  # in order, since the widths ascend
    # the power of a tone of amplitude 1 in a Hann window, summed over its bins
    return jnp.log(0.375 * window**2 * jnp.square(scattered) + EPSILON)


def logmel_facts(sample_rate_hz: int, **options: Any) -> dict:
    """Describes windows, channels and filters of `ioacas_logmel` in plain data."""
    return _facts(sample_rate_hz, **options) | {
        'filters': mel_facts(BANDS, sample_rate_hz, htk=False)
    }


def bark_facts(sample_rate_hz: int, traunmueller: bool = False, **options: Any) -> dict:
    """Describes windows and channels of `ioacas_bark`; its filters are `bark_matrix`."""
    return _facts(sample_rate_hz, **options) | {'filters': 'filters.npz'}


def scalogram_facts(sample_rate_hz: int, scattering: bool = False, **options: Any) -> dict:
    """Describes windows and channels of `ioacas_scalogram`; its filters are `scalogram_matrix`."""
    filters = 'first-order scattering: only system.bin has it' if scattering else 'filters.npz'
    return _facts(sample_rate_hz, **options) | {'filters': filters}


def _facts(sample_rate_hz: int, difference_scale: float = 1.0) -> dict:
    window, hop = window_and_hop(sample_rate_hz)
    return {
        'channels': ['(left + right) / 2', '(left - right) * difference_scale'],
        'difference_scale': difference_scale,
        'window': {
            'samples': window,
            'hop': hop,
            'shape': 'periodic Hann',
            'padding': {'reflect': [window // 2, window // 2]},
        },
        'level': f'ln(x + {EPSILON})',
        'layout': ['windows', 'channels', 'bands'],
    }
