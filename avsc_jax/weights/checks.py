"""Checks of single weights: floats without scales, and finite."""

import jax.numpy as jnp
import numpy as np

from avsc_jax.weights.lazy import float32_copy


def refused_type(name: str, kind: str) -> ValueError:
    """Returns the error for a tensor of numbers that are no weights by themselves."""
    return ValueError(
        f'{name[:80]!r} is of {kind}, whose scale no network here takes; give the weights as '
        'float32, float16 or bfloat16'
    )


def as_float32(name: str, value: np.ndarray) -> np.ndarray:
    """Returns a weight as float32.

    Raises:
      ValueError: it is of integers or of 8-bit floats, or not finite.
    """
    if not jnp.issubdtype(value.dtype, jnp.floating) or value.dtype.itemsize < 2:
        raise refused_type(name, str(value.dtype))
    weight = float32_copy(value)
    if not np.isfinite(weight).all():
        bad = value[~np.isfinite(weight)]
        raise ValueError(
            f'{name[:80]!r} has {bad.size:,} of {value.size:,} values that are not finite as '
            f'float32, the first of them {bad[0]}; the file is broken: get it, or train it, again'
        )
    return weight
