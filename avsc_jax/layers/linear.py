"""The fully connected layer with the initial values of PyTorch, on which the papers relied."""

import math
from typing import Any

import flax.linen as nn
import jax

from avsc_jax.layers.conv_cpu import pointwise
from avsc_jax.types import Array, Float


class Linear(nn.Module):
    """x @ `kernel` + `bias`, both drawn at first from uniform(±1 / sqrt(inputs)).

    Attributes:
      dtype: of inputs and arithmetic; parameters are float32. None: that of the inputs.
    """

    features: int
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, '*B D']) -> Float[Array, '*B D2']:
        bound = 1 / math.sqrt(x.shape[-1])

        def uniform(key, shape):
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        dtype = self.dtype or x.dtype
        kernel = self.param('kernel', uniform, (x.shape[-1], self.features))
        y = pointwise(x.astype(dtype), kernel.astype(dtype))
        if self.use_bias:
            bias = self.param('bias', uniform, (self.features,)).astype(dtype)
            y = y + bias.reshape((1,) * (x.ndim - 1) + bias.shape)
        return y
