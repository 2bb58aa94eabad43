"""Pooling, averaging and calibration of class probabilities, on numpy and on JAX arrays."""

from collections.abc import Sequence
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, softmax

from avsc_jax.ensemble.fit import CLAMP_EDGES, CLAMP_VALUES, EPS
from avsc_jax.runtime import nearest
from avsc_jax.types import AnyArray, Array, Float, Int, Kind


def namespace(array: Array) -> ModuleType:
    """Returns the library of an array: `jax.numpy` or numpy."""
    return jnp if isinstance(array, jax.Array) else np


def probabilities(logits: Float[AnyArray, 'N C'], kind: Kind = 'exclusive') -> AnyArray:
    """Turns a network's logits into probabilities: a softmax, or a sigmoid of each class.

    Args:
      logits: numpy arrays become float64, JAX arrays float32.
      kind: 'exclusive' where one class of a row is right; 'independent' where each is right or not
        by itself.

    Example:
      >>> logits = np.log([[3.0, 1.0]])
      >>> probabilities(logits).round(3).tolist(), probabilities(logits, 'independent').tolist()
      ([[0.75, 0.25]], [[0.75, 0.5]])
    """
    if isinstance(logits, jax.Array):
        logits = logits.astype(jnp.float32)
        return jax.nn.softmax(logits) if kind == 'exclusive' else jax.nn.sigmoid(logits)
    logits = logits.astype(np.float64)
    return softmax(logits, axis=1) if kind == 'exclusive' else expit(logits)


def pool(
    probs: Float[AnyArray, 'N C'], group: Int[Array, 'N'], num_groups: int
) -> Float[AnyArray, 'G C']:
    """Averages the rows of each group, such as the frames or seconds of each clip.

    Args:
      probs: one row a frame or second, in any order.
      group: the clip each row belongs to, in [0, num_groups).
      num_groups: static under jit. A group without rows becomes NaN.

    Example:
      >>> pool(np.array([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]]), np.array([0, 0, 1]), 2).tolist()
      [[0.75, 0.25], [0.2, 0.8]]
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
    """Averages the members' probabilities; weights, if given, are divided by their sum.

    Example:
      >>> members = np.array([[[0.8, 0.2]], [[0.4, 0.6]]])
      >>> mean(members, np.array([3.0, 1.0])).round(3).tolist()
      [[0.7, 0.3]]

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

    Example:
      >>> geometric_mean(np.array([[[0.9, 0.1]], [[0.5, 0.5]]])).round(3).tolist()  # 3 to 1
      [[0.75, 0.25]]
    """
    xp = namespace(members)
    return probabilities_of_logs(mean(xp.log(xp.maximum(members, EPS)), weights))


def renormalize(probs: Float[AnyArray, 'N C']) -> Float[AnyArray, 'N C']:
    """Divides each row by its sum; a row of zeros becomes uniform.

    Example:
      >>> renormalize(np.array([[0.99, 0.99], [0.3, 0.1], [0.0, 0.0]])).round(3).tolist()
      [[0.5, 0.5], [0.75, 0.25], [0.5, 0.5]]
    """
    xp = namespace(probs)
    sums = probs.sum(axis=-1, keepdims=True)
    empty = sums == 0
    return xp.where(empty, 1 / probs.shape[-1], probs / xp.where(empty, 1, sums))


def clamp(probs: Float[AnyArray, '*N C']) -> Float[AnyArray, '*N C']:
    """Replaces confident and unlikely values by fixed ones; rows need not sum to 1 any more.

    (0, .06] becomes .001, (.06, .20] becomes .06, (.20, .70] stays and (.70, 1] becomes .99. An
    exact 0, which the paper leaves open, becomes .001. The bounds are compared in float32, so that
    .20 counts as .20 in every precision. In a table of rounded values a number just above a bound
    may lie on it, and falls into the interval below. Applying it twice is not the same as once.

    Example:
      >>> clamp(np.array([[0.75, 0.2, 0.05], [0.5, 0.3, 0.2]])).tolist()
      [[0.99, 0.06, 0.001], [0.5, 0.3, 0.06]]

    Source: Okazaki 2021, Eq. (1).
    """
    return piecewise_clamp(probs, CLAMP_EDGES, CLAMP_VALUES)


def piecewise_clamp(
    probs: Float[AnyArray, '*N C'],
    edges: Sequence[float] | Float[Array, 'K'],
    values: Sequence[float] | Float[Array, 'K+1'],
) -> Float[AnyArray, '*N C']:
    """Replaces the values in each interval (low, high] between the edges by one number.

    Args:
      probs: any numbers; NaN stays NaN.
      edges: rising; compared in float32. The first interval has no lower end, the last no upper.
      values: one more than edges; NaN leaves the interval as it is.

    Example:
      >>> piecewise_clamp(np.array([[0.1, 0.9]]), edges=[0.5], values=[0.0, np.nan]).tolist()
      [[0.0, 0.9]]
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
    """Softmax of ln p / T, which keeps the order of the classes.

    Args:
      probs: clipped to 1e-15 first.
      temperature: T; above 1 makes probabilities less sure, below 1 surer.

    Example:
      >>> temperature_scale(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()  # roots: 3 to 1
      [[0.75, 0.25]]

    Source: Guo et al. 2017, Eq. (9), on log-probabilities, which differ from logits by a constant.
    """
    xp = namespace(probs)
    return probabilities_of_logs(
        xp.log(xp.maximum(probs, EPS)) / xp.asarray(temperature, probs.dtype)
    )


def vector_scale(
    probs: Float[AnyArray, 'N C'], scale: Float[Array, 'C'], bias: Float[Array, 'C']
) -> Float[AnyArray, 'N C']:
    """Softmax of scale · ln p + bias, with p clipped to 1e-15 first.

    Example:
      >>> bias = np.log([1.0, 4.0])
      >>> vector_scale(np.array([[0.8, 0.2]]), np.ones(2), bias).round(3).tolist()
      [[0.5, 0.5]]

    Source: Guo et al. 2017, Sec. 4.2.
    """
    xp = namespace(probs)
    scale, bias = (xp.asarray(x, probs.dtype)[None] for x in (scale, bias))
    return probabilities_of_logs(scale * xp.log(xp.maximum(probs, EPS)) + bias)


def probabilities_of_logs(logits: Float[AnyArray, 'N C']) -> Float[AnyArray, 'N C']:
    """Softmax of each row, in the type of the array, unlike `probabilities`."""
    xp = namespace(logits)
    powers = xp.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def check_option(name: str, value: str | None, allowed: Sequence[str | None]) -> None:
    """Raises ValueError unless an option has one of the allowed values."""
    nearest.check(name, value, allowed)
