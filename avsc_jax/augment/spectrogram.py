"""Augmentation of sound `[N, K]` and of spectrograms `[F, T, K]`, one example."""

import jax
import jax.numpy as jnp

from avsc_jax.types import Array, Float


def random_gain(
    key: jax.Array, audio: Float[Array, 'N K'], *, limit_db: float = 6.0
) -> Float[Array, 'N K']:
    """The sound louder or quieter by a gain uniform in dB within ±`limit_db`."""
    gain_db = jax.random.uniform(key, minval=-limit_db, maxval=limit_db)
    return audio * 10 ** (gain_db / 20)


def frequency_mask(
    key: jax.Array,
    x: Float[Array, 'F T K'],
    *,
    max_bands: int = 24,
    num_masks: int = 1,
    value: float = 0.0,
) -> Float[Array, 'F T K']:
    """Sets up to `max_bands` neighbouring bands, all frames and channels of them, to `value`.

    Zero is the mean of a normalised spectrogram, but a loud sound in dB: normalise first.

    Source: Park et al. 2019, Sec. 2, in whole bands: the width is uniform in 0 ... max_bands, the
    place uniform among those where that width fits.
    """
    return _mask(key, x, 0, max_bands, num_masks, value)


def time_mask(
    key: jax.Array,
    x: Float[Array, 'F T K'],
    *,
    max_frames: int = 24,
    num_masks: int = 1,
    value: float = 0.0,
) -> Float[Array, 'F T K']:
    """Sets up to `max_frames` neighbouring frames to `value`; else as `frequency_mask`."""
    return _mask(key, x, 1, max_frames, num_masks, value)


def _mask(key, x, axis: int, longest: int, num_masks: int, value: float):
    length = x.shape[axis]
    if longest > length:
        raise ValueError(f'a mask of up to {longest} does not fit a length of {length}')
    width_key, start_key = jax.random.split(key)
    widths = jax.random.randint(width_key, (num_masks, 1), 0, longest + 1)
    starts = jax.random.randint(start_key, (num_masks, 1), 0, length - widths + 1)
    offsets = jnp.arange(length)[None, :] - starts
    hit = ((offsets >= 0) & (offsets < widths)).any(0)
    return jnp.where(jnp.expand_dims(hit, (1 - axis, 2)), value, x)
