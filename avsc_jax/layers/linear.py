"""The fully connected layer with PyTorch's initial values, which the papers used."""

from typing import Any

import flax.linen as nn

from avsc_jax.layers.conv_cpu import pointwise
from avsc_jax.layers.initial import torch_uniform
from avsc_jax.types import Array, Float


class Linear(nn.Module):
    """x @ `kernel` + `bias`, both initialised from uniform(±1 / sqrt(inputs)).

    Attributes:
      dtype: the type of inputs and arithmetic; None: the inputs' own. Parameters are float32.
    """

    features: int
    use_bias: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, '*B D']) -> Float[Array, '*B D2']:
        uniform = torch_uniform(x.shape[-1])
        dtype = self.dtype or x.dtype
        kernel = self.param('kernel', uniform, (x.shape[-1], self.features))
        y = pointwise(x.astype(dtype), kernel.astype(dtype))
        if self.use_bias:
            bias = self.param('bias', uniform, (self.features,)).astype(dtype)
            y = y + bias.reshape((1,) * (x.ndim - 1) + bias.shape)
        return y
