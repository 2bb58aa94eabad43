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
    """Mixes each example and its target with a random other one; padding stays as it is.

    Args:
      key: of the step, the same on every device.
      inputs: any features of the batch.
      targets: one-hot or otherwise summing to one.
      mask: true for real examples, false for padding, which is neither changed nor a partner.
      alpha: the weight is drawn once for the batch from Beta(alpha, alpha).
      axis_name: the mapped axis over which a batch is split, if it is: partners then come from all
        devices, and the result does not depend on their number.

    Returns:
      Mixed inputs and targets.

    Raises:
      ValueError: alpha is not above 0.

    Example:
      >>> inputs, targets = jnp.array([[0.0], [8.0]]), jnp.eye(2)
      >>> mask = jnp.array([True, True])
      >>> mixed, soft = mixup(jax.random.key(1), inputs, targets, mask, alpha=1.0)
      >>> bool(jnp.allclose(mixed[:, 0], 8 * soft[:, 1]))  # inputs and targets share the weight
      True

    Source: Zhang et al. 2018, Sec. 2, with one weight for a batch, as in its Figure 1a.
    """
    if alpha <= 0:
        raise ValueError(f'mixup takes an alpha above 0, not {alpha:g}; leave mixup out instead')
    order_key, weight_key = jax.random.split(key)
    batch, first = (inputs, targets, mask), 0
    if axis_name is not None:
        batch = jax.lax.all_gather(batch, axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * len(mask)
    partners = jax.lax.dynamic_slice_in_dim(_permutation(order_key, batch[2]), first, len(mask))
    weight = jax.random.beta(weight_key, alpha, alpha)

    def mix(x: jax.Array, x_all: jax.Array) -> jax.Array:
        return weight * x + (1 - weight) * x_all[partners]

    return mix(inputs, batch[0]), mix(targets, batch[1])


def _permutation(key: jax.Array, mask: Bool[Array, 'B']) -> jax.Array:
    """Random permutation of the rows where `mask` is true; the others stay in place."""
    rows = jnp.argsort(~mask)  # real rows first; argsort is stable
    shuffled = jnp.argsort(jnp.where(mask, jax.random.uniform(key, mask.shape), 1.0))
    return jnp.zeros_like(rows).at[rows].set(shuffled)
