"""Pooling, averaging and calibration of class probabilities, on numpy and on JAX arrays."""

from collections.abc import Sequence
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.ensemble.fit import CLAMP_EDGES, CLAMP_VALUES, EPS
from avsc_jax.types import AnyArray, Array, Float, Int


def namespace(array: Array) -> ModuleType:
    """The library of an array: `jax.numpy` or numpy."""
    return jnp if isinstance(array, jax.Array) else np


def pool(
    probs: Float[AnyArray, 'N C'], group: Int[Array, 'N'], num_groups: int
) -> Float[AnyArray, 'G C']:
    """Mean of the rows of each group: frames or seconds to clips.

    Args:
      probs: one row a frame or second, in any order.
      group: the clip each row belongs to, in [0, num_groups).
      num_groups: static under jit. A group without rows becomes NaN.
    """
    if isinstance(probs, jax.Array):
        sums = jax.ops.segment_sum(probs, group, num_groups)
        counts = jnp.bincount(group, length=num_groups)
    else:
        sums = np.zeros((num_groups, probs.shape[1]), probs.dtype)
        np.add.at(sums, group, probs)
        counts = np.bincount(group, minlength=num_groups)
    return sums / counts.astype(probs.dtype)[:, None]


def mean(
    members: Float[AnyArray, 'M N C'], weights: Float[Array, 'M'] | None = None
) -> Float[AnyArray, 'N C']:
    """Mean of the members' probabilities, weighted if asked; weights are divided by their sum.

    Source: Okazaki 2021, Sec. 2.4; Wang 2021, Sec. 2.3.2.
    """
    xp = namespace(members)
    if weights is None:
        return members.mean(axis=0)
    weights = xp.asarray(weights, members.dtype)
    return xp.tensordot(weights / weights.sum(), members, axes=1)


def geometric_mean(
    members: Float[AnyArray, 'M N C'], weights: Float[Array, 'M'] | None = None
) -> Float[AnyArray, 'N C']:
    """Geometric mean of the members' probabilities, rows divided by their sum.

    Values are clipped to 1e-15 first: one member's 0 makes a class unlikely, not impossible.
    """
    xp = namespace(members)
    return _softmax(mean(xp.log(xp.maximum(members, EPS)), weights))


def renormalize(probs: Float[AnyArray, 'N C']) -> Float[AnyArray, 'N C']:
    """Rows divided by their sum; a row of zeros becomes uniform."""
    xp = namespace(probs)
    sums = probs.sum(axis=-1, keepdims=True)
    empty = sums == 0
    return xp.where(empty, 1 / probs.shape[-1], probs / xp.where(empty, 1, sums))


def clamp(probs: Float[AnyArray, '*N C']) -> Float[AnyArray, '*N C']:
    """Replaces confident and unlikely values by fixed ones; rows need not sum to 1 any more.

    (0, .06] becomes .001, (.06, .20] becomes .06, (.20, .70] stays and (.70, 1] becomes .99. An
    exact 0, which the paper leaves open, becomes .001. The bounds are compared in float32, so that
    .20 counts as .20 in every precision. Applying it twice is not the same as once.

    Source: Okazaki 2021, Eq. (1).
    """
    return piecewise_clamp(probs, CLAMP_EDGES, CLAMP_VALUES)


def piecewise_clamp(
    probs: Float[AnyArray, '*N C'],
    edges: Sequence[float] | Float[Array, 'K'],
    values: Sequence[float] | Float[Array, 'K+1'],
) -> Float[AnyArray, '*N C']:
    """One value for each interval (low, high] between the edges; NaN keeps what is there.

    Args:
      probs: any numbers; NaN stays NaN.
      edges: rising; compared in float32. The first interval has no lower end, the last no upper.
      values: one more than edges.
    """
    xp = namespace(probs)
    x = probs.astype(xp.float32)
    edges, values = xp.asarray(edges, xp.float32), xp.asarray(values, probs.dtype)
    clamped = xp.where(xp.isnan(values[0]) | xp.isnan(x), probs, values[0])
    for edge, value in zip(edges, values[1:], strict=True):
        clamped = xp.where(x > edge, xp.where(xp.isnan(value), probs, value), clamped)
    return clamped


def temperature_scale(
    probs: Float[AnyArray, 'N C'], temperature: float | Float[Array, '']
) -> Float[AnyArray, 'N C']:
    """Softmax of ln p / T: above 1 less sure, below 1 more; the order of the classes stays.

    Probabilities are clipped to 1e-15 first.

    Source: Guo et al. 2017, Eq. (9), on log-probabilities, which differ from logits by a constant.
    """
    xp = namespace(probs)
    return _softmax(xp.log(xp.maximum(probs, EPS)) / xp.asarray(temperature, probs.dtype))


def vector_scale(
    probs: Float[AnyArray, 'N C'], scale: Float[Array, 'C'], bias: Float[Array, 'C']
) -> Float[AnyArray, 'N C']:
    """Softmax of scale · ln p + bias, both of one number a class, p clipped to 1e-15 first.

    Source: Guo et al. 2017, Sec. 4.2.
    """
    xp = namespace(probs)
    scale, bias = (xp.asarray(x, probs.dtype)[None] for x in (scale, bias))
    return _softmax(scale * xp.log(xp.maximum(probs, EPS)) + bias)


def _softmax(logits: Float[AnyArray, 'N C']) -> Float[AnyArray, 'N C']:
    xp = namespace(logits)
    powers = xp.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def check_option(name: str, value: str | None, allowed: Sequence[str | None]) -> None:
    """Raises ValueError unless an option has one of the allowed values."""
    if value not in allowed:
        raise ValueError(f'{name} is {value!r}; it must be one of {", ".join(map(repr, allowed))}')
