"""CLIP Late Fusion Network, model C04: image features of three CLIP encoders -> scene."""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

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
      widths: outputs of the two layers of a branch, and of the layer that joins them.

    Source: Okazaki et al. 2021, Table 1.
    """

    DEPTH = ('(?!fusion/)[^/]+', 'fusion')
    num_classes: int = 10
    encoders: Mapping[str, int] = nn.FrozenDict(ENCODERS)
    widths: tuple[int, int, int] = (512, 256, 128)
    dropout: float = 0.2

    @property
    def input_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            f'features/{encoder}': jax.ShapeDtypeStruct((1, size), jnp.float32)
            for encoder, size in self.encoders.items()
        }

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        branches = []
        for encoder, size in self.encoders.items():
            features = _features(inputs, encoder, size)
            branch = Branch(self.widths[:2], self.dropout, name=encoder)
            branches.append(branch(features, train=train))
        embedding = Linear(self.widths[2], name='fusion')(jnp.concatenate(branches, axis=-1))
        out = {'embedding': embedding}
        if not self.num_classes:
            return embedding, out
        return Linear(self.num_classes, name='head')(embedding), out


def _features(inputs, encoder, size):
    name = f'features/{encoder}'
    if name not in inputs:
        raise ValueError(f'no input {name} among {", ".join(sorted(inputs))}')
    if inputs[name].shape[-1] != size:
        raise ValueError(f'{name} is {inputs[name].shape[-1]} wide, the network expects {size}')
    return inputs[name]


MODELS = {'clip_late_fusion': functools.partial(ClipLateFusion)}
