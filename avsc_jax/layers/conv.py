"""The convolutional layer of every network here: NHWC, explicit padding."""

from typing import Any, Literal

import flax.linen as nn
from jax import lax

from avsc_jax.layers.convolution import convolve
from avsc_jax.types import Array, Float


class Conv(nn.Module):
    """Convolution of images, `kernel` [kh, kw, in / groups, out] and, if asked for, `bias` [out].

    Attributes:
      padding: zeros on all four sides, ((top, bottom), (left, right)), or 'SAME': TensorFlow's,
        which depends on the input's size; only for networks that were trained there.
      dtype: of inputs and arithmetic; parameters are float32. None: that of the inputs.
    """

    features: int
    kernel_size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: int | tuple[tuple[int, int], tuple[int, int]] | Literal['SAME'] = 0
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    use_bias: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K']) -> Float[Array, 'B H2 W2 K2']:
        if x.shape[-1] % self.groups or self.features % self.groups:
            raise ValueError(
                f'a convolution from {x.shape[-1]} to {self.features} channels cannot have '
                f'{self.groups} groups: both numbers must be multiples of it'
            )
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        dtype = self.dtype or x.dtype
        kernel = self.param('kernel', nn.initializers.he_normal(), shape).astype(dtype)
        y = self._convolve(x.astype(dtype), kernel)
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,)).astype(dtype)
            y = y + bias.reshape(1, 1, 1, -1)
        return y

    def _convolve(self, x, kernel):
        padding = self.padding
        if isinstance(padding, int):
            padding = ((padding, padding), (padding, padding))
        elif padding == 'SAME':
            window = [(k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
            padding = tuple(lax.padtype_to_pads(x.shape[1:3], window, self.strides, 'SAME'))
        return convolve(
            x,
            kernel,
            strides=self.strides,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
        )
