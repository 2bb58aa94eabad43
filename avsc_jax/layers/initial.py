"""Initial values that several layers share."""

import math
from collections.abc import Callable, Sequence

import jax


def torch_uniform(fan_in: int) -> Callable[[jax.Array, Sequence[int]], jax.Array]:
    """Makes PyTorch's default draw of a layer's kernel and bias: uniform(±1 / sqrt(fan_in)).

    Args:
      fan_in: number of values that are summed for one output, such as kh · kw · in / groups.

    Source: kaiming_uniform(a=sqrt(5)) of torch.nn's Linear and convolutions, which is this.
    """
    bound = 1 / math.sqrt(fan_in)

    def draw(key: jax.Array, shape: Sequence[int]) -> jax.Array:
        return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

    return draw
