"""YAMNet, Google's tagger of sounds: a MobileNet of log-mel patches, with Keras's names."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.models.rules import Rule
from avsc_jax.models.sources import Shipped, Source
from avsc_jax.types import Array, Float

FRAMES, BANDS = 96, 64  # of a patch
# Layers 2 to 14: stride of the depthwise convolution, and channels of the pointwise one.
SEPARABLE = (
    *((1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)),
    *[(1, 512)] * 5,
    *((2, 1024), (1, 1024)),
)


class _Layer(nn.Module):
    """A convolution, or a depthwise and a pointwise one, each with a norm and a ReLU."""

    features: int
    stride: int
    is_separable: bool

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        def conv(x, name, features, kernel, stride, groups=1):
            window = ((kernel, kernel), (stride, stride))
            x = Conv(features, *window, padding='SAME', groups=groups, name=name)(x)
            norm = BatchNorm(momentum=0.99, epsilon=1e-4, use_scale=False, name=f'{name}_bn')
            return nn.relu(norm(x, train=train))

        if not self.is_separable:
            return conv(x, 'conv', self.features, 3, self.stride)
        channels = x.shape[-1]
        x = conv(x, 'depthwise_conv', channels, 3, self.stride, groups=channels)
        return conv(x, 'pointwise_conv', self.features, 1, 1)


class YAMNet(nn.Module, kw_only=True):
    """YAMNet: patches of `audio.frontends.yamnet_logmel` in, a logit for each tag out.

    The tags are not exclusive: their probabilities are sigmoids of the logits. With
    `num_classes=0` it gives the embedding, the mean over the last map, instead.

    Attributes:
      num_classes: 521, the tags of AudioSet that the published weights know.
      width: factor of all channels; the published weights have 1.

    Source: Plakal and Ellis 2019, tensorflow/models, research/audioset/yamnet; Howard et al. 2017
    (MobileNet), Table 1.
    """

    # after each stride
    DEPTH = (
        'layer1',
        'layer(2)',
        'layer([34])',
        'layer([56])',
        'layer([789]|1[012])',
        'layer(1[34])',
    )
    num_classes: int = 521
    width: float = 1.0

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, FRAMES, BANDS, 1), jnp.float32)

    @nn.compact
    def __call__(
        self, patches: Float[Array, 'B 96 64 1'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        if patches.shape[1:] != (FRAMES, BANDS, 1):
            raise ValueError(
                f'the input is {list(patches.shape[1:])}, YAMNet takes patches of '
                f'[{FRAMES}, {BANDS}, 1]; make them by audio.frontends.yamnet_logmel'
            )
        layers = [(2, 32), *SEPARABLE]
        x, out = patches.astype(jnp.float32), {}
        for number, (stride, features) in enumerate(layers, 1):
            name, channels = f'layer{number}', round(self.width * features)
            x = _Layer(channels, stride, is_separable=number > 1, name=name)(x, train=train)
            out[name] = x
        out['embedding'] = embedding = x.mean(axis=(1, 2))
        if not self.num_classes:
            return embedding, out
        return Linear(self.num_classes, name='head')(embedding), out


def _depthwise(value: np.ndarray) -> np.ndarray:
    """Turns Keras's depthwise kernel `[h, w, K, 1]` into `[h, w, 1, K]`."""
    return value.swapaxes(2, 3)


MODELS = {'yamnet': functools.partial(YAMNet)}

# Conversion from Keras's names. In the publisher's yamnet.h5 they come after the layer's group,
# 'layer1/conv/bn/layer1/conv/bn/beta:0', and the last layer may have Keras's own name.
GROUP = r'(?:model_weights/)?(?:.*/)?'
LAYER, CONV = r'(layer\d+)', r'((?:depthwise_|pointwise_)?conv)'

RULES = (
    Rule(rf'{GROUP}{LAYER}/(conv|pointwise_conv)/kernel(?::0)?', r'params/\1/\2/kernel'),
    Rule(
        rf'{GROUP}{LAYER}/depthwise_conv/depthwise_kernel(?::0)?',
        r'params/\1/depthwise_conv/kernel',
        _depthwise,
    ),
    Rule(rf'{GROUP}{LAYER}/{CONV}/bn/beta(?::0)?', r'params/\1/\2_bn/bias'),
    Rule(rf'{GROUP}{LAYER}/{CONV}/bn/moving_mean(?::0)?', r'batch_stats/\1/\2_bn/mean'),
    Rule(rf'{GROUP}{LAYER}/{CONV}/bn/moving_variance(?::0)?', r'batch_stats/\1/\2_bn/var'),
    Rule(rf'{GROUP}(?:logits|dense(?:_\d+)?)/(kernel|bias)(?::0)?', r'params/head/\1'),
)

SOURCES = {
    'yamnet': Source(
        publisher='tensorflow/models',
        licence='Apache-2.0',
        url=None,
        sha256=None,
        hub=None,
        image_size=None,
        resize=None,
        interpolation=None,
        crop=None,
        mean=None,
        std=None,
        shipped=Shipped(
            'avsc_jax.weights',
            'shipped/yamnet.safetensors',
            '1bb07b1a1ebc3506375e813ca12335ab181085ef97e55e2b3c2af30ffba16e3a',
        ),
    )
}
