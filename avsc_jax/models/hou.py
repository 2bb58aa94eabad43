"""Hou's dual-stream network: sound and pictures by streams of their own, joined by attention.

The sound's stream is attention and convolutions over OpenL3's embeddings, the other a ResNet on ten
pictures.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.layers.pooling import largest
from avsc_jax.models.openl3_baseline import WIDTH
from avsc_jax.models.resnet import ResNet
from avsc_jax.types import Array, Bool, Float

# Kernel, strides, and whether a pooling follows, of each convolution over [time, embedding].
AUDIO_LAYERS = (
    ((1, 7), (3, 4), True),
    ((1, 5), (3, 3), True),
    ((1, 5), (1, 3), False),
    ((1, 5), (1, 3), False),
)
AUDIO_HEADS, FUSION_HEADS = 8, 16


class EncoderLayer(nn.Module):
    """Attention and a position-wise network, each followed by a shortcut and a norm.

    Attributes:
      scaled: scores are divided by the root of a head's width, as usual; the source does not.

    Source: Vaswani et al. 2017, Figure 1, without positions and dropout; Hou et al. 2021, code.
    """

    heads: int
    scaled: bool

    @nn.compact
    def __call__(
        self, queries: Float[Array, 'B T D'], values: Float[Array, 'B T2 D']
    ) -> tuple[Float[Array, 'B T D'], Float[Array, 'B T2']]:
        """Returns the result, and the mean weight of each value over heads and queries."""
        batch, _, width = queries.shape
        q, k, v = (
            Linear(width, name=name)(x).reshape(batch, -1, self.heads, width // self.heads)
            for name, x in (('W_Q', queries), ('W_K', values), ('W_V', values))
        )
        scores = jnp.einsum('bthd,bshd->bhts', q, k).astype(jnp.float32)
        if self.scaled:
            scores *= q.shape[-1] ** -0.5
        weights = nn.softmax(scores)
        context = jnp.einsum('bhts,bshd->bthd', weights.astype(v.dtype), v)
        context = Linear(width, name='output')(context.reshape(queries.shape))
        x = _norm('norm1', context + queries)
        hidden = nn.relu(Linear(width, name='conv1')(x))
        x = _norm('norm2', Linear(width, name='conv2')(hidden) + x)
        return x, weights.mean(axis=(1, 2))


class AudioBranch(nn.Module):
    """The stream of sound: frames' embeddings to a tenth as many vectors, 10 for a clip's 96.

    Attributes:
      filters: of the four convolutions.
    """

    filters: tuple[int, int, int, int]
    scaled: bool

    @nn.compact
    def __call__(self, x: Float[Array, 'B T D'], *, train: bool) -> Float[Array, 'B T2 D2']:
        x, _ = EncoderLayer(AUDIO_HEADS, self.scaled, name='encoder')(x, x)
        x = x[..., None]
        layers = zip(self.filters, AUDIO_LAYERS, strict=True)
        for n, (filters, (kernel, strides, pooled)) in enumerate(layers, start=1):
            x = Conv(filters, kernel, strides, use_bias=True, torch_initial=True, name=f'conv{n}')(
                x
            )
            x = nn.relu(BatchNorm(name=f'bn{n}')(x, train=train))
            if pooled:
                x = nn.max_pool(x, window_shape=(2, 2), strides=(1, 1), padding='VALID')
        return x.mean(axis=2)


class DualStream(nn.Module, kw_only=True):
    """Vectors of sound and picture for each second, joined and classified; answers are pooled.

    Attributes:
      fusion: 'attention' over the joined vectors, a linear layer ('none'), or attention with
        queries of one kind ('image_queries', 'audio_queries') and values of the other.
      embedding_size, frames: of the sound; 96 frames fit 10 pictures.
      layers, width: of the ResNet.
      filters: of the first three convolutions of the sound.
      features: of each vector of either kind.
      scaled: see `EncoderLayer`.
      dtype: of the ResNet's maps; all else is float32.
      remat: the ResNet's blocks are computed again for their gradients, to save memory.

    Source: Hou et al. 2021, Sec. 1 and Figure 1; layers and variants are those of its code.
    """

    DEPTH = (
        *('resnet/(?:conv1|bn1)', r'resnet/layer(\d+)_(\d+)'),
        *('audio|image_fc|image_bn', 'fusion'),
    )
    num_classes: int = 10
    fusion: Literal['attention', 'none', 'image_queries', 'audio_queries'] = 'attention'
    embedding_size: int = WIDTH
    frames: int = 96
    image_size: int = 224
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 64
    filters: tuple[int, int, int] = (64, 128, 256)
    features: int = 256
    dropout: float = 0.5
    scaled: bool = False
    dtype: Any = jnp.float32
    remat: bool = False

    @property
    def input_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        images = (1, steps(self.frames), self.image_size, self.image_size, 3)
        return {
            'audio_embedding': jax.ShapeDtypeStruct(
                (1, self.frames, self.embedding_size), jnp.float32
            ),
            'image': jax.ShapeDtypeStruct(images, jnp.float32),
        }

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        frames, images = self._checked(inputs)
        is_there = _seconds_there(frames, images.shape[1])
        audio = AudioBranch((*self.filters, self.features), self.scaled, name='audio')
        audio, image = audio(frames, train=train), self._seen(images, train=train)
        fused, attention = self._fused(audio, image)
        out = {'audio': audio, 'image': image, 'fused': fused, **attention}
        out['embedding'] = _mean_of(fused, is_there)
        if not self.num_classes:
            return out['embedding'], out
        x = Dropout(self.dropout)(fused, train=train)
        out['logits'] = answers = Linear(self.num_classes, name='head')(x)
        last = jnp.where(is_there[..., None], answers, -jnp.inf)
        return _mean_of(answers, is_there) + largest(last), out

    def part(self, name: Literal['resnet']) -> nn.Module:
        """Returns the part of the network with this name, as a network of its own."""
        return {'resnet': self._resnet}[name](parent=None)

    def _resnet(self, **where) -> ResNet:
        options = dict(layers=self.layers, width=self.width, dtype=self.dtype, remat=self.remat)
        return ResNet(num_classes=0, **options, **where)

    def _seen(self, images, *, train):
        """Returns a vector for each picture, from mean and maximum of the ResNet's last map."""
        resnet = self._resnet(name='resnet')
        last = resnet(images.reshape(-1, *images.shape[2:]), train=train)[1]['layer4']
        flat = last.reshape(last.shape[0], -1, last.shape[-1]).astype(jnp.float32)
        x = _mean_and_largest(flat)
        x = Linear(self.features, name='image_fc')(x)
        x = BatchNorm(name='image_bn')(nn.relu(x), train=train)
        return x.reshape(*images.shape[:2], -1)

    def _fused(self, audio, image):
        """Returns vectors of both and, for `out`, the attention to each second."""
        if self.fusion == 'none':
            joined = jnp.concatenate([audio, image], axis=-1)
            return nn.relu(Linear(self.features, name='fusion')(joined)), {}
        if self.fusion == 'attention':
            queries = values = jnp.concatenate([audio, image], axis=-1)
        else:
            order = 1 if self.fusion == 'audio_queries' else -1
            queries, values = (audio, image)[::order]
        fused, weights = EncoderLayer(FUSION_HEADS, self.scaled, name='fusion')(queries, values)
        return fused, {'attention': weights}

    def _checked(self, inputs):
        """Returns (embeddings, images); raises ValueError where their shapes do not fit."""
        for name in self.input_spec:
            if name not in inputs:
                raise ValueError(f'no input {name} among {", ".join(sorted(inputs))}')
        frames, images = inputs['audio_embedding'], inputs['image']
        if frames.ndim != 3 or frames.shape[-1] != self.embedding_size or images.ndim != 5:
            raise ValueError(
                f'audio_embedding is {list(frames.shape)} and image {list(images.shape)}, the '
                f'network expects [B, T, {self.embedding_size}] and [B, T, H, W, 3]'
            )
        if images.shape[1] < 1 or steps(frames.shape[1]) != images.shape[1]:
            raise ValueError(
                f'{frames.shape[1]} frames of audio_embedding fit {steps(frames.shape[1])} images, '
                f'{images.shape[1]} were given; of a 1 s item, repeat the 6 frames to 96'
            )
        return frames, images


