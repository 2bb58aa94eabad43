"""IOA-CAS's networks: two that classify frames of sound, and a hybrid of sound and picture.

The two have convolutions along frequency. The hybrid joins a second's frames of sound by attention,
and adds the picture's embedding.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.attention import AttentionPooling
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.types import Array, Float

BLOCKS = 4


class Block(nn.Module):
    """A convolutional block with twice the channels at half the length.

    The convolutions are matrix products over a place and its neighbours: XLA's own take twice as
    long on CPU for so few channels. The attributes are those of `FrameNetwork`.
    """

    residual: bool
    shortcut_norm: bool
    sum_last: bool
    pooling: Literal['max', 'mean']

    @nn.compact
    def __call__(self, x: Float[Array, 'B F K'], *, train: bool) -> Float[Array, 'B F2 K2']:
        channels, inner = 2 * x.shape[-1], x[:, 1:-1]
        neighbours = jnp.concatenate([x[:, :-2], inner, x[:, 2:]], axis=-1)
        y = BatchNorm(name='bn')(Linear(channels, name='conv')(neighbours), train=train)
        if self.sum_last:
            y = nn.relu(y)
        if self.residual:
            shortcut = Linear(channels, name='shortcut_conv')(inner)
            if self.shortcut_norm:
                shortcut = BatchNorm(name='shortcut_bn')(shortcut, train=train)
            y += shortcut
        return _halved(y if self.sum_last else nn.relu(y), self.pooling)


def _halved(x, pooling):
    """Pools places in pairs, after padding one in front and, for an even number, one behind."""
    outside = 0.0 if pooling == 'mean' else -jnp.inf
    x = jnp.pad(x, ((0, 0), (1, 1 - x.shape[1] % 2), (0, 0)), constant_values=outside)
    first, second = x[:, ::2], x[:, 1::2]
    return (first + second) / 2 if pooling == 'mean' else jnp.maximum(first, second)


class FrameNetwork(nn.Module, kw_only=True):
    """A network of one frame of a front end; a clip's answer is the mean over its frames.

    Attributes:
      num_filters: of the front end: 256, or the scalogram's 290.
      residual: each block adds a 1x1 convolution of its input (1D-ResNet); else DCNN.
      shortcut_norm: the 1x1 convolution has a norm too.
      sum_last: the shortcut is added after the ReLU, as the table literally says, not before.
      pooling: at the end of each block; padding is never the maximum, and counts as 0 in means.
      hidden: outputs of the linear layers.
      dtype: of the arithmetic; parameters, statistics, embedding and logits are float32.

    Source: Wang et al. 2021 (IOA-CAS), Table 1 and Sec. 2.1, which leave order, norm, kind of
    pooling and dropout open.
    """

    DEPTH = (r'block(\d+)', r'(?:fc|bn)(\d+)')
    num_classes: int = 10
    num_filters: int = 256
    residual: bool = True
    shortcut_norm: bool = True
    sum_last: bool = False
    pooling: Literal['max', 'mean'] = 'max'
    hidden: tuple[int, int, int] = (2048, 1024, 1024)
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, 2, self.num_filters), jnp.float32)

    @nn.compact
    def __call__(
        self, frames: Float[Array, 'B K F'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        if frames.shape[1:] != (2, self.num_filters):
            raise ValueError(
                f'frames are {list(frames.shape)}, the network expects [B, 2, {self.num_filters}]'
            )
        x, out = frames.astype(self.dtype).swapaxes(1, 2), {}
        flat = [x.reshape(x.shape[0], -1)]
        for n in range(1, BLOCKS + 1):
            block = Block(
                self.residual, self.shortcut_norm, self.sum_last, self.pooling, name=f'block{n}'
            )
            out[f'block{n}'] = x = block(x, train=train)
            flat.append(x.reshape(x.shape[0], -1))
        x = jnp.concatenate(flat, axis=-1)
        for n, width in enumerate(self.hidden, start=1):
            x = BatchNorm(name=f'bn{n}')(Linear(width, name=f'fc{n}')(x), train=train)
            x = nn.relu(x)
            if n < len(self.hidden):
                x = Dropout(self.dropout)(x, train=train)
        out['embedding'] = x.astype(jnp.float32)
        if not self.num_classes:
            return out['embedding'], out
        return Linear(self.num_classes, name='head')(out['embedding']), out


class Hybrid(nn.Module, kw_only=True):
    """The hybrid: classifies the embeddings of a second's frames of sound and of its picture.

    `out['attention']` holds the frames' weights.

    Attributes:
      audio_size, image_size: widths of the embeddings; the picture's network gives 2048, 1280 or
        768.
      frames: of sound in a second; the network takes any number.
      attention, attention_width: see `AttentionPooling`.
      hidden: outputs of the first of the two layers after the attention.
      dtype: as in `FrameNetwork`.

    Source: Wang et al. 2021 (IOA-CAS), Figure 1 and Sec. 2.3.1.
    """

    DEPTH = ('attention', 'fc1|bn1')
    num_classes: int = 10
    audio_size: int = 1024
    image_size: int = 2048
    frames: int = 6
    attention: Literal['additive', 'dot_product'] = 'additive'
    attention_width: int = 128
    hidden: int = 512
    dtype: Any = jnp.float32

    @property
    def input_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            'audio_embedding': jax.ShapeDtypeStruct((1, self.frames, self.audio_size), jnp.float32),
            'image_embedding': jax.ShapeDtypeStruct((1, self.image_size), jnp.float32),
        }

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        frames, image = self._checked(inputs)
        attention = AttentionPooling(self.attention, self.attention_width, name='attention')
        sound, weights = attention(frames)
        x = Linear(self.hidden, name='fc1')(jnp.concatenate([sound, image], axis=-1))
        x = nn.relu(BatchNorm(name='bn1')(x, train=train))
        out = {'attention': weights, 'embedding': x.astype(jnp.float32)}
        if not self.num_classes:
            return out['embedding'], out
        return Linear(self.num_classes, name='head')(out['embedding']), out

    def _checked(self, inputs):
        """Returns (frames, picture) in the network's type; raises where shapes do not fit."""
        for name in self.input_spec:
            if name not in inputs:
                raise ValueError(f'no input {name} among {", ".join(sorted(inputs))}')
        frames, image = inputs['audio_embedding'], inputs['image_embedding']
        if frames.shape[2:] != (self.audio_size,) or image.shape[1:] != (self.image_size,):
            raise ValueError(
                f'audio_embedding is {list(frames.shape)} and image_embedding '
                f'{list(image.shape)}, the network expects [B, T, {self.audio_size}] and '
                f'[B, {self.image_size}]'
            )
        return frames.astype(self.dtype), image.astype(self.dtype)


MODELS = {
    'resnet1d': functools.partial(FrameNetwork),
    'dcnn1d': functools.partial(FrameNetwork, residual=False),
    'ioacas_hybrid': functools.partial(Hybrid),
}
