"""Augmentation of one sound `[N, K]` or one spectrogram `[F, T, K]`."""

import jax
import jax.numpy as jnp

from avsc_jax.types import Array, Float


def random_gain(
    key: jax.Array, audio: Float[Array, 'N K'], *, limit_db: float = 6.0
) -> Float[Array, 'N K']:
    """Multiplies the sound by a random gain, uniform in dB within ±`limit_db`.

    Example:
      >>> louder = random_gain(jax.random.key(0), jnp.ones((2, 1)), limit_db=6.0)
      >>> bool((louder > 0.5).all() and (louder < 2.0).all())  # 6 dB is about a factor of 2
      True
    """
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
    """Sets up to `max_bands` neighbouring bands, in all frames and channels, to `value`.

    Args:
      max_bands: the largest width of a mask.
      num_masks: masks are drawn independently and may overlap.
      value: 0 is the mean of a normalised spectrogram, but a loud sound in dB: normalise first.

    Raises:
      ValueError: there are fewer than `max_bands` bands.

    Example:
      >>> masked = frequency_mask(jax.random.key(0), jnp.ones((8, 5, 1)), max_bands=3)
      >>> 5 <= int((masked[..., 0].sum(axis=1) == 5).sum())  # at least 5 of 8 bands are kept
      True

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
    """Sets up to `max_frames` neighbouring frames, in all bands and channels, to `value`.

    Args, errors and source are those of `frequency_mask`, with frames in place of bands.

    Example:
      >>> masked = time_mask(jax.random.key(0), jnp.ones((5, 8, 1)), max_frames=3)
      >>> 5 <= int((masked[..., 0].sum(axis=0) == 5).sum())  # at least 5 of 8 frames are kept
      True
    """
    return _mask(key, x, 1, max_frames, num_masks, value)


def _mask(key, x, axis: int, longest: int, num_masks: int, value: float):
    length = x.shape[axis]
    if longest > length:
        raise ValueError(
            f'a mask of up to {longest} does not fit a length of {length}; give {length} or less'
        )
    width_key, start_key = jax.random.split(key)
    widths = jax.random.randint(width_key, (num_masks, 1), 0, longest + 1)
    starts = jax.random.randint(start_key, (num_masks, 1), 0, length - widths + 1)
    offsets = jnp.arange(length)[None, :] - starts
    hit = ((offsets >= 0) & (offsets < widths)).any(0)
    return jnp.where(jnp.expand_dims(hit, (1 - axis, 2)), value, x)
