"""Framing, spectra, filterbanks, decibels."""

from functools import lru_cache

import jax.numpy as jnp
import librosa
import numpy as np

from avsc_jax.types import Array, Float


def frames(audio: Float[Array, '*B N'], *, window: int, hop: int) -> Float[Array, '*B T W']:
    """Centred frames: zeros of half a window on both sides, 1 + N // hop frames."""
    *batch, num = audio.shape
    padded = jnp.pad(audio, [(0, 0)] * len(batch) + [(window // 2, window // 2)])
    starts = np.arange(1 + num // hop) * hop
    return padded[..., starts[:, None] + np.arange(window)[None, :]]


def power_spectrogram(
    audio: Float[Array, '*B N'], *, window: int, hop: int
) -> Float[Array, '*B F T']:
    """|STFT|^2 with a periodic Hann window, as librosa.stft(center=True)."""
    hann = np.hanning(window + 1)[:-1].astype(np.float32)
    framed = frames(audio, window=window, hop=hop)
    spectrum = jnp.fft.rfft(framed * jnp.broadcast_to(hann, framed.shape))
    return jnp.swapaxes(jnp.square(spectrum.real) + jnp.square(spectrum.imag), -1, -2)


@lru_cache(maxsize=8)
def mel_matrix(sample_rate_hz: int, window: int, num_mels: int) -> np.ndarray:
    """librosa's mel filters `[M, F]` (Slaney's scale and norm)."""
    return librosa.filters.mel(sr=sample_rate_hz, n_fft=window, n_mels=num_mels)


def decibels(power: Float[Array, '*B F T'], *, range_db: float = 80.0) -> Float[Array, '*B F T']:
    """10 log10 of the power, no lower than `range_db` below the spectrogram's own maximum."""
    level = 10 * jnp.log10(jnp.maximum(power, 1e-10))
    return jnp.maximum(level, level.max(axis=(-2, -1), keepdims=True) - range_db)