def steps(frames: int) -> int:
    """Returns how many vectors the stream of sound makes of so many frames."""
    for _, (stride, _), pooled in AUDIO_LAYERS:
        frames = (frames - 1) // stride + 1 - pooled
    return frames


def _seconds_there(frames: Float[Array, 'B T D'], num_seconds: int) -> Bool[Array, 'B T2']:
    """Returns which seconds a clip has: those in whose middle the sound is not completed by zeros.

    Our choice: the source has clips of ten seconds alone. A shorter one is completed by zeros and
    black pictures, which the attention sees, in training too; but only the seconds that the clip
    has are pooled. Sound that is nothing but zeros has all of them.
    """
    middles = (2 * np.arange(num_seconds) + 1) * frames.shape[1] // (2 * num_seconds)
    is_there = jnp.abs(frames[:, middles]).max(axis=-1) > 0
    return is_there | ~is_there.any(axis=1, keepdims=True)


def _mean_of(x: Float[Array, 'B T K'], is_there: Bool[Array, 'B T']) -> Float[Array, 'B K']:
    """Returns the mean over those of the second axis that are there."""
    total = jnp.where(is_there[..., None], x, 0).sum(axis=1)
    return total / is_there.sum(axis=1, keepdims=True, dtype=x.dtype)


def _mean_and_largest(x: Float[Array, 'B T K']) -> Float[Array, 'B K']:
    """Returns the sum of mean and maximum over the second axis."""
    return x.mean(axis=1) + largest(x)


def _norm(name, x):
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)(x)


MODELS = {
    'hou_final': functools.partial(DualStream),
    'hou_model_1': functools.partial(DualStream, fusion='none'),
    'hou_model_3': functools.partial(DualStream, fusion='image_queries'),
    'hou_model_4': functools.partial(DualStream, fusion='audio_queries'),
}
