"""Named front ends: `f(audio [..., N, K] float32, *, sample_rate_hz) -> features`, K channels."""

from functools import partial

import jax
import jax.numpy as jnp

from avsc_jax.audio.ioacas import ioacas_bark, ioacas_logmel, ioacas_scalogram
from avsc_jax.audio.openl3 import openl3_mel256
from avsc_jax.audio.spectrum import (
    decibels,
    delta_matrix,
    filter_bands,
    mel_matrix,
    power_spectrogram,
    regression_delta,
)
from avsc_jax.types import Array, Float

__all__ = [
    'hitachi_logmel',
    'ioacas_bark',
    'ioacas_logmel',
    'ioacas_scalogram',
    'openl3_mel256',
]

HITACHI_WINDOW, HITACHI_HOP, HITACHI_MELS = 4096, 512, 256  # Okazaki 2021, Sec. 2.1


def hitachi_logmel(
    audio: Float[Array, '*B N K'], *, sample_rate_hz: int, lineage: bool = False
) -> Float[Array, '*B 256 T 3']:
    """Log-mel spectrogram with its delta and delta-delta; T is 94 for a second at 48 kHz.

    The channels are averaged. In dB; each piece's values reach 80 dB below its own maximum.

    Args:
      lineage: as in the code of the DCASE task 1 systems that this one descends from: HTK's mel
        scale, filters of height 1, ln(x + 1e-8), scaled to 0 ... 1 in each piece; deltas are
        slopes over five frames, and the four frames at each end, where they would lack
        neighbours, are left out: T is 86.

    Source: Okazaki et al. 2021, Sec. 2.1; equal to librosa's melspectrogram, power_to_db (ref 1)
    and feature.delta (width 9, orders 1 and 2), whose edge handling the deltas share. `lineage`:
    McDonnell and Gao 2020; Hu et al. 2020.
    """
    if sample_rate_hz != 48000:
        raise ValueError(f'hitachi_logmel takes sound at 48000 Hz, not {sample_rate_hz}; resample')
    one = partial(_hitachi_piece, lineage=lineage)
    pieces = audio.reshape(-1, *audio.shape[-2:])
    # On a CPU a few pieces at a time, because their spectra then stay in its cache.
    features = jax.lax.platform_dependent(
        pieces, cpu=partial(jax.lax.map, one, batch_size=2), default=jax.vmap(one)
    )
    return features.reshape(*audio.shape[:-2], *features.shape[1:])


def _hitachi_piece(audio: Float[Array, 'N K'], *, lineage: bool) -> Float[Array, '256 T 3']:
    mono = sum(jnp.unstack(audio, axis=-1)) / audio.shape[-1]  # XLA takes thrice as long for mean
    power = power_spectrogram(mono, window=HITACHI_WINDOW, hop=HITACHI_HOP)
    mel = filter_bands(power, mel_matrix(48000, HITACHI_WINDOW, HITACHI_MELS, htk=lineage))
    if lineage:
        level = jnp.log(mel + 1e-8)
        low, high = level.min(), level.max()
        level = (level - low) / jnp.where(high > low, high - low, 1)
        delta = regression_delta(level)
        channels = level[4:-4], delta[2:-2], regression_delta(delta)
    else:
        level = decibels(mel)
        slopes = (delta_matrix(len(level), order).T for order in (1, 2))
        channels = level, *(jnp.matmul(m, level, precision='highest') for m in slopes)
    return jnp.stack([channel.T for channel in channels], -1)
