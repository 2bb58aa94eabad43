"""Late fusion of frozen encoders: CLIP Late Fusion Network (C04), and the same of any encoders."""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.attention import AttentionPooling
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.types import Array, Float

ENCODERS = {'clip_rn50x4': 640, 'clip_rn101': 512, 'clip_vit_b32': 512}


class Branch(nn.Module):
    """Two layers on one encoder's features, before these are joined with the others'."""

    widths: tuple[int, int]
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, 'B D'], *, train: bool) -> Float[Array, 'B D2']:
        x = Linear(self.widths[0], name='fc1')(x)
        x = nn.relu(BatchNorm(name='bn1')(x, train=train))
        x = Dropout(self.dropout)(x, train=train)
        return Linear(self.widths[1], name='fc2')(x)


class ClipLateFusion(nn.Module):
    """One branch per encoder, concatenated, then two linear layers with nothing between them.

    Attributes:
      encoders: name of each encoder -> width of its features, in the order of concatenation.
      frames: name of each encoder -> the number of a clip's frames, which attention joins before
        the branch; a frame of zeros only is none. Empty: the inputs are of single frames, or means.
      widths: outputs of the two layers of a branch, and of the layer that joins them.
      attention: width of the attention's hidden layer; see `AttentionPooling`.

    Source: Okazaki et al. 2021, Table 1.
    """

    DEPTH = ('(?!fusion/)[^/]+', 'fusion')
    num_classes: int = 10
    encoders: Mapping[str, int] = nn.FrozenDict(ENCODERS)
    frames: Mapping[str, int] = nn.FrozenDict()
    widths: tuple[int, int, int] = (512, 256, 128)
    dropout: float = 0.2
    attention: int = 128

    @property
    def input_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            f'features/{encoder}': jax.ShapeDtypeStruct(
                (1, *((self.frames[encoder],) if self.frames else ()), size), jnp.float32
            )
            for encoder, size in self.encoders.items()
        }

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        branches, weights = [], {}
        for encoder, size in self.encoders.items():
            features = self._features(inputs, encoder, size)
            if self.frames:
                attention = AttentionPooling('additive', self.attention, name=f'{encoder}_frames')
                features, weights[encoder] = attention(features, (features != 0).any(axis=-1))
            branch = Branch(self.widths[:2], self.dropout, name=encoder)
            branches.append(branch(features, train=train))
        embedding = Linear(self.widths[2], name='fusion')(jnp.concatenate(branches, axis=-1))
        out = {'embedding': embedding, **{f'attention/{k}': x for k, x in weights.items()}}
        if not self.num_classes:
            return embedding, out
        return Linear(self.num_classes, name='head')(embedding), out

    def _features(self, inputs: Mapping[str, Array], encoder: str, size: int) -> Array:
        """Returns an encoder's features; raises ValueError where they are missing or do not fit."""
        name = f'features/{encoder}'
        if name not in inputs:
            raise ValueError(f'no input {name} among {", ".join(sorted(inputs))}')
        x = inputs[name]
        if x.shape[-1] != size:
            raise ValueError(f'{name} is {x.shape[-1]} wide, the network expects {size}')
        if x.ndim != (3 if self.frames else 2):
            wanted = '[B, T, D], frames of clips' if self.frames else '[B, D]'
            raise ValueError(f'{name} is {list(x.shape)}, the network expects {wanted}')
        return x


# `late_fusion` has no encoders of its own: training sets what a config names
MODELS = {
    'clip_late_fusion': functools.partial(ClipLateFusion),
    'late_fusion': functools.partial(ClipLateFusion),
}
