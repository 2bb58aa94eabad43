"""Framing, spectra, filterbanks, decibels, deltas. Time comes before frequency."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import librosa
import numpy as np

from avsc_jax.types import Array, Float


def frames(audio: Float[Array, '*B N'], *, window: int, hop: int) -> Float[Array, '*B T W']:
    """Centred frames: zeros of half a window on both sides, 1 + N // hop frames."""
    starts = np.arange(1 + audio.shape[-1] // hop) * hop
    return slices(audio, (window // 2, window // 2), starts, window)


def slices(
    audio: Float[Array, '*B N'], pads: tuple[int, int], starts: np.ndarray, length: int
) -> Float[Array, '*B T W']:
    """Slices of the sound with zeros before and after it."""
    padded = jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [pads])
    # they are copied whole; an index for each sample takes XLA three times as long
    return jax.vmap(
        lambda start: jax.lax.dynamic_slice_in_dim(padded, start, length, -1), out_axes=-2
    )(starts)


def power_spectrogram(
    audio: Float[Array, '*B N'], *, window: int, hop: int
) -> Float[Array, '*B T F']:
    """|STFT|^2 with a periodic Hann window, as librosa.stft(center=True)."""
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    framed = frames(audio, window=window, hop=hop)
    spectrum = jnp.fft.rfft(framed * jnp.broadcast_to(hann, framed.shape))
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


@lru_cache(maxsize=8)
def mel_matrix(sample_rate_hz: int, window: int, num_mels: int, htk: bool = False) -> np.ndarray:
    """librosa's mel filters `[M, F]`: Slaney's scale and norm, or HTK's scale with peaks of 1."""
    return librosa.filters.mel(
        sr=sample_rate_hz, n_fft=window, n_mels=num_mels, htk=htk, norm=None if htk else 'slaney'
    )


def filter_bands(
    power: Float[Array, '*B T F'], filters: np.ndarray, *, together: int = 16
) -> Float[Array, '*B T M']:
    """`power @ filters.T`, leaving out what is zero around each group of neighbouring filters.

    Of 256 mel filters on 2049 bins, groups of 16 leave a fifteenth of the products.
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
    """10 log10 of the power, no lower than `range_db` below the spectrogram's own maximum."""
    level = 10 * jnp.log10(jnp.maximum(power, 1e-10))
    return jnp.maximum(level, level.max(axis=(-2, -1), keepdims=True) - range_db)


@lru_cache(maxsize=32)
def delta_matrix(num_frames: int, order: int) -> np.ndarray:
    """`[T, T]` that librosa.feature.delta (width 9) is: it is linear, edges included."""
    return librosa.feature.delta(np.eye(num_frames), order=order).astype(np.float32)


def regression_delta(x: Float[Array, '*B T F']) -> Float[Array, '*B t F']:
    """Slope of a line through five frames; two frames fewer at each end."""
    num = x.shape[-2]
    ahead = [jax.lax.slice_in_dim(x, k, num - 4 + k, axis=-2) for k in range(5)]
    return (ahead[3] - ahead[1]) / 10 + (ahead[4] - ahead[0]) / 5
