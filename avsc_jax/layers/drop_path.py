"""Stochastic depth: a residual branch that is left out at random, example by example."""

import flax.linen as nn
import jax.numpy as jnp

from avsc_jax.layers.dropout import Dropout
from avsc_jax.types import Array, Float


class DropPath(nn.Module):
    """Sets a share `rate` of the rows to 0 and scales the rest by 1 / (1 - rate).

    One value for each row goes through Dropout, so the draws do not depend on the devices.

    Source: Huang et al. 2016, Section 3, scaled while training as dropout is.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, 'B *axes'], *, train: bool) -> Float[Array, 'B *axes']:
        if not train or self.rate == 0:
            return x
        kept = Dropout(self.rate)(jnp.ones((x.shape[0], 1), x.dtype), train=train)
        return x * kept.reshape(x.shape[:1] + (1,) * (x.ndim - 1))
