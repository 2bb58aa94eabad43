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
      gradient: (params, batch_stats, rows) -> ((loss, batch_stats), gradients) of a part of the
        rows; its loss is a part of a sum.
      batch: arrays `[B, ...]`; `count` divides B.
      count: the number of parts.

    Returns:
      ((loss, batch_stats), gradients), as `gradient` does for the whole.
    """
    if count == 1:
        return gradient(params, batch_stats, batch)

    def one(carry, rows):
        batch_stats, sums = carry
        (loss, batch_stats), gradients = gradient(params, batch_stats, rows)
        return (batch_stats, jax.tree.map(jnp.add, sums, (loss, gradients))), None

    zeros = (jnp.float32(0), jax.tree.map(jnp.zeros_like, params))
    (batch_stats, (loss, gradients)), _ = jax.lax.scan(
        one, (batch_stats, zeros), _split(batch, count)
    )
    return (loss, batch_stats), gradients


def by_parts(function: Callable, batch: Any, count: int) -> Any:
    """Applies a function of single rows `[B, ...]` to equal parts, one after another."""
    if count == 1:
        return function(batch)
    made = jax.lax.map(function, _split(batch, count))
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), made)


def _split(batch: Any, count: int) -> Any:
    """Deals the rows out to the parts, `[count, B / count, ...]`.

    Row i goes to part i modulo `count`. So a part has the same rows of the global batch however
    many devices share it, each of which deals out its own.
    """
    return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)
