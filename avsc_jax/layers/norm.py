"""Batch normalisation over the unmasked rows of all devices."""

import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.types import Array, Bool, Float


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis whose statistics leave padded rows out.

    Devices exchange sums and counts, not means: a device may hold any number of padded rows, even
    padding alone. Statistics are float32; the output has the input's type.

    Attributes:
      momentum: share of the running statistics that each step keeps (PyTorch's 0.1 is 0.9 here).
      use_scale: whether the normalised values are scaled by a parameter.

    Source: Ioffe and Szegedy 2015, Algorithm 1. The running variance takes the unbiased batch
    variance, as PyTorch's and TensorFlow's fused kernels do (flax.linen takes the biased one).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True

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
          mask: True for rows that count. If x has k rows for each entry (frames of a clip), each
            entry stands for k rows.
          axis_name: the pmapped axis over which the batch is spread.
        """
        shape = (x.shape[-1],)
        scale = self.param('scale', nn.initializers.ones, shape) if self.use_scale else None
        bias = self.param('bias', nn.initializers.zeros, shape)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
        var = self.variable('batch_stats', 'var', jnp.ones, shape)
        if not train:
            normal = _quotient(x, None, Statistics(1, mean.value, var.value), self.epsilon)
        else:
            counted = None if mask is None else _rows(mask, x)
            normal, batch = _normalized(x, counted, self.epsilon, axis_name)
            if not self.is_initializing():
                # A batch without a single row that counts changes nothing.
                new = jnp.where(batch.count > 0, 1 - self.momentum, 0)
                unbiased = batch.var * batch.count / jnp.maximum(batch.count - 1, 1)
                mean.value += new * (batch.mean - mean.value)
                var.value += new * (unbiased - var.value)
        scaled = normal if scale is None else normal * _spread(scale, x)
        return (scaled + _spread(bias, x)).astype(x.dtype)


class Statistics(NamedTuple):
    """Statistics of one batch: number of values of each channel, their mean and biased variance."""

    count: jax.Array
    mean: jax.Array
    var: jax.Array


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _normalized(x, mask, epsilon, axis_name):
    """Returns (x - mean) / sqrt(var + epsilon) in float32, 0 in masked rows, and the Statistics.

    The gradient is written out (Ioffe and Szegedy 2015, Section 3), because JAX's own goes through
    every step of the sums.
    """
    batch = _statistics(x, mask, axis_name)
    return _quotient(x, mask, batch, epsilon), batch


def _normalized_forward(x, mask, epsilon, axis_name):
    normal, batch = _normalized(x, mask, epsilon, axis_name)
    return (normal, batch), (x, mask, batch)


def _normalized_backward(epsilon, axis_name, saved, grads):
    x, mask, batch = saved
    grad, _ = grads  # the statistics go into no loss
    normal = _quotient(x, mask, batch, epsilon)
    sums = jnp.stack([_sum(grad, mask), _sum(grad * normal, mask)])
    mean, slope = _total(sums, axis_name) / jnp.maximum(batch.count, 1)
    grad -= _spread(mean, x) + normal * _spread(slope, x)
    grad_x = _counted(grad * _spread(lax.rsqrt(batch.var + epsilon), x), mask)
    return materialize(grad_x.astype(x.dtype)), None


_normalized.defvjp(_normalized_forward, _normalized_backward)


def _quotient(x, mask, batch, epsilon):
    centred = x.astype(jnp.float32) - _spread(batch.mean, x)
    return _counted(centred * _spread(lax.rsqrt(batch.var + epsilon), x), mask)


def _statistics(x, mask, axis_name) -> Statistics:
    """Takes the mean of x, then mean and variance of x less it, so no large numbers cancel."""
    x = x.astype(jnp.float32)
    count = jnp.float32(x.shape[0]) if mask is None else mask.sum(dtype=jnp.float32)
    count = _total(count, axis_name) * math.prod(x.shape[1:-1])

    def mean(values):
        return _total(_sum(values, mask), axis_name) / jnp.maximum(count, 1)

    first = mean(x)
    centred = x - _spread(first, x)
    rest, square = mean(centred), mean(jnp.square(centred))
    return Statistics(count, first + rest, jnp.maximum(square - jnp.square(rest), 0))


def _rows(mask, x):
    """Returns the mask `[rows, 1, ...]`, each entry repeated for all rows that it stands for."""
    rows = x.shape[0]
    if rows % mask.shape[0]:
        raise ValueError(f'a mask of {mask.shape[0]} rows does not fit x with {rows} rows')
    return jnp.repeat(mask, rows // mask.shape[0]).reshape(rows, *[1] * (x.ndim - 1))


def _sum(values, mask):
    """Sums the unmasked rows; each row is summed before it is masked, which is less work."""
    rows = values.sum(tuple(range(1, values.ndim - 1)))
    return _counted(rows, None if mask is None else mask.reshape(-1, 1)).sum(0)


def _counted(values, mask):
    return values if mask is None else jnp.where(mask, values, 0)


def _total(value, axis_name):
    return value if axis_name is None else lax.psum(value, axis_name)


def _spread(vector, x):
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)
