"""OpenL3's networks of a second's log-mel spectrogram and of a picture, with Keras's names."""

import functools
import re
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.layers.pooling import largest
from avsc_jax.models import sources
from avsc_jax.models.rules import Rule
from avsc_jax.types import Array, Float


class OpenL3(nn.Module, kw_only=True):
    """OpenL3's network of spectrograms or pictures: four blocks of two 3x3 convolutions.

    It gives (embedding, out); with `num_classes`, a linear head is put on the embedding.

    Attributes:
      kind: 'audio' takes [256, 199, 1] of `audio.frontends.openl3_mel256`; 'image' takes pictures
        of three channels in [-1, 1].
      window: of the last pooling, over which the larger embedding takes the maximum.
      embedding_size: 512, the last block's channels, each by its maximum over the whole map; or
        by its maximum in each window of the map (6144 for a spectrogram, 8192 for a picture).
      widths: channels of the four blocks.
      dtype: of the arithmetic; parameters, statistics and the embedding are float32.

    Source: Cramer et al. 2019, Sec. 3; Arandjelovic and Zisserman 2017, Figure 2; openl3 0.3.1.
    """

    kind: Literal['audio', 'image']
    input_shape: tuple[int, int, int]
    window: tuple[int, int]
    embedding_size: int = 512
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    num_classes: int = 0
    dtype: Any = jnp.float32

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)

    @nn.compact
    def __call__(
        self, x: Float[Array, 'B H W K'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        if x.shape[1:] != tuple(self.input_shape):
            raise ValueError(
                f'input is {list(x.shape[1:])}, the network was made for '
                f'input_shape={self.input_shape}'
            )
        of_sound = self.kind == 'audio'
        norms, convs = iter(range(1, 9)), iter(range(1, 8))

        def norm(x):
            name = f'batch_normalization_{next(norms)}'
            return BatchNorm(momentum=0.99, epsilon=1e-3, name=name)(x, train=train)

        def conv(x, block, name=None):
            name = name or f'conv2d_{next(convs)}'
            return Conv(self.widths[block - 1], (3, 3), padding=1, use_bias=True, name=name)(x)

        x, out = norm(x.astype(self.dtype)), {}
        for block in (1, 2, 3):
            x = nn.relu(norm(conv(x, block)))
            x = conv(x, block)
            # The picture's network was trained with these two the other way round.
            x = norm(nn.relu(x)) if block == 1 and not of_sound else nn.relu(norm(x))
            padding = 'VALID' if of_sound else 'SAME'
            out[f'block{block}'] = x = nn.max_pool(
                x, window_shape=(2, 2), strides=(2, 2), padding=padding
            )
        x = nn.relu(norm(conv(x, 4)))
        last = 'audio_embedding_layer' if of_sound else 'vision_embedding_layer'
        out['block4'] = x = conv(x, 4, last)
        out['embedding'] = embedding = self._pooled(x.astype(jnp.float32))
        if not self.num_classes:
            return embedding, out
        return Linear(self.num_classes, name='head')(embedding), out

    def _pooled(self, x: Float[Array, 'B H W K']) -> Float[Array, 'B D']:
        if self.embedding_size == x.shape[-1]:
            return largest(x.reshape(x.shape[0], -1, x.shape[-1]))
        x = nn.max_pool(x, window_shape=self.window, strides=self.window, padding='SAME')
        x, channels = x.reshape(x.shape[0], -1), x.shape[-1]
        if self.embedding_size != x.shape[-1]:
            raise ValueError(
                f'embedding_size is {self.embedding_size}, it must be {channels} or {x.shape[-1]}'
            )
        return x


def renamed(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames a state so that its norms and its convolutions are each counted from 1.

    Keras counts over all networks that a process makes, so a published file begins at any number.
    """
    matches = {name: match for name in state if (match := COUNTED.fullmatch(name))}
    numbers = {}
    for match in matches.values():
        numbers.setdefault(match[1], []).append(int(match[2] or 0))
    first = {kind: min(counted) for kind, counted in numbers.items()}
    return {
        f'{match[1]}_{int(match[2] or 0) - first[match[1]] + 1}{match[3]}'
        if (match := matches.get(name))
        else name: value
        for name, value in state.items()
    }


MODELS = {
    'openl3_audio': functools.partial(
        OpenL3, kind='audio', input_shape=(256, 199, 1), window=(8, 8)
    ),
    'openl3_image': functools.partial(
        OpenL3, kind='image', input_shape=(224, 224, 3), window=(7, 7)
    ),
}

# Conversion from Keras's names in the .h5 files. A file holds the weights alone, or a whole model
# with its weights in this group.
GROUP = r'(?:model_weights/)?'
COUNTED = re.compile(rf'({GROUP}(?:batch_normalization|conv2d))(?:_(\d+))?(/.*)')
NORM = rf'{GROUP}(batch_normalization_\d+)/(?:.*/)?'

RULES = (
    Rule(
        rf'{GROUP}(conv2d_\d+|(?:audio|vision)_embedding_layer)/(?:.*/)?(kernel|bias):0',
        r'params/\1/\2',
    ),
    Rule(rf'{NORM}gamma:0', r'params/\1/scale'),
    Rule(rf'{NORM}beta:0', r'params/\1/bias'),
    Rule(rf'{NORM}moving_mean:0', r'batch_stats/\1/mean'),
    Rule(rf'{NORM}moving_variance:0', r'batch_stats/\1/var'),
)

# Fourier kernels and mel filters, which files for openl3 before 0.4 hold.
IGNORE = (rf'{GROUP}(mel)?spectrogram_?\d*/.*',)


SOURCES = {
    'openl3_audio': sources.openl3('audio', '34dbd7a91cdd2de6a3d6d036ac0a24d27d78e3cc'),
    'openl3_image': sources.openl3('image', 'dbdf24a7e837267487adb3eed1586fcd2e37d775'),
}
