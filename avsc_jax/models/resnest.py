"""ResNeSts: ResNets whose 3x3 convolutions are split in two, mixed by attention over channels.

Module names are the source's, with `layer1.0` written `layer1_0`, and `head` for its `fc`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.layers.pooling import average_pool_2, average_pool_3
from avsc_jax.models import sources
from avsc_jax.models.resnet import ResNet
from avsc_jax.models.rules import batch_norm, convolution, linear
from avsc_jax.types import Array, Float

RADIX = 2  # splits of a block, each a convolution of its own half of the channels
SMALLEST_ATTENTION = 32  # channels


class SplitAttention(nn.Module):
    """The sum of the splits' maps, weighted in each channel by a softmax over the splits.

    Source: Zhang et al. 2020, Section 3.1, cardinality 1, in the radix-major form.
    """

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H W K2']:
        all_splits = RADIX * self.features
        x = Conv(all_splits, (3, 3), padding=1, groups=RADIX, name='conv')(x)
        x = nn.relu(BatchNorm(name='bn0')(x, train=train))
        x = x.reshape(*x.shape[:3], RADIX, self.features)
        pooled = x.sum(axis=3).mean(axis=(1, 2), keepdims=True, dtype=jnp.float32)
        attention = max(SMALLEST_ATTENTION, all_splits // 4)
        y = Conv(attention, use_bias=True, name='fc1')(pooled.astype(x.dtype))
        y = nn.relu(BatchNorm(name='bn1')(y, train=train))
        y = Conv(all_splits, use_bias=True, name='fc2')(y)
        y = y.reshape(-1, 1, 1, RADIX, self.features).astype(jnp.float32)
        return (x * nn.softmax(y, axis=3).astype(x.dtype)).sum(axis=3)


class Bottleneck(nn.Module):
    """A ResNet's bottleneck with split attention; a stride is an average pool after that."""

    width: int
    stride: int
    drop_path: float

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        y = Conv(self.width, name='conv1')(x)
        y = nn.relu(BatchNorm(name='bn1')(y, train=train))
        y = SplitAttention(self.width, name='conv2')(y, train=train)
        if self.stride > 1:
            y = average_pool_3(y)
        y = Conv(4 * self.width, name='conv3')(y)
        y = BatchNorm(name='bn3')(y, train=train)
        y = DropPath(self.drop_path)(y, train=train)
        if self.stride > 1:
            x = average_pool_2(x)
        if x.shape[-1] != 4 * self.width:
            x = Conv(4 * self.width, name='downsample_1')(x)
            x = BatchNorm(name='downsample_2')(x, train=train)
        return materialize(nn.relu(y + x))


class ResNeSt(ResNet, kw_only=True):
    """A ResNet with a stem of three convolutions and split attention.

    Attributes:
      stem_width: channels of the stem's first two convolutions; the third has twice as many.

    Source: Zhang et al. 2020, without what only the "fast" variants have.
    """

    stem_width: int = 32

    def stem(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        x = Conv(self.stem_width, (3, 3), (2, 2), padding=1, name='conv1_0')(x)
        x = nn.relu(BatchNorm(name='conv1_1')(x, train=train))
        x = Conv(self.stem_width, (3, 3), padding=1, name='conv1_3')(x)
        x = nn.relu(BatchNorm(name='conv1_4')(x, train=train))
        x = Conv(2 * self.stem_width, (3, 3), padding=1, name='conv1_6')(x)
        return nn.relu(BatchNorm(name='bn1')(x, train=train))

    def block(self, **options) -> nn.Module:
        return Bottleneck(**options)


MODELS = {
    'resnest14d': functools.partial(ResNeSt, layers=(1, 1, 1, 1)),
    'resnest50d': functools.partial(ResNeSt, layers=(3, 4, 6, 3)),
}

# Conversion from timm's names.
BLOCK, FLAX_BLOCK = r'(layer\d)\.(\d+)', r'\1_\2'

RULES = (
    *convolution(r'conv1\.([036])', r'conv1_\1'),
    *batch_norm(r'conv1\.([14])', r'conv1_\1'),
    *batch_norm('bn1', 'bn1'),
    *convolution(rf'{BLOCK}\.(conv[13])', rf'{FLAX_BLOCK}/\3'),
    *batch_norm(rf'{BLOCK}\.(bn[13])', rf'{FLAX_BLOCK}/\3'),
    *convolution(rf'{BLOCK}\.conv2\.conv', f'{FLAX_BLOCK}/conv2/conv'),
    *batch_norm(rf'{BLOCK}\.conv2\.(bn[01])', rf'{FLAX_BLOCK}/conv2/\3'),
    *linear(rf'{BLOCK}\.conv2\.(fc[12])', rf'{FLAX_BLOCK}/conv2/\3'),
    *convolution(rf'{BLOCK}\.downsample\.1', f'{FLAX_BLOCK}/downsample_1'),
    *batch_norm(rf'{BLOCK}\.downsample\.2', f'{FLAX_BLOCK}/downsample_2'),
    *linear('fc', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)

SOURCES = {
    'resnest14d': sources.timm('resnest14d.gluon_in1k', 'Apache-2.0', 'bilinear', 0.875),
    'resnest50d': sources.timm('resnest50d.in1k', 'Apache-2.0', 'bilinear', 0.875),
}
