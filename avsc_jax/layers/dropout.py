"""Dropout that does not depend on how the batch is spread over devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from avsc_jax.types import Array, Float


class Dropout(nn.Module):
    """Sets a share `rate` of the values to 0 and scales the rest by 1 / (1 - rate).

    A row's random numbers come from its index in the global batch, never from the device.

    Source: Srivastava et al. 2014, in the inverted form.
    """

    rate: float

    @nn.compact
    def __call__(
        self, x: Float[Array, 'B *axes'], *, train: bool, axis_name: str | None = None
    ) -> Float[Array, 'B *axes']:
        """Drops values when `train`; the key `dropout` must be the same on every device.

        Args:
          axis_name: the pmapped axis over which the batch is spread, equally many rows each.
        """
        if not train or self.rate == 0:
            return x
        key = self.make_rng('dropout')
        rows = jnp.arange(x.shape[0])
        if axis_name is not None:
            rows += lax.axis_index(axis_name) * x.shape[0]

        def kept(row):
            return jax.random.bernoulli(jax.random.fold_in(key, row), 1 - self.rate, x.shape[1:])

        return jnp.where(jax.vmap(kept)(rows), x / (1 - self.rate), 0)
