"""Gradient accumulation: a step's rows one part after another, which takes less memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def gradient_of_parts(
    gradient: Callable, params: Any, batch_stats: Any, batch: Any, count: int
) -> tuple[tuple[jax.Array, Any], Any]:
    """Sums losses and gradients over equal parts of a batch, whose statistics follow each other.

    Args:
      gradient: (params, batch_stats, rows, (number, count)) -> ((loss, batch_stats), gradients) of
        the part with that number; its loss is a part of a sum.
      batch: arrays `[B, ...]`; `count` divides B.
      count: the number of parts.

    Returns:
      ((loss, batch_stats), gradients), as `gradient` does for the whole.
    """
    if count == 1:
        return gradient(params, batch_stats, batch, (0, 1))

    def one(carry, part):
        (number, rows), (batch_stats, sums) = part, carry
        (loss, batch_stats), gradients = gradient(params, batch_stats, rows, (number, count))
        return (batch_stats, jax.tree.map(jnp.add, sums, (loss, gradients))), None

    zeros = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
    parts = jnp.arange(count), _split(batch, count)
    (batch_stats, (loss, gradients)), _ = jax.lax.scan(one, (batch_stats, zeros), parts)
    return (loss, batch_stats), gradients


def by_parts(function: Callable, batch: Any, count: int) -> Any:
    """Applies a function of single rows `[B, ...]` to equal parts, one after another."""
    if count == 1:
        return function(batch)
    made = jax.lax.map(function, _split(batch, count))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), made)


def _split(batch: Any, count: int) -> Any:
    return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
