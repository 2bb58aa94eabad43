"""Augmentation that mixes the examples of a batch."""

import jax
import jax.numpy as jnp

from avsc_jax.types import Array, Bool, Float


def mixup(
    key: jax.Array,
    inputs: Float[Array, 'B ...'],
    targets: Float[Array, 'B C'],
    mask: Bool[Array, 'B'],
    *,
    alpha: float,
    axis_name: str | None = None,
) -> tuple[Float[Array, 'B ...'], Float[Array, 'B C']]:
    """Each real example mixed with one of a random permutation of them; padding stays as it is.

    Args:
      key: of the step, the same on every device.
      targets: one-hot or otherwise summing to one.
      mask: the rows that are not padding.
      alpha: the weight is drawn once for the batch from Beta(alpha, alpha).
      axis_name: a mapped axis; given, partners come from the batches of all its devices, and the
        result does not depend on how many these are.

    Source: Zhang et al. 2018, Sec. 2, with one weight for a batch, as in its Figure 1a.
    """
    if alpha <= 0:
        raise ValueError(f'mixup takes an alpha above 0, not {alpha:g}; leave mixup out instead')
    order_key, weight_key = jax.random.split(key)
    everyone, first = (inputs, targets, mask), 0
    if axis_name is not None:
        everyone = jax.lax.all_gather(everyone, axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * len(mask)
    partners = jax.lax.dynamic_slice_in_dim(_permutation(order_key, everyone[2]), first, len(mask))
    weight = jax.random.beta(weight_key, alpha, alpha)

    def mix(x: jax.Array, x_all: jax.Array) -> jax.Array:
        return weight * x + (1 - weight) * x_all[partners]

    return mix(inputs, everyone[0]), mix(targets, everyone[1])


def _permutation(key: jax.Array, mask: Bool[Array, 'B']) -> jax.Array:
    """A random permutation of the real rows; the others stay in place."""
    rows = jnp.argsort(~mask)  # the real ones first; argsort is stable
    shuffled = jnp.argsort(jnp.where(mask, jax.random.uniform(key, mask.shape), 1.0))
    return jnp.zeros_like(rows).at[rows].set(shuffled)
