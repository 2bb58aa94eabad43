"""Squeeze-and-excitation: every channel scaled by a gate computed from the whole picture."""

from collections.abc import Callable

import flax.linen as nn

from avsc_jax.layers.conv import Conv
from avsc_jax.types import Array, Float


class SqueezeExcite(nn.Module):
    """Scales each channel by a number in (0, 1), computed from the means of all channels.

    Attributes:
      features: width between the gate's two layers.
      act: the activation between them.

    Source: Hu et al. 2018, Eq. (2) to (4).
    """

    features: int
    act: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K']) -> Float[Array, 'B H W K']:
        gate = x.mean(axis=(1, 2), keepdims=True)
        gate = self.act(Conv(self.features, use_bias=True, name='conv_reduce')(gate))
        gate = Conv(x.shape[-1], use_bias=True, name='conv_expand')(gate)
        return x * nn.sigmoid(gate)
