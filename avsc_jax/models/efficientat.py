"""EfficientAT: MobileNetV3 of log-mel spectrograms, trained on AudioSet in eight widths.

Module names are the source's, with `features.4.block.1.0` written `features_4/block_1_0`, and
`head` for its `classifier.5`.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.layers.squeeze_excite import SqueezeExcite
from avsc_jax.models import sources
from avsc_jax.models.efficientnet import multiple_of_8
from avsc_jax.models.rules import Rule, batch_norm, convolution, linear, outputs_last
from avsc_jax.types import Array, Float

SMALLEST_SIDE = 32  # bands or columns to one place of the last map
SQUEEZE = 4  # channels of a block to those of its gate


class Layer(NamedTuple):
    """A bottleneck before the width is applied; `wide` are the channels inside of it."""

    kernel: int
    wide: int
    features: int
    squeezes: bool
    act: str
    stride: int = 1


# Howard et al. 2019, Table 1, rows 2 to 16
LAYERS = (
    Layer(3, 16, 16, False, 'relu'),
    Layer(3, 64, 24, False, 'relu', 2),
    Layer(3, 72, 24, False, 'relu'),
    Layer(5, 72, 40, True, 'relu', 2),
    *[Layer(5, 120, 40, True, 'relu')] * 2,
    Layer(3, 240, 80, False, 'hard_swish', 2),
    Layer(3, 200, 80, False, 'hard_swish'),
    *[Layer(3, 184, 80, False, 'hard_swish')] * 2,
    Layer(3, 480, 112, True, 'hard_swish'),
    Layer(3, 672, 112, True, 'hard_swish'),
    Layer(5, 672, 160, True, 'hard_swish', 2),
    *[Layer(5, 960, 160, True, 'hard_swish')] * 2,
)
STEM, HIDDEN = 16, 1280
LAST = 6  # times the channels of the last block


class Bottleneck(nn.Module):
    """Widens, convolves each channel, gates and narrows; with a shortcut where the shape stays."""

    layer: Layer
    momentum: float

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        kernel, wide, features, squeezes, act, stride = self.layer
        act, y, place = getattr(nn, act), x, 0
        conv = functools.partial(_conv_norm, momentum=self.momentum, train=train)
        if wide != x.shape[-1]:
            y, place = act(conv(y, 'block_0', wide)), 1
        y = act(conv(y, f'block_{place}', wide, kernel=kernel, stride=stride, groups=wide))
        if squeezes:
            place += 1
            gate = multiple_of_8(wide // SQUEEZE)
            y = SqueezeExcite(gate, act=nn.relu, name=f'block_{place}_conc_se_layers_0')(y)
        y = conv(y, f'block_{place + 1}', features)
        return materialize(x + y) if x.shape == y.shape else y


class EfficientAT(nn.Module, kw_only=True):
    """EfficientAT's MobileNetV3: spectrograms of `efficientat_logmel` in, a logit for each tag out.

    The tags are not exclusive: their probabilities are sigmoids of the logits. The embedding is
    what the head takes; `pooled`, the mean of the last map, is what the source calls features.

    Attributes:
      num_classes: 527, the tags of AudioSet; 0 gives the embedding instead.
      width: factor of all channels, each of which is then a multiple of 8.
      size: bands and columns of `input_spec`; spectrograms of other sizes are taken, too.
      drop_rate: the dropout rate before the head.
      momentum: share of the running statistics that each step of training keeps; 0.99 needs
        hundreds of steps where they begin with random weights.
      dtype: the type of feature maps and of the arithmetic of convolutions; parameters, statistics
        and the layers after the last map are float32.

    Source: Schmid et al. 2023; Howard et al. 2019 (MobileNetV3-Large), Table 1; models/mn of
    fschmid56/EfficientAT at commit a425fdc.
    """

    # after each stride
    DEPTH = (
        'features_0_[01]',
        'features_(1)',
        'features_([23])',
        'features_([4-6])',
        'features_([7-9]|1[0-2])',
        'features_(1[3-5])|features_16_[01]|classifier_2',
    )
    num_classes: int = 527
    in_chans: int = 1
    width: float = 1.0
    size: tuple[int, int] = (128, 1000)
    drop_rate: float = 0.2
    momentum: float = 0.99
    dtype: Any = jnp.float32

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *self.size, self.in_chans), jnp.float32)

    @nn.compact
    def __call__(
        self, x: Float[Array, 'B F T K'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        bands, columns, channels = x.shape[1:]
        if channels != self.in_chans or min(bands, columns) < SMALLEST_SIDE:
            raise ValueError(
                f'the spectrogram has {bands} bands, {columns} columns and {channels} channels: '
                f'this network takes {self.in_chans} channels (in_chans), and {SMALLEST_SIDE} '
                'bands and columns or more; make it by audio.frontends.efficientat_logmel'
            )

        def scaled(channels: int) -> int:
            return multiple_of_8(channels * self.width)

        conv = functools.partial(_conv_norm, momentum=self.momentum, train=train)
        x, out = x.astype(self.dtype), {}
        x = nn.hard_swish(conv(x, 'features_0', scaled(STEM), kernel=3, stride=2))
        out['features_0'] = x
        for number, layer in enumerate(LAYERS, 1):
            own = layer._replace(wide=scaled(layer.wide), features=scaled(layer.features))
            x = Bottleneck(own, self.momentum, name=f'features_{number}')(x, train=train)
            out[f'features_{number}'] = x
        x = nn.hard_swish(conv(x, 'features_16', LAST * x.shape[-1]))
        out['pooled'] = x.mean(axis=(1, 2), dtype=jnp.float32)
        embedding = nn.hard_swish(Linear(scaled(HIDDEN), name='classifier_2')(out['pooled']))
        out['embedding'] = embedding
        if not self.num_classes:
            return embedding, out
        x = Dropout(self.drop_rate, name='head_drop')(embedding, train=train)
        return Linear(self.num_classes, name='head')(x), out


def _conv_norm(x, name, features, *, kernel=1, stride=1, groups=1, momentum, train):
    """Applies a convolution and its norm, as submodules `NAME_0` and `NAME_1`."""
    window = ((kernel, kernel), (stride, stride))
    x = Conv(features, *window, kernel // 2, groups, name=f'{name}_0')(x)
    return BatchNorm(momentum=momentum, epsilon=1e-3, name=f'{name}_1')(x, train=train)


def _convolution_of_one(value: np.ndarray) -> np.ndarray:
    """Turns a matrix `[out, in]` into the kernel `[1, 1, in, out]` of a convolution."""
    return outputs_last(value)[None, None]


def _gate(source: str, name: str) -> tuple[Rule, ...]:
    """Returns the rules of one of a gate's two layers, matrices in the source."""
    theirs, path = rf'{BLOCK}\.(\d+)\.conc_se_layers\.0\.{source}', rf'{PATH}_\2_conc_se_layers_0'
    return (
        Rule(rf'{theirs}\.weight', rf'params/{path}/{name}/kernel', _convolution_of_one),
        Rule(rf'{theirs}\.bias', rf'params/{path}/{name}/bias'),
    )


