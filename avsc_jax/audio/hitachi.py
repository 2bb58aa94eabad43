"""Hitachi's front end: log-mel spectrograms with their deltas."""

from functools import partial

import jax
import jax.numpy as jnp

from avsc_jax.audio.spectrum import (
    decibels,
    delta_matrix,
    filter_bands,
    mel_facts,
    mel_matrix,
    power_spectrogram,
    regression_delta,
)
from avsc_jax.types import Array, Float

WINDOW, HOP, MELS = 4096, 512, 256  # Okazaki 2021, Sec. 2.1


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

    Raises:
      ValueError: the sample rate is not 48 kHz.

    Example:
      >>> stereo = jax.ShapeDtypeStruct((2, 48000, 2), jnp.float32)  # two pieces of a second
      >>> jax.eval_shape(lambda x: hitachi_logmel(x, sample_rate_hz=48000), stereo).shape
      (2, 256, 94, 3)

    Source: Okazaki et al. 2021, Sec. 2.1; equal to librosa's melspectrogram, power_to_db (ref 1)
    and feature.delta (width 9, orders 1 and 2), whose edge handling the deltas share. `lineage`:
    McDonnell and Gao 2020; Hu et al. 2020.
    """
    if sample_rate_hz != 48000:
        raise ValueError(f'hitachi_logmel takes sound at 48000 Hz, not {sample_rate_hz}; resample')
    one = partial(_piece, lineage=lineage)
    pieces = audio.reshape(-1, *audio.shape[-2:])
    # On a CPU a few pieces at a time, because their spectra then stay in its cache.
    features = jax.lax.platform_dependent(
        pieces, cpu=partial(jax.lax.map, one, batch_size=2), default=jax.vmap(one)
    )
    return features.reshape(*audio.shape[:-2], *features.shape[1:])


def _piece(audio: Float[Array, 'N K'], *, lineage: bool) -> Float[Array, '256 T 3']:
    mono = sum(jnp.unstack(audio, axis=-1)) / audio.shape[-1]  # XLA takes thrice as long for mean
    power = power_spectrogram(mono, window=WINDOW, hop=HOP)
    mel = filter_bands(power, mel_matrix(48000, WINDOW, MELS, htk=lineage))
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


def hitachi_facts(sample_rate_hz: int, lineage: bool = False) -> dict:
    """Describes window, filters, level and deltas in plain data, for other programs."""
    half = WINDOW // 2
    facts = {
        'channels': 'their mean',
        'window': {
            'samples': WINDOW,
            'hop': HOP,
            'shape': 'periodic Hann',
            'padding': {'zeros': [half, half]},
        },
        'filters': mel_facts(MELS, sample_rate_hz, htk=lineage),
        'layout': ['bands', 'columns', 'level, delta, delta-delta'],
    }
    if lineage:
        return facts | {
            'level': 'ln(x + 1e-8), then (level - least) / (most - least) over the whole piece',
            'deltas': 'd[t] = (x[t+1] - x[t-1]) / 10 + (x[t+2] - x[t-2]) / 5, and of that again; '
            'without the 4 columns at each end',
        }
    return facts | {
        'level': '10 log10(max(x, 1e-10)), no less than 80 below the greatest of the piece',
        'deltas': 'along the columns: librosa.feature.delta, width 9, order 1 and order 2, both '
        'of the level',
    }
