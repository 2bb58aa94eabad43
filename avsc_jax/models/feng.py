"""Feng's fusions of a clip's mean embeddings of sound and picture, and each of the two alone."""

import functools
from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.models.clip_late_fusion import Branch
from avsc_jax.models.openl3_baseline import AUDIO, VIDEO, EmbeddingNetwork
from avsc_jax.types import Array, Float

WEIGHT_BOUND = 0.1  # of the initial weights of the second answer


class FengNetwork(EmbeddingNetwork, kw_only=True):
    """The base of networks on embeddings of clips, averaged over time if they have a time axis."""

    def clips(self, inputs: Mapping[str, Array]) -> dict[str, Float[Array, 'B D']]:
        """Returns each input by name, without a time axis."""
        means = {
            name: x.mean(axis=1) if x.ndim == 3 else x
            for name, x in inputs.items()
            if name in self.embeddings
        }
        return dict(zip(self.embeddings, self.checked(means), strict=True))

    def classified(
        self, x: list[Float[Array, 'B D']], head: nn.Module
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        """Returns (logits, out), or without classes (embedding, out)."""
        embedding = jnp.concatenate(x, axis=-1).astype(jnp.float32)
        logits = head(embedding) if self.num_classes else embedding
        return logits, {'embedding': embedding}


class FeatureFusion(FengNetwork, kw_only=True):
    """Fusion of features: inputs are joined before a common branch (`early`) or after their own.

    Attributes:
      widths: outputs of all branches together, and of the layer before the head.

    Source: Feng, Figure 2; with one input, Sec. 3.2.
    """

    DEPTH = ('(?!fusion/)[^/]+', 'fusion')
    early: bool = False
    widths: tuple[int, int] = (256, 128)

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        clips = self.clips(inputs)
        if self.early:
            clips = {'joined': jnp.concatenate(list(clips.values()), axis=-1)}
        widths = (self.hidden, self.widths[0] // len(clips))
        branches = [
            Branch(widths, self.dropout, name=name)(x, train=train) for name, x in clips.items()
        ]
        x = Linear(self.widths[1], name='fusion')(jnp.concatenate(branches, axis=-1))
        return self.classified([x], Linear(self.num_classes, name='head'))


class LateFusion(FengNetwork, kw_only=True):
    """Late fusion: inputs are classified apart, then their answers are classified or averaged.

    Attributes:
      widths: outputs of each branch, and of the layer behind it.

    Source: Feng, Sec. 3.1, joins the answers; his code takes their mean.
    """

    DEPTH = (r'\w+(?<!_fc3)', r'\w+_fc3')
    rule: Literal['concat', 'mean'] = 'concat'
    widths: tuple[int, int] = (128, 128)

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        ends = []
        for name, x in self.clips(inputs).items():
            branch = Branch((self.hidden, self.widths[0]), self.dropout, name=name)
            ends.append(Linear(self.widths[1], name=f'{name}_fc3')(branch(x, train=train)))
        head = LateHead(self.num_classes, tuple(self.embeddings), self.rule, name='head')
        return self.classified(ends, head)


class LateHead(nn.Module):
    """Classifies the equal parts of an embedding apart and joins their answers by `rule`."""

    num_classes: int
    parts: tuple[str, ...]
    rule: Literal['concat', 'mean']

    @nn.compact
    def __call__(self, embedding: Float[Array, 'B D']) -> Float[Array, 'B C']:
        answers = _answers(embedding, self.parts, self.num_classes)
        if self.rule == 'mean':
            return sum(answers) / len(answers)
        return Linear(self.num_classes, name='joined')(jnp.concatenate(answers, axis=-1))


class WeightedFusion(FengNetwork, kw_only=True):
    """The sound's answer plus `out['weight']` times the picture's; the weight is learned.

    Attributes:
      scalar: one weight for all classes.
      of_probabilities: the answers are weighted as probabilities; the loss still takes their sum
        as logits.

    Source: Feng, Sec. 3.3.
    """

    DEPTH = (r'\w+_(?:fc1|bn1)',)
    scalar: bool = False
    of_probabilities: bool = False

    def learned(self, params: Mapping) -> dict[str, Float[Array, 'C']]:
        """Returns the learned weight, for each class or for all, under its title in a report."""
        _, second = self.embeddings
        return {f"weight of {second}'s answer": params['head']['weight']}

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        hidden = []
        for name, x in self.clips(inputs).items():
            x = BatchNorm(name=f'{name}_bn1')(
                Linear(self.hidden, name=f'{name}_fc1')(x), train=train
            )
            hidden.append(Dropout(self.dropout)(nn.relu(x), train=train))
        size = 1 if self.scalar else self.num_classes
        parts = tuple(self.embeddings)
        head = WeightedHead(self.num_classes, parts, size, self.of_probabilities, name='head')
        logits, out = self.classified(hidden, head)
        if self.num_classes:
            out['weight'] = head.get_variable('params', 'weight')
        return logits, out


class WeightedHead(nn.Module):
    """Classifies the halves of an embedding apart and adds the second answer by a weight."""

    num_classes: int
    parts: tuple[str, str]
    weights: int
    of_probabilities: bool

    @nn.compact
    def __call__(self, embedding: Float[Array, 'B D']) -> Float[Array, 'B C']:
        def uniform(key, shape):
            return jax.random.uniform(key, shape, minval=-WEIGHT_BOUND, maxval=WEIGHT_BOUND)

        first, second = _answers(embedding, self.parts, self.num_classes)
        weight = self.param('weight', uniform, (self.weights,))
        if self.of_probabilities:
            first, second = nn.softmax(first), nn.softmax(second)
        return first + weight[None] * second


def _answers(embedding, parts, num_classes):
    halves = zip(parts, jnp.split(embedding, len(parts), axis=-1), strict=True)
    return [Linear(num_classes, name=part)(half) for part, half in halves]


MODELS = {
    'feng_early': functools.partial(FeatureFusion, early=True),
    'feng_intermediate': functools.partial(FeatureFusion),
    'feng_late_concat': functools.partial(LateFusion),
    'feng_late_mean': functools.partial(LateFusion, rule='mean'),
    'feng_weighted': functools.partial(WeightedFusion),
    'feng_audio': functools.partial(FeatureFusion, embeddings=AUDIO),
    'feng_video': functools.partial(FeatureFusion, embeddings=VIDEO),
}
