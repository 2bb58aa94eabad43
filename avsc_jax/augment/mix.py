"""Augmentation that mixes the examples of a batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from avsc_jax.types import Array, Bool, Float, Int

Inputs = Array | Mapping[str, Array]  # of a batch: [B, ...]


def mixup(
    key: jax.Array,
    inputs: Inputs,
    targets: Float[Array, 'B C'],
    mask: Bool[Array, 'B'],
    *,
    alpha: float,
    axis_name: str | None = None,
) -> tuple[Any, Float[Array, 'B C']]:
    """Mixes each example and its target with a random other one; padding stays as it is.

    Args:
      key: of the step, the same on every device.
      inputs: any features of the batch, or a dictionary of them, which share weight and partners.
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
    _check('mixup', alpha)
    order_key, weight_key = jax.random.split(key)
    weight = jax.random.beta(weight_key, alpha, alpha)
    return _mixed(order_key, inputs, targets, mask, weight, weight, axis_name)


def cutmix(
    key: jax.Array,
    inputs: Float[Array, 'B H W K'],
    targets: Float[Array, 'B C'],
    mask: Bool[Array, 'B'],
    *,
    alpha: float,
    axis_name: str | None = None,
) -> tuple[Float[Array, 'B H W K'], Float[Array, 'B C']]:
    """Replaces a box of each picture by that of a random other one, and a like share of its target.

    Box and partners are drawn once for the batch. The share is that of the box's area within the
    picture. The arguments are those of `mixup`, but for the inputs.

    Args:
      inputs: pictures, or spectrograms, whose height is frequency.
      alpha: 1 minus the box's share, before it is cut at the edges, comes from Beta(alpha, alpha).

    Raises:
      ValueError: alpha is not above 0, or the inputs have no height and width.

    Example:
      >>> inputs = jnp.stack([jnp.zeros((8, 8, 1)), jnp.ones((8, 8, 1))])
      >>> mask = jnp.array([True, True])
      >>> mixed, soft = cutmix(jax.random.key(1), inputs, jnp.eye(2), mask, alpha=1.0)
      >>> bool(jnp.allclose(mixed.mean((1, 2, 3)), soft[:, 1]))  # the area of ones
      True

    Source: Yun et al. 2019, Sec. 3.1 and its Algorithm A1; box and share as in timm.data.mixup.
    """
    _check('cutmix', alpha)
    order_key, weight_key = jax.random.split(key)
    kept, share = _kept(weight_key, inputs, alpha)
    return _mixed(order_key, inputs, targets, mask, kept, share, axis_name)


def mixup_or_cutmix(
    key: jax.Array,
    inputs: Float[Array, 'B H W K'],
    targets: Float[Array, 'B C'],
    mask: Bool[Array, 'B'],
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    cutmix_share: float = 0.5,
    axis_name: str | None = None,
) -> tuple[Float[Array, 'B H W K'], Float[Array, 'B C']]:
    """Draws for the whole batch which of `mixup` and `cutmix` mixes it; see these.

    Args:
      cutmix_share: the probability of cutmix (timm's switch_prob).

    Example:
      >>> inputs, mask = jnp.stack([jnp.zeros((8, 8, 1)), jnp.ones((8, 8, 1))]), jnp.ones(2, bool)
      >>> alphas = dict(mixup_alpha=0.2, cutmix_alpha=1.0)
      >>> mixed, soft = mixup_or_cutmix(jax.random.key(1), inputs, jnp.eye(2), mask, **alphas)
      >>> bool(jnp.allclose(mixed.mean((1, 2, 3)), soft[:, 1]))
      True
    """
    _check('mixup', mixup_alpha)
    _check('cutmix', cutmix_alpha)
    order_key, weight_key = jax.random.split(key)
    choice_key, mixup_key, cutmix_key = jax.random.split(weight_key, 3)
    is_cut = jax.random.uniform(choice_key) < cutmix_share
    weight = jax.random.beta(mixup_key, mixup_alpha, mixup_alpha)
    kept, share = _kept(cutmix_key, inputs, cutmix_alpha)
    kept, share = jnp.where(is_cut, kept, weight), jnp.where(is_cut, share, weight)
    return _mixed(order_key, inputs, targets, mask, kept, share, axis_name)


