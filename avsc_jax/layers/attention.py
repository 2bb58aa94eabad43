"""Attention along time: one vector of a clip's frames, and how much each frame counts in it."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from avsc_jax.layers.linear import Linear
from avsc_jax.types import Array, Float


class AttentionPooling(nn.Module):
    """Attention pooling: vectors along time to (their weighted mean, the weights).

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
    def __call__(self, x: Float[Array, 'B T D']) -> tuple[Float[Array, 'B D'], Float[Array, 'B T']]:
        if self.kind == 'additive':
            hidden = jnp.tanh(Linear(self.width, name='hidden')(x))
            scores = Linear(1, use_bias=False, name='score')(hidden)[..., 0]
            weights = nn.softmax(scores.astype(jnp.float32))
        else:
            queries, keys = (Linear(self.width, name=name)(x) for name in ('queries', 'keys'))
            scores = jnp.einsum('btd,bsd->bts', queries, keys).astype(jnp.float32)
            weights = nn.softmax(scores * self.width**-0.5).mean(axis=1)
        pooled = jnp.einsum('bt,btd->bd', weights.astype(x.dtype), x)
        if self.kind == 'dot_product':
            pooled = Linear(x.shape[-1], name='values')(pooled)
        return pooled, weights
