"""Batch normalisation over the rows that count, on every device."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from avsc_jax.types import Array, Bool, Float


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis whose statistics leave padded rows out.

    Sums and counts, not means, cross the devices: a device may hold any number of padded rows,
    and nothing else than padding. Statistics are float32; the output has the input's type.

    Attributes:
      momentum: what the running statistics keep of themselves each step (torch calls 0.9 0.1).

    Source: Ioffe and Szegedy 2015, Algorithm 1. The running variance takes the unbiased batch
    variance, as PyTorch's and TensorFlow's fused kernels do (flax.linen takes the biased one).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: Float[Array, 'B *axes K'],
        *,
        train: bool,
        mask: Bool[Array, 'rows'] | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, 'B *axes K']:
        """Normalises with the batch's statistics when `train`, else with the running ones.

        Args:
          mask: rows that count; where x holds k rows for each (frames), each entry stands for k.
          axis_name: the pmapped axis over which the batch is spread.
        """
        shape = (x.shape[-1],)
        scale = self.param('scale', nn.initializers.ones, shape)
        bias = self.param('bias', nn.initializers.zeros, shape)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
        var = self.variable('batch_stats', 'var', jnp.ones, shape)
        values = x.astype(jnp.float32)
        if not train:
            centred = values - _spread(mean.value, x)
            return self._scaled(centred, var.value, scale, bias).astype(x.dtype)

        count, shift, centred, batch_mean, batch_var = _statistics(values, mask, axis_name)
        if not self.is_initializing():
            # A batch without a single row that counts changes nothing.
            new = jnp.where(count > 0, 1 - self.momentum, 0)
            unbiased = batch_var * count / jnp.maximum(count - 1, 1)
            mean.value += new * (shift + batch_mean - mean.value)
            var.value += new * (unbiased - var.value)
        centred = centred - _spread(batch_mean, x)
        return self._scaled(centred, batch_var, scale, bias).astype(x.dtype)

    def _scaled(self, centred, var, scale, bias):
        factor = lax.rsqrt(var + self.epsilon) * scale
        return centred * _spread(factor, centred) + _spread(bias, centred)


def _spread(vector, x):
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def _statistics(x, mask, axis_name):
    """(count, shift, x - shift, mean and variance of x - shift) over the rows that count.

    The shift is the mean as a first sum gives it, and a constant to the gradient: whatever its
    rounding error, the second sums correct it, and no large numbers are subtracted.
    """
    rows, *inner, _ = x.shape
    axes = tuple(range(x.ndim - 1))
    count = jnp.float32(math.prod(x.shape[:-1]))
    if mask is not None:
        if rows % mask.shape[0]:
            raise ValueError(f'a mask of {mask.shape[0]} rows does not fit x with {rows} rows')
        mask = jnp.repeat(mask, rows // mask.shape[0])
        count = mask.sum(dtype=jnp.float32) * math.prod(inner)
        mask = mask.reshape(rows, *[1] * (x.ndim - 1))

    def total(value):
        return value if axis_name is None else lax.psum(value, axis_name)

    def counted(value):
        return value if mask is None else jnp.where(mask, value, 0)

    count = total(count)
    divisor = jnp.maximum(count, 1)
    shift = lax.stop_gradient(total(counted(x).sum(axes)) / divisor)
    centred = counted(x - _spread(shift, x))
    mean, square = total(jnp.stack([centred.sum(axes), jnp.square(centred).sum(axes)])) / divisor
    return count, shift, centred, mean, jnp.maximum(square - jnp.square(mean), 0)
