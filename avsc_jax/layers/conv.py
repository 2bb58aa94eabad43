"""The convolution of all networks: NHWC, explicit padding, the fastest arithmetic known.

| convolution         | CPU                                          | elsewhere |
|---------------------|----------------------------------------------|-----------|
| 1x1, one group      | matrix product                               | the same  |
| depthwise           | sum of shifted products, gradients by hand   | XLA's own |
| other groups        | an ordinary convolution for a few at a time  | XLA's own |
| all others          | XLA's own                                    | XLA's own |

`conv_cpu` says how slow XLA's own is on CPU; elsewhere cuDNN and the TPU's compiler handle groups
well. Networks that are exported as ONNX keep every convolution as one operator.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from avsc_jax.layers import conv_cpu
from avsc_jax.layers.initial import torch_uniform
from avsc_jax.types import Array, Float


class Conv(nn.Module):
    """Convolution of images by a `kernel` [kh, kw, in / groups, out] and an optional `bias` [out].

    Attributes:
      padding: zeros on all four sides, ((top, bottom), (left, right)), or 'SAME': TensorFlow's,
        which depends on the input's size; only for networks that were trained with it.
      torch_initial: kernel and bias start as PyTorch's do; else by He's normal draw, and at 0.
      dtype: the type of inputs and arithmetic; None: the inputs' own. Parameters are float32.
    """

    features: int
    kernel_size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    padding: int | tuple[tuple[int, int], tuple[int, int]] | Literal['SAME'] = 0
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    use_bias: bool = False
    torch_initial: bool = False
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
        of_kernel, of_bias = nn.initializers.he_normal(), nn.initializers.zeros
        if self.torch_initial:
            of_kernel = of_bias = torch_uniform(math.prod(shape[:-1]))
        kernel = self.param('kernel', of_kernel, shape).astype(dtype)
        y = self._convolve(x.astype(dtype), kernel)
        if self.use_bias:
            bias = self.param('bias', of_bias, (self.features,)).astype(dtype)
            y = y + bias.reshape(1, 1, 1, -1)
        return y

    def _convolve(self, x, kernel):
        padding = self.padding
        if isinstance(padding, int):
            padding = ((padding, padding), (padding, padding))
        elif padding == 'SAME':
            window = [(k - 1) * d + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
            padding = tuple(lax.padtype_to_pads(x.shape[1:3], window, self.strides, 'SAME'))
        return conv(
            x,
            kernel,
            strides=self.strides,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
        )


def conv(
    x: Float[Array, 'B H W K'],
    kernel: Float[Array, 'h w I O'],
    *,
    strides: conv_cpu.Pair,
    padding: conv_cpu.Pads,
    dilation: conv_cpu.Pair = (1, 1),
    groups: int = 1,
    platform: str | None = None,
) -> Float[Array, 'B H2 W2 O']:
    """Convolves like `lax.conv_general_dilated`, with the arithmetic that is fastest on a platform.

    Args:
      padding: zeros at ((top, bottom), (left, right)).
      platform: 'cpu', 'gpu', 'tpu', or 'onnx' for export; None: that of JAX's first device.
    """
    platform = platform or jax.default_backend()
    on_cpu = platform == 'cpu'
    options = dict(
        window_strides=strides,
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    if platform == 'onnx':  # whose runtimes know convolutions, not what they can be made of
        return lax.conv_general_dilated(x, kernel, feature_group_count=groups, **options)
    x = conv_cpu.materialize(x)
    if groups == 1 and kernel.shape[:2] == (1, 1) and not any(sum(padding, ())):
        return conv_cpu.pointwise(x[:, :: strides[0], :: strides[1]], kernel[0, 0])
    if on_cpu and groups == x.shape[-1] == kernel.shape[-1] > 1:
        return conv_cpu.materialize(conv_cpu.depthwise(x, kernel, strides, padding, dilation))
    if on_cpu and groups > 1:
        kernel, groups = conv_cpu.merged_groups(kernel, groups)
        parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([lax.conv_general_dilated(*p, **options) for p in parts], -1)
    return lax.conv_general_dilated(x, kernel, feature_group_count=groups, **options)
