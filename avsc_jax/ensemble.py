"""Decision-level functions over class probabilities: pooling, averaging and calibration.

Pure functions of arrays [N, C] or [M, N, C]. numpy arrays in, numpy arrays out; jax arrays in, jax
arrays out, also under jit. The type of the probabilities is kept.
"""

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.types import Array, Float, Int


def pool(
    probs: Float[Array, 'N C'], group: Int[Array, 'N'], num_groups: int
) -> Float[Array, 'G C']:
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
    members: Float[Array, 'M N C'], weights: Float[Array, 'M'] | None = None
) -> Float[Array, 'N C']:
    """Mean of the members' probabilities, weighted if asked; weights are divided by their sum.

    Source: Okazaki 2021, Sec. 2.4; Wang 2021, Sec. 2.3.2.
    """
    xp = jnp if isinstance(members, jax.Array) else np
    if weights is None:
        return members.mean(axis=0)
    weights = xp.asarray(weights, members.dtype)
    return xp.tensordot(weights / weights.sum(), members, axes=1)


def clamp(probs: Float[Array, '*N C']) -> Float[Array, '*N C']:
    """Replaces confident and unlikely values by fixed ones; rows need not sum to 1 any more.

    (0, .06] becomes .001, (.06, .20] becomes .06, (.20, .70] stays and (.70, 1] becomes .99. An
    exact 0, which the paper leaves open, becomes .001. The bounds are compared in float32, so that
    .20 counts as .20 in every precision. Applying it twice is not the same as once.

    Source: Okazaki 2021, Eq. (1).
    """
    xp = jnp if isinstance(probs, jax.Array) else np
    x = probs.astype(xp.float32)
    high = xp.where(x > 0.70, 0.99, probs)  # NaN passes all three comparisons
    low = xp.where(x <= 0.20, 0.06, high)
    return xp.where(x <= 0.06, 0.001, low)
