"""OpenAI's CLIP image towers of the ResNet kind: three-layer stem, antialiased strides,
attention pooling. Module names are the source's, with `layer1.0` written `layer1_0`."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.models import sources
from avsc_jax.models.rules import Rule, batch_norm, convolution, linear
from avsc_jax.types import Array, Float

IMAGE_TO_GRID = 32  # pixels of the image to one of the last feature map


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a shortcut; a stride is an average pool before the last."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W K'], *, train: bool) -> Float[Array, 'B H2 W2 K2']:
        y = Conv(self.width, name='conv1')(x)
        y = nn.relu(BatchNorm(name='bn1')(y, train=train))
        y = Conv(self.width, (3, 3), padding=1, name='conv2')(y)
        y = nn.relu(BatchNorm(name='bn2')(y, train=train))
        y = _average_pool(y, self.stride)
        y = Conv(4 * self.width, name='conv3')(y)
        y = BatchNorm(name='bn3')(y, train=train)
        if self.stride > 1 or x.shape[-1] != 4 * self.width:
            x = _average_pool(x, self.stride)
            x = Conv(4 * self.width, name='downsample_0')(x)
            x = BatchNorm(name='downsample_1')(x, train=train)
        return materialize(nn.relu(x + y))


class AttentionPool(nn.Module):
    """Attention pooling: the map's mean attends to itself and to every place of the map."""

    heads: int
    output_dim: int

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W D']) -> Float[Array, 'B D2']:
        batch, _, _, width = x.shape
        x = x.reshape(batch, -1, width)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1)
        normal = nn.initializers.normal(width**-0.5)
        place = self.param('positional_embedding', normal, x.shape[1:])
        x = x + place[None].astype(x.dtype)

        def heads(values):
            return values.reshape(batch, -1, self.heads, width // self.heads)

        # Only the mean's row of the attention is used, so only that one is computed.
        pooled = nn.dot_product_attention(
            heads(Linear(width, name='q_proj')(x[:, :1])),
            heads(Linear(width, name='k_proj')(x)),
            heads(Linear(width, name='v_proj')(x)),
        )
        return Linear(self.output_dim, name='c_proj')(pooled.reshape(batch, width))


class ClipResNet(nn.Module):
    """CLIP's ResNet: image to embedding, not normalised; with `num_classes`, a linear head on it.

    Attributes:
      width: channels after the stem; the last stage has 32 times as many.
      layers: bottlenecks in each of the four stages.
      heads: of the attention pooling; None gives one for each 64 channels.
      image_size: side of the square input, a multiple of 32.
      dtype: of the arithmetic; parameters, statistics and the embedding are float32.

    Source: Radford et al. 2021, Section 2.4 and Table 19; `ModifiedResNet` of openai/CLIP.
    """

    width: int
    layers: tuple[int, int, int, int]
    output_dim: int
    image_size: int
    heads: int | None = None
    num_classes: int = 0
    dtype: Any = jnp.float32

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.image_size, self.image_size, 3), jnp.float32)

    @nn.compact
    def __call__(
        self, images: Float[Array, 'B H W 3'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        if images.shape[1:3] != (self.image_size,) * 2 or self.image_size % IMAGE_TO_GRID:
            raise ValueError(
                f'images are {images.shape[1]}x{images.shape[2]}, the network was made for '
                f'image_size={self.image_size}: both must be the same multiple of {IMAGE_TO_GRID}'
            )
        x, out = images.astype(self.dtype), {}
        stem = (self.width // 2, 2), (self.width // 2, 1), (self.width, 1)
        for index, (features, stride) in enumerate(stem, start=1):
            x = Conv(features, (3, 3), (stride, stride), padding=1, name=f'conv{index}')(x)
            x = nn.relu(BatchNorm(name=f'bn{index}')(x, train=train))
        out['stem'] = x = _average_pool(x, 2)
        for stage, depth in enumerate(self.layers, start=1):
            for index in range(depth):
                x = Bottleneck(
                    width=self.width * 2 ** (stage - 1),
                    stride=2 if stage > 1 and index == 0 else 1,
                    name=f'layer{stage}_{index}',
                )(x, train=train)
            out[f'layer{stage}'] = x
        heads = self.heads or max(1, x.shape[-1] // 64)
        embedding = AttentionPool(heads, self.output_dim, name='attnpool')(x)
        out['embedding'] = embedding = embedding.astype(jnp.float32)
        if not self.num_classes:
            return embedding, out
        return Linear(self.num_classes, name='head')(embedding), out


def _average_pool(x, stride):
    if stride == 1:
        return x
    return nn.avg_pool(x, window_shape=(stride, stride), strides=(stride, stride), padding='VALID')


MODELS = {
    'clip_rn101': functools.partial(
        ClipResNet, width=64, layers=(3, 4, 23, 3), output_dim=512, image_size=224
    ),
    'clip_rn50x4': functools.partial(
        ClipResNet, width=80, layers=(4, 6, 10, 6), output_dim=640, image_size=288
    ),
}

# Conversion from OpenAI's and open_clip's names.
BLOCK, FLAX_BLOCK = r'visual\.(layer\d)\.(\d+)', r'\1_\2'

RULES = (
    *convolution(r'visual\.(conv\d)', r'\1'),
    *batch_norm(r'visual\.(bn\d)', r'\1'),
    *convolution(rf'{BLOCK}\.(conv\d)', rf'{FLAX_BLOCK}/\3'),
    *batch_norm(rf'{BLOCK}\.(bn\d)', rf'{FLAX_BLOCK}/\3'),
    *convolution(rf'{BLOCK}\.downsample\.0', f'{FLAX_BLOCK}/downsample_0'),
    *batch_norm(rf'{BLOCK}\.downsample\.1', f'{FLAX_BLOCK}/downsample_1'),
    Rule(r'visual\.attnpool\.positional_embedding', 'params/attnpool/positional_embedding'),
    *linear(r'visual\.attnpool\.([qkvc]_proj)', r'attnpool/\1'),
)

# The text tower, the temperature, and the archives' facts about themselves.
IGNORE = (
    r'visual\..*\.num_batches_tracked',
    r'transformer\..*',
    r'token_embedding\.weight',
    r'positional_embedding',
    r'ln_final\.(weight|bias)',
    r'text_projection',
    r'logit_scale',
    r'input_resolution|context_length|vocab_size|attn_mask',
)

SOURCES = {
    'clip_rn101': sources.openai_clip(
        'RN101.pt',
        '8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599',
        hub='timm/resnet101_clip.openai/open_clip_model.safetensors',
        image_size=224,
        unstated=('mean', 'std'),
    ),
    'clip_rn50x4': sources.openai_clip(
        'RN50x4.pt',
        '7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd',
        hub='timm/resnet50x4_clip.openai/open_clip_model.safetensors',
        image_size=288,
        unstated=('mean', 'std'),
    ),
}
