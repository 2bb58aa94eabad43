"""ResNets, and the residual blocks that other families build on.

Module names are the source's, with `layer1.0` written `layer1_0`, and `head` for its `fc`.
"""

import functools

import flax.linen as nn

from avsc_jax.layers.backbone import Backbone
from avsc_jax.layers.conv import Conv
from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.layers.pooling import max_pool
from avsc_jax.models import sources
from avsc_jax.models.rules import batch_norm, convolution, linear
from avsc_jax.types import Array, Float


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, a projection where the shape changes."""

    width: int
    stride: int = 1
    drop_path: float = 0.0
    EXPANSION = 1

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        strides = (self.stride, self.stride)
        y = Conv(self.width, (3, 3), strides, padding=1, name='conv1')(x)
        y = nn.relu(BatchNorm(name='bn1')(y, train=train))
        y = Conv(self.width, (3, 3), padding=1, name='conv2')(y)
        y = BatchNorm(name='bn2')(y, train=train)
        y = DropPath(self.drop_path)(y, train=train)
        return materialize(nn.relu(y + projected(x, self.width, self.stride, train=train)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a shortcut; a stride is in the 3x3 one."""

    width: int
    stride: int = 1
    drop_path: float = 0.0
    EXPANSION = 4

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        strides = (self.stride, self.stride)
        y = Conv(self.width, name='conv1')(x)
        y = nn.relu(BatchNorm(name='bn1')(y, train=train))
        y = Conv(self.width, (3, 3), strides, padding=1, name='conv2')(y)
        y = nn.relu(BatchNorm(name='bn2')(y, train=train))
        y = Conv(4 * self.width, name='conv3')(y)
        y = BatchNorm(name='bn3')(y, train=train)
        y = DropPath(self.drop_path)(y, train=train)
        return materialize(nn.relu(y + projected(x, 4 * self.width, self.stride, train=train)))


def projected(
    x: Float[Array, 'B H W K'], features: int, stride: int, *, train: bool
) -> Float[Array, 'B H2 W2 K2']:
    """Returns the shortcut of a block: x, or its projection where the shape changes."""
    if stride == 1 and x.shape[-1] == features:
        return x
    x = Conv(features, strides=(stride, stride), name='downsample_0')(x)
    return BatchNorm(name='downsample_1')(x, train=train)


class ResNet(Backbone, kw_only=True):
    """Four stages of residual blocks.

    Attributes:
      layers: blocks in each of the four stages.
      bottleneck: blocks have three convolutions, not two.
      width: channels inside the first stage's blocks, doubled in each later stage.
      drop_path_rate: of the last block; it grows from 0 at the first.

    Source: He et al. 2016, Table 1, with the stride in the 3x3 convolution (torchvision, timm).
    """

    DEPTH = (r'conv1\w*|bn1', r'layer(\d+)_(\d+)')
    layers: tuple[int, int, int, int]
    bottleneck: bool = True
    width: int = 64
    drop_path_rate: float = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, 'B H W K'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        x, out = max_pool(self.stem(self.checked(images), train=train)), {}
        rates = self.drop_path_rates(self.layers, self.drop_path_rate)
        for stage, depth in enumerate(self.layers, start=1):
            for index in range(depth):
                block = self.block(
                    width=self.width * 2 ** (stage - 1),
                    stride=2 if stage > 1 and index == 0 else 1,
                    drop_path=next(rates),
                    name=f'layer{stage}_{index}',
                )
                x = self.run(block, x, train=train)
            out[f'layer{stage}'] = x
        return self.classified(x, out, train=train)

    def stem(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        """Applies the layers before the pooling."""
        x = Conv(self.width, (7, 7), (2, 2), padding=3, name='conv1')(x)
        return nn.relu(BatchNorm(name='bn1')(x, train=train))

    def block(self, **options) -> nn.Module:
        """Makes one residual block."""
        return (Bottleneck if self.bottleneck else BasicBlock)(**options)


MODELS = {
    'resnet18': functools.partial(ResNet, layers=(2, 2, 2, 2), bottleneck=False),
    'resnet50': functools.partial(ResNet, layers=(3, 4, 6, 3)),
    'tv_resnet50': functools.partial(ResNet, layers=(3, 4, 6, 3)),  # with other published weights
}

# Conversion from torchvision's and timm's names.
BLOCK, FLAX_BLOCK = r'(layer\d)\.(\d+)', r'\1_\2'

RULES = (
    *convolution('conv1', 'conv1'),
    *batch_norm('bn1', 'bn1'),
    *convolution(rf'{BLOCK}\.(conv\d)', rf'{FLAX_BLOCK}/\3'),
    *batch_norm(rf'{BLOCK}\.(bn\d)', rf'{FLAX_BLOCK}/\3'),
    *convolution(rf'{BLOCK}\.downsample\.0', f'{FLAX_BLOCK}/downsample_0'),
    *batch_norm(rf'{BLOCK}\.downsample\.1', f'{FLAX_BLOCK}/downsample_1'),
    *linear('fc', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)

SOURCES = {
    'resnet18': sources.timm('resnet18.a1_in1k', 'Apache-2.0', 'bicubic', 0.95),
    'resnet50': sources.timm('resnet50.a1_in1k', 'Apache-2.0', 'bicubic', 0.95),
    'tv_resnet50': sources.timm('resnet50.tv_in1k', 'BSD-3-Clause', 'bilinear', 0.875),
}