# Width of each network, and mean average precision on AudioSet x 1000, which its file is named for
# (the table in README.md of the source).
PUBLISHED = {
    'mn01_as': (0.1, 298),
    'mn02_as': (0.2, 378),
    'mn04_as': (0.4, 432),
    'mn05_as': (0.5, 443),
    'mn10_as': (1.0, 471),
    'mn20_as': (2.0, 478),
    'mn30_as': (3.0, 482),
    'mn40_as': (4.0, 484),
}
MODELS = {
    name: functools.partial(EfficientAT, width=width) for name, (width, _) in PUBLISHED.items()
}

# Conversion from the source's names.
BLOCK, PATH = r'features\.(\d+)\.block', r'features_\1/block'

RULES = (
    *convolution(r'features\.(0|16)\.0', r'features_\1_0'),
    *batch_norm(r'features\.(0|16)\.1', r'features_\1_1'),
    *convolution(rf'{BLOCK}\.(\d+)\.0', rf'{PATH}_\2_0'),
    *batch_norm(rf'{BLOCK}\.(\d+)\.1', rf'{PATH}_\2_1'),
    *_gate('fc1', 'conv_reduce'),
    *_gate('fc2', 'conv_expand'),
    *linear(r'classifier\.2', 'classifier_2'),
    *linear(r'classifier\.5', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)

SOURCES = {
    name: sources.efficientat(f'{name}_mAP_{precision}.pt')
    for name, (_, precision) in PUBLISHED.items()
}
