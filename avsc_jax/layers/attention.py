"""Attention along time: one vector of a clip's frames, and how much each frame counts in it."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from avsc_jax.layers.linear import Linear
from avsc_jax.types import Array, Bool, Float


class AttentionPooling(nn.Module):
    """Attention pooling: vectors along time to (their weighted mean, the weights).

    Frames that are not a clip's `own` have the weight 0; where none is, all of them count.

    Attributes:
      kind: how weights are computed. 'additive': softmax of u · tanh(W h + b). 'dot_product': the
        mean over time of scaled dot-product self-attention; that equals one weighted mean by the
        mean weights, so that the values are computed from it alone.
      width: of W, or of queries and keys.

    Source: Lin et al. 2017 (self-attentive sentence embedding), Eq. (5); Vaswani et al. 2017,
    Eq. (1). Wang et al. 2021 (IOA-CAS), Sec. 2.3.1, does not say which.
    """

    kind: Literal['additive', 'dot_product']
    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, 'B T D'], own: Bool[Array, 'B T'] | None = None
    ) -> tuple[Float[Array, 'B D'], Float[Array, 'B T']]:
        if self.kind == 'additive':
            hidden = jnp.tanh(Linear(self.width, name='hidden')(x))
            scores = Linear(1, use_bias=False, name='score')(hidden)[..., 0]
            weights = nn.softmax(_among(scores.astype(jnp.float32), own))
        else:
            queries, keys = (Linear(self.width, name=name)(x) for name in ('queries', 'keys'))
            scores = jnp.einsum('btd,bsd->bts', queries, keys).astype(jnp.float32)
            scores = _among(scores * self.width**-0.5, None if own is None else own[:, None])
            weights = nn.softmax(scores).mean(
                axis=1, where=None if own is None else _some(own)[..., None]
            )
        pooled = jnp.einsum('bt,btd->bd', weights.astype(x.dtype), x)
        if self.kind == 'dot_product':
            pooled = Linear(x.shape[-1], name='values')(pooled)
        return pooled, weights


def _among(scores: Float[Array, '...'], own: Bool[Array, '...'] | None) -> Float[Array, '...']:
    """Makes the scores of frames that are not a clip's own so low that a softmax gives 0."""
    return scores if own is None else jnp.where(_some(own), scores, -jnp.inf)


def _some(own: Bool[Array, '...']) -> Bool[Array, '...']:
    """Returns which frames count: a clip's own, or all where none is: weights are finite."""
    return own | ~own.any(axis=-1, keepdims=True)
