"""RegNetX: bottlenecks of grouped convolutions, with sizes from a search.

Module names are timm's, with `s1.b1` written `s1_b1`, and `head` for its `head.fc`.
"""

import functools

import flax.linen as nn

from avsc_jax.layers.backbone import Backbone
from avsc_jax.layers.conv import Conv
from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.models import sources
from avsc_jax.models.rules import batch_norm, convolution, linear
from avsc_jax.types import Array, Float


class ConvNorm(nn.Module):
    """A convolution with as much padding as keeps the size at stride 1, and its norm."""

    features: int
    kernel_size: int = 1
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        x = Conv(
            self.features,
            (self.kernel_size, self.kernel_size),
            (self.stride, self.stride),
            padding=self.kernel_size // 2,
            groups=self.groups,
            name='conv',
        )(x)
        return BatchNorm(name='bn')(x, train=train)


class Bottleneck(nn.Module):
    """1x1, grouped 3x3, 1x1 convolutions of one width, with a shortcut."""

    width: int
    group_width: int
    stride: int
    drop_path: float

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        groups = self.width // self.group_width
        y = nn.relu(ConvNorm(self.width, name='conv1')(x, train=train))
        y = nn.relu(ConvNorm(self.width, 3, self.stride, groups, name='conv2')(y, train=train))
        y = ConvNorm(self.width, name='conv3')(y, train=train)
        y = DropPath(self.drop_path)(y, train=train)
        if self.stride > 1 or x.shape[-1] != self.width:
            x = ConvNorm(self.width, stride=self.stride, name='downsample')(x, train=train)
        return materialize(nn.relu(y + x))


class RegNetX(Backbone, kw_only=True):
    """Four stages of bottlenecks with grouped convolutions.

    Attributes:
      widths: channels in each of the four stages, multiples of `group_width`.
      layers: blocks in each of the four stages.
      group_width: channels of one group of the 3x3 convolutions.
      drop_path_rate: of the last block; it grows from 0 at the first.

    Source: Radosavovic et al. 2020, Section 4 and the figure of the top REGNETX models.
    """

    DEPTH = ('stem', r's(\d+)_b(\d+)')
    widths: tuple[int, int, int, int]
    layers: tuple[int, int, int, int]
    group_width: int
    stem_width: int = 32
    drop_path_rate: float = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, 'B H W K'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        x = ConvNorm(self.stem_width, 3, 2, name='stem')(self.checked(images), train=train)
        x = nn.relu(x)
        out = {'stem': x}
        rates = self.drop_path_rates(self.layers, self.drop_path_rate)
        for stage, (width, depth) in enumerate(zip(self.widths, self.layers, strict=True), start=1):
            for index in range(1, depth + 1):
                block = Bottleneck(
                    width=width,
                    group_width=self.group_width,
                    stride=2 if index == 1 else 1,
                    drop_path=next(rates),
                    name=f's{stage}_b{index}',
                )
                x = self.run(block, x, train=train)
            out[f's{stage}'] = x
        return self.classified(x, out, train=train)


MODELS = {
    'regnetx_002': functools.partial(
        RegNetX, widths=(24, 56, 152, 368), layers=(1, 1, 4, 7), group_width=8
    ),
    'regnetx_064': functools.partial(
        RegNetX, widths=(168, 392, 784, 1624), layers=(2, 4, 10, 1), group_width=56
    ),
}

# Conversion from timm's names.
PART, FLAX_PART = r'(s\d)\.(b\d+)\.(conv\d|downsample)', r'\1_\2/\3'

RULES = (
    *convolution(r'stem\.conv', 'stem/conv'),
    *batch_norm(r'stem\.bn', 'stem/bn'),
    *convolution(rf'{PART}\.conv', f'{FLAX_PART}/conv'),
    *batch_norm(rf'{PART}\.bn', f'{FLAX_PART}/bn'),
    *linear(r'head\.fc', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)

SOURCES = {
    'regnetx_002': sources.timm('regnetx_002.pycls_in1k', 'MIT', 'bicubic', 0.875),
    'regnetx_064': sources.timm('regnetx_064.pycls_in1k', 'MIT', 'bicubic', 0.875),
}