def box(
    weight: Float[Array, ''],
    centre: tuple[Int[Array, ''], Int[Array, '']],
    size: tuple[int, int],
) -> tuple[tuple[Int[Array, ''], Int[Array, '']], tuple[Int[Array, ''], Int[Array, '']]]:
    """Returns first and last row + 1, and first and last column + 1, of cutmix's box.

    Args:
      weight: 1 minus the share of the picture that the box has before it is cut at the edges.
      centre: row and column of its middle.
      size: height and width of the picture.

    Example:
      >>> rows, columns = box(jnp.float32(0.75), (jnp.int32(0), jnp.int32(4)), (8, 8))
      >>> [int(edge) for edge in (*rows, *columns)]  # a side of 4; half of it is above the picture
      [0, 2, 2, 6]
    """
    edges = []
    for middle, side in zip(centre, size, strict=True):
        cut = jnp.floor(side * jnp.sqrt(1 - weight)).astype(jnp.int32)
        low, high = middle - cut // 2, middle + (cut + 1) // 2
        edges.append((jnp.clip(low, 0, side), jnp.clip(high, 0, side)))
    return edges[0], edges[1]


def check_cutmix(shape: Any) -> None:
    """Raises ValueError for inputs without height and width.

    Args:
      shape: something with the `ndim` of a batch, or a dictionary of such things.

    Example:
      >>> check_cutmix(jnp.zeros((2, 8, 8, 3)))  # nothing to say
    """
    if isinstance(shape, Mapping) or shape.ndim != 4:
        what = f'a dictionary of {", ".join(shape)}' if isinstance(shape, Mapping) else ''
        raise ValueError(
            'cutmix takes one batch of pictures or spectrograms [B, H, W, K], and the input is '
            f'{what or f"an array of {shape.ndim} axes"}; leave out cutmix_alpha, or set '
            'mixup_alpha, which takes any input'
        )


def _check(name: str, alpha: float) -> None:
    if alpha <= 0:
        raise ValueError(f'{name} takes an alpha above 0, not {alpha:g}; leave {name} out instead')


def _kept(key, inputs, alpha):
    """Draws a box; returns the map `[1, H, W, 1]`, 1 outside of it and 0 inside, and its mean."""
    check_cutmix(inputs)
    height, width = size = inputs.shape[1:3]
    weight_key, row_key, column_key = jax.random.split(key, 3)
    weight = jax.random.beta(weight_key, alpha, alpha)
    centre = (
        jax.random.randint(row_key, (), 0, height),
        jax.random.randint(column_key, (), 0, width),
    )
    (top, bottom), (left, right) = box(weight, centre, size)
    row, column = jnp.arange(height)[:, None], jnp.arange(width)[None]
    inside = ((top <= row) & (row < bottom)) & ((left <= column) & (column < right))
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return jnp.where(inside, 0.0, 1.0)[None, :, :, None], share


def _mixed(order_key, inputs, targets, mask, weight, share, axis_name):
    """Adds partners: by `weight`, a number or a map, to inputs, and by `share` to targets."""
    batch, first = (inputs, targets, mask), 0
    if axis_name is not None:
        batch = jax.lax.all_gather(batch, axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * len(mask)
    partners = jax.lax.dynamic_slice_in_dim(_permutation(order_key, batch[2]), first, len(mask))

    def mix(x: Array, x_all: Array, weight: Array) -> Array:
        return weight * x + (1 - weight) * x_all[partners]

    mixed = jax.tree.map(lambda x, x_all: mix(x, x_all, weight), inputs, batch[0])
    return mixed, mix(targets, batch[1], share)


def _permutation(key: jax.Array, mask: Bool[Array, 'B']) -> jax.Array:
    """Random permutation of the rows where `mask` is true; the others stay in place."""
    rows = jnp.argsort(~mask)  # real rows first; argsort is stable
    shuffled = jnp.argsort(jnp.where(mask, jax.random.uniform(key, mask.shape), 1.0))
    return jnp.zeros_like(rows).at[rows].set(shuffled)
