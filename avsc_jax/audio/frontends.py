"""Named front ends: `f(audio [..., N, K] float32, *, sample_rate_hz) -> features`, K channels."""

from functools import lru_cache

import jax.numpy as jnp
import librosa
import numpy as np

from avsc_jax.audio.spectrum import decibels, mel_matrix, power_spectrogram
from avsc_jax.types import Array, Float

HITACHI_WINDOW, HITACHI_HOP, HITACHI_MELS = 4096, 512, 256  # Okazaki 2021, Sec. 2.1


def hitachi_logmel(
    audio: Float[Array, '*B N K'], *, sample_rate_hz: int
) -> Float[Array, '*B 256 T 3']:
    """Log-mel spectrogram in dB with its delta and delta-delta; T is 94 for a second at 48 kHz.

    The channels are averaged. Each piece's values reach 80 dB below its own maximum.

    Source: Okazaki et al. 2021, Sec. 2.1; equal to librosa's melspectrogram, power_to_db (ref 1)
    and feature.delta (width 9, orders 1 and 2), whose edge handling the deltas share.
    """
    if sample_rate_hz != 48000:
        raise ValueError(f'hitachi_logmel takes sound at 48000 Hz, not {sample_rate_hz}; resample')
    mono = jnp.mean(audio, axis=-1)
    power = power_spectrogram(mono, window=HITACHI_WINDOW, hop=HITACHI_HOP)
    mel = mel_matrix(sample_rate_hz, HITACHI_WINDOW, HITACHI_MELS)
    logmel = decibels(jnp.einsum('...ft,mf->...mt', power, mel, precision='highest'))
    static = [logmel]
    for order in (1, 2):
        matrix = delta_matrix(logmel.shape[-1], order)
        static.append(jnp.einsum('...mt,tu->...mu', logmel, matrix, precision='highest'))
    return jnp.stack(static, axis=-1)


@lru_cache(maxsize=32)
def delta_matrix(num_frames: int, order: int) -> np.ndarray:
    """`[T, T]` that librosa.feature.delta (width 9) is: it is linear, edges included."""
    return librosa.feature.delta(np.eye(num_frames), order=order).astype(np.float32)
