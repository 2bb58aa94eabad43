"""The official DCASE 2021 1B baseline: small networks of OpenL3's embeddings of sound and picture.

`EmbeddingNetwork` is also the base of Feng's networks (feng.py).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.models.clip_late_fusion import Branch
from avsc_jax.models.rules import batch_norm, linear
from avsc_jax.types import Array, Float

WIDTH = 512  # of OpenL3's small embeddings
AUDIO = nn.FrozenDict(audio_embedding=WIDTH)
VIDEO = nn.FrozenDict(image_embedding=WIDTH)


class EmbeddingNetwork(nn.Module, kw_only=True):
    """The base of networks that take embeddings; a subclass adds its layers.

    Attributes:
      embeddings: name of each input -> its width, in the order of concatenation.
      hidden: outputs of the first layer that each input (or all together) passes.
      dtype: of the arithmetic; parameters, statistics, embedding and logits are float32.
    """

    num_classes: int = 10
    embeddings: Mapping[str, int] = nn.FrozenDict({**AUDIO, **VIDEO})
    hidden: int = 512
    dropout: float = 0.2
    dtype: Any = jnp.float32

    @property
    def input_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            name: jax.ShapeDtypeStruct((1, width), jnp.float32)
            for name, width in self.embeddings.items()
        }

    def checked(self, inputs: Mapping[str, Array]) -> list[Float[Array, 'B D']]:
        """Returns the embeddings in the network's type; raises where shapes do not fit."""
        for name, width in self.embeddings.items():
            if name not in inputs:
                raise ValueError(f'no input {name} among {", ".join(sorted(inputs))}')
            shape = inputs[name].shape
            if len(shape) != 2 or shape[1] != width:
                raise ValueError(f'{name} is {list(shape)}, the network expects [B, {width}]')
        return [inputs[name].astype(self.dtype) for name in self.embeddings]


class Subnetwork(EmbeddingNetwork, kw_only=True):
    """Four linear layers on a frame's embedding, or on two joined: B01, B02 and early fusion.

    Attributes:
      widths: outputs of the second and third layer.

    Source: Wang et al. 2021 (A curated dataset of urban scenes), Sec. 4, as the published
    checkpoints are.
    """

    DEPTH = ('stem|bn2', 'fc3|bn3')
    widths: tuple[int, int] = (128, 64)

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        x, stem_width = jnp.concatenate(self.checked(inputs), axis=-1), self.widths[0]
        stem = x = Branch((self.hidden, stem_width), self.dropout, name='stem')(x, train=train)
        x = Dropout(self.dropout)(nn.relu(BatchNorm(name='bn2')(x, train=train)), train=train)
        x = nn.relu(BatchNorm(name='bn3')(Linear(self.widths[1], name='fc3')(x), train=train))
        out = {'stem': stem, 'embedding': x.astype(jnp.float32)}
        if not self.num_classes:
            return out['embedding'], out
        x = Dropout(self.dropout)(out['embedding'], train=train)
        return Linear(self.num_classes, name='head')(x), out


class LateFusion(EmbeddingNetwork, kw_only=True):
    """B03: two linear layers, with nothing between them, on the stems of trained B01 and B02.

    The stems are frozen, so they are no parameters: they are among `batch_stats`, where
    `with_stems` puts them. They normalise by their running statistics in training too.

    Attributes:
      stem_width: outputs of each stem, and of the layer that joins them.

    Source: that of `Subnetwork`.
    """

    DEPTH = ('fusion',)
    stem_width: int = 128

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        stem = Branch((self.hidden, self.stem_width), self.dropout, parent=None)
        stems = []
        for name, x in zip(self.embeddings, self.checked(inputs), strict=True):

            def drawn(x=x):
                return stem.init(self.make_rng('params'), x, train=False)

            frozen = self.variable('batch_stats', name, drawn)
            stems.append(stem.apply(frozen.value, x, train=False))
        x = Linear(self.stem_width, name='fusion')(jnp.concatenate(stems, axis=-1))
        out = {'embedding': x.astype(jnp.float32)}
        if not self.num_classes:
            return out['embedding'], out
        return Linear(self.num_classes, name='head')(out['embedding']), out


def with_stems(variables: Mapping, trained: Mapping[str, Mapping]) -> dict:
    """Replaces the stems in B03's variables by those of trained subnetworks.

    Args:
      trained: name of the input -> variables of the subnetwork that takes it alone.
    """
    expected = variables['batch_stats']
    if set(trained) != set(expected):
        raise ValueError(
            f'stems of {", ".join(sorted(trained)) or "none"} were given; the network takes those '
            f'of {", ".join(sorted(expected))}'
        )
    stems = {
        name: {kind: leaves['stem'] for kind, leaves in network.items()}
        for name, network in trained.items()
    }
    shapes = [jax.tree.map(lambda x: x.shape, tree) for tree in (stems, dict(expected))]
    if shapes[0] != shapes[1]:
        raise ValueError(f'the stems have the shapes {shapes[0]}, the network expects {shapes[1]}')
    return {**variables, 'batch_stats': stems}


def joined(
    audio: Mapping[str, np.ndarray],
    video: Mapping[str, np.ndarray],
    combined: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Joins three files' states to one for `convert('openl3_baseline_audio_video', ...)`."""
    files = {'audio_embedding': audio, 'image_embedding': video, 'joined': combined}
    return {
        f'{file}.{name}': value for file, state in files.items() for name, value in state.items()
    }


def _frozen(rule):
    """Returns the rule of a leaf of B03's stems, which are named after its inputs."""
    path = rule.paths.replace('stem/', '')
    return dataclasses.replace(
        rule, pattern=rf'(\w+_embedding)\.{rule.pattern}', paths=rf'batch_stats/\1/{path}'
    )


MODELS = {
    'openl3_baseline_audio': functools.partial(Subnetwork, embeddings=AUDIO),
    'openl3_baseline_video': functools.partial(Subnetwork, embeddings=VIDEO),
    'openl3_baseline_early': functools.partial(Subnetwork),
    'openl3_baseline_audio_video': functools.partial(LateFusion),
}

# Conversion from the names in the published checkpoints. They are
# `train/{audio,video,audio_video}_model/model.pt` of
# github.com/shanwangshan/TAU-urban-audio-visual-scenes; B03's own two layers are
# `train_combine/audio_video_model/model.pt`, and need the stems of the first two: see `joined`.
STEM = (
    *linear(r'model\.0', 'stem/fc1'),
    *batch_norm(r'model\.1', 'stem/bn1'),
    *linear(r'model\.4', 'stem/fc2'),
)

RULES = (
    *STEM,
    *batch_norm(r'model\.5', 'bn2'),
    *linear(r'model\.8', 'fc3'),
    *batch_norm(r'model\.9', 'bn3'),
    *linear(r'model\.12', 'head'),
    *map(_frozen, STEM),
    *linear(r'joined\.model\.0', 'fusion'),
    *linear(r'joined\.model\.1', 'head'),
)

# The layers of a subnetwork above the stem that B03 takes.
IGNORE = (r'.*\.num_batches_tracked', r'\w+_embedding\.model\.(5|8|9|12)\..*')
