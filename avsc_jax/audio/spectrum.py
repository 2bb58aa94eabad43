"""Frames, spectra, filter banks, decibels and deltas of sound; time comes before frequency."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import librosa
import numpy as np

from avsc_jax.types import Array, Float


def frames(audio: Float[Array, '*B N'], *, window: int, hop: int) -> Float[Array, '*B T W']:
    """Cuts centred frames: half a window of zeros on both sides, 1 + N // hop frames."""
    starts = np.arange(1 + audio.shape[-1] // hop) * hop
    return slices(audio, (window // 2, window // 2), starts, window)


def slices(
    audio: Float[Array, '*B N'], pads: tuple[int, int], starts: np.ndarray, length: int
) -> Float[Array, '*B T W']:
    """Cuts slices of sound that has zeros before and after it."""
    padded = jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [pads])
    # slices are copied whole; an index for each sample takes XLA three times as long
    return jax.vmap(
        lambda start: jax.lax.dynamic_slice_in_dim(padded, start, length, -1), out_axes=-2
    )(starts)


def power_spectrogram(
    audio: Float[Array, '*B N'], *, window: int, hop: int
) -> Float[Array, '*B T F']:
    """Returns |STFT|^2 with a periodic Hann window, as librosa.stft(center=True)."""
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    framed = frames(audio, window=window, hop=hop)
    spectrum = jnp.fft.rfft(framed * jnp.broadcast_to(hann, framed.shape))
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def power_of_columns(frames: Float[Array, 'W F']) -> Float[Array, 'k F']:
    """Returns |DFT|^2 of each column, for the bins 0 ... W / 2.

    In three steps (Cooley and Tukey 1965), each a matrix product for all columns: several times the
    arithmetic of an FFT, but XLA computes it on all cores of a CPU, and its FFT on one.
    """
    window, columns = frames.shape
    if (radices := _radices(window)) is None:
        spectrum = jnp.fft.rfft(frames, axis=0)
        return jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    first, second, third, places = _transforms(*radices)
    product = partial(jnp.matmul, precision='highest')
    x = product(first, frames.reshape(first.shape[1], -1))
    x = product(second, x.reshape(*second.shape[:2], -1))
    x = product(third, x.reshape(*third.shape[:2], columns)).reshape(len(third), 2, -1, columns)
    return (jnp.square(x[:, 0]) + jnp.square(x[:, 1])).reshape(-1, columns)[places]


def _radices(window: int) -> tuple[int, int, int] | None:
    """Returns the window's fastest three factors, or None where they would be slow."""
    divisors = [n for n in range(1, 257) if window % n == 0]
    # the first product takes real numbers; it is fastest when that one is the largest
    costs = [
        (a + 4 * (b + window // (a * b)), -a, b)
        for a in divisors
        for b in divisors
        if a % 2 == 0 and window % (a * b) == 0
    ]
    cost, a, b = min(costs, default=(np.inf, 0, 0))
    return (-a, b, window // (-a * b)) if cost < 512 else None


@lru_cache(maxsize=4)
def _transforms(a: int, b: int, c: int) -> tuple[np.ndarray, ...]:
    """Returns the steps' real matrices, and each bin's place in the last step's output.

    Sample b c i + c j + l, bin p + a q + a b r: i, j and l are summed in turn, which leaves p, q
    and r. Up to a / 2, p is enough: bin W - k is the conjugate of bin k.
    """
    p, q, r = np.arange(a // 2 + 1), np.arange(b), np.arange(c)
    pq = (p[:, None] + a * q).reshape(-1, 1)
    turns = (
        p[:, None] * np.arange(a) / a,
        (pq * np.arange(b) / (a * b)).reshape(len(p), b, b),
        (pq + a * b * r)[..., None] * np.arange(c) / (a * b * c),
    )
    first, second, third = (np.exp(-2j * np.pi * turn) for turn in turns)
    # [..., out, in] -> [..., out, 2, in]: the product with a complex number's two parts
    second, third = (np.stack([m, 1j * m], axis=-2) for m in (second, third))
    matrices = (
        np.stack([first.real, first.imag], 1).reshape(-1, a),
        np.stack([second.real, second.imag], 2).reshape(len(p), 2 * b, 2 * b),
        np.stack([third.real, third.imag], 1).reshape(-1, 2 * c, 2 * c),
    )
    bins = np.arange(a * b * c // 2 + 1)
    bins = np.where(bins % a > a // 2, a * b * c - bins, bins)
    places = (bins % a * b + bins // a % b) * c + bins // (a * b)
    return *(m.astype(np.float32) for m in matrices), places


@lru_cache(maxsize=8)
def mel_matrix(sample_rate_hz: int, window: int, num_mels: int, htk: bool = False) -> np.ndarray:
    """Returns librosa's mel filters `[M, F]`: Slaney's scale and norm, or HTK's with peaks of 1."""
    return librosa.filters.mel(
        sr=sample_rate_hz, n_fft=window, n_mels=num_mels, htk=htk, norm=None if htk else 'slaney'
    )


@lru_cache(maxsize=8)
def straight_mel_matrix(
    sample_rate_hz: int, window: int, num_mels: int, low_hz: float, high_hz: float
) -> np.ndarray:
    """Returns filters `[M, F]` over HTK's mel scale, with peaks of 1 and straight sides over mels.

    TensorFlow's and Kaldi's filters are such ones. The sides of librosa's are straight over
    frequencies. The lowest bin is left out, as TensorFlow does; Kaldi's filters begin above it.

    Source: tf.signal.linear_to_mel_weight_matrix; torchaudio.compliance.kaldi.get_mel_banks.
    """

    def mel(hz):
        return 1127.0 * np.log1p(hz / 700.0)

    bins = mel(np.linspace(0, sample_rate_hz / 2, window // 2 + 1))[None]
    edges = np.linspace(mel(low_hz), mel(high_hz), num_mels + 2)
    low, centre, high = (edges[k : k + num_mels, None] for k in range(3))
    sides = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters = np.maximum(0, sides)
    filters[:, 0] = 0
    return filters.astype(np.float32)


def mel_facts(bands: int, sample_rate_hz: int, *, htk: bool) -> dict:
    """Describes the filters of `mel_matrix` in the words of `librosa.filters.mel`."""
    scale = {'htk': htk, 'norm': None if htk else 'slaney'}
    return {'mel_bands': bands, 'low_hz': 0, 'high_hz': sample_rate_hz / 2} | scale


def filter_bands(
    power: Float[Array, '*B T F'], filters: np.ndarray, *, together: int = 16
) -> Float[Array, '*B T M']:
    """Returns `power @ filters.T`, without the bins where a group of neighbours is all zero.

    For 256 mel filters on 2049 bins, groups of 16 need a fifteenth of the products.
    """
    bands = []
    for first in range(0, len(filters), together):
        group = filters[first : first + together]
        bins = np.flatnonzero(group.any(0))
        low, high = bins[0], bins[-1] + 1
        part = jax.lax.slice_in_dim(power, low, high, axis=-1)
        bands.append(jnp.matmul(part, group[:, low:high].T, precision='highest'))
    return jnp.concatenate(bands, -1)


def decibels(power: Float[Array, '*B T F'], *, range_db: float = 80.0) -> Float[Array, '*B T F']:
    """Returns 10 log10 of the power, no lower than `range_db` below a spectrogram's maximum."""
    level = 10 * jnp.log10(jnp.maximum(power, 1e-10))
    return jnp.maximum(level, level.max(axis=(-2, -1), keepdims=True) - range_db)


@lru_cache(maxsize=32)
def delta_matrix(num_frames: int, order: int) -> np.ndarray:
    """Returns librosa.feature.delta (width 9), which is linear, as a matrix `[T, T]`."""
    return librosa.feature.delta(np.eye(num_frames), order=order).astype(np.float32)


def regression_delta(x: Float[Array, '*B T F']) -> Float[Array, '*B t F']:
    """Returns the slope of a line through five frames; two frames fewer at each end."""
    num = x.shape[-2]
    ahead = [jax.lax.slice_in_dim(x, k, num - 4 + k, axis=-2) for k in range(5)]
    return (ahead[3] - ahead[1]) / 10 + (ahead[4] - ahead[0]) / 5
