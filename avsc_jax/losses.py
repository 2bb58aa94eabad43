"""Training losses, one value per example, always in float32."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from avsc_jax.runtime import nearest, options
from avsc_jax.types import Array, Float, Int


def cross_entropy(logits: Float[Array, 'B C'], labels: Int[Array, 'B']) -> Float[Array, 'B']:
    """−ln p of the true class, p being the softmax of the logits.

    Args:
      logits: unnormalised scores.
      labels: class indices in [0, C).

    Example:
      >>> logits, labels = jnp.array([[0.0, 0.0], [jnp.log(3.0), 0.0]]), jnp.array([0, 0])
      >>> print(np.asarray(cross_entropy(logits, labels)).round(3))  # ln 2 and ln 4/3
      [0.693 0.288]
    """
    logits = jnp.asarray(logits, jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def focal_loss(
    logits: Float[Array, 'B C'], labels: Int[Array, 'B'], *, gamma: float
) -> Float[Array, 'B']:
    """Cross entropy scaled by (1 − p)^γ, p being the probability of the true class.

    Args:
      logits: unnormalised scores.
      labels: class indices in [0, C).
      gamma: 0 gives cross entropy; the scene papers use 2.

    Example:
      >>> logits, labels = jnp.array([[0.0, 0.0], [jnp.log(3.0), 0.0]]), jnp.array([0, 0])
      >>> loss = focal_loss(logits, labels, gamma=2.0)
      >>> print(np.asarray(loss).round(3))  # (1/2)^2 ln 2 and (1/4)^2 ln 4/3
      [0.173 0.018]

    Source: Lin et al. 2017, Eq. (4), softmax form; Okazaki 2021, Sec. 3 (γ = 2).
    """
    loss = cross_entropy(logits, labels)
    # At p = 1 the slope of (1 − p)^γ is infinite for γ < 1 and would turn the gradient, whose limit
    # is 0, into NaN: such examples pass 1 through the power and become 0 afterwards.
    certain = loss == 0
    inside = jnp.where(certain, 1.0, loss)
    return jnp.where(certain, 0.0, (-jnp.expm1(-inside)) ** gamma * inside)


LOSSES = {'cross_entropy': cross_entropy, 'focal_loss': focal_loss}


def make_loss(settings: ConfigDict) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The loss that the config names, with its settings.

    >>> loss = make_loss(ConfigDict(dict(name='focal_loss', gamma=2.0)))
    >>> round(float(loss(np.zeros((1, 2)), np.array([0]))[0]), 3)  # ln 2 / 4
    0.173
    """
    settings = settings.to_dict()
    name = settings.pop('name', None)
    nearest.check('loss.name', name, LOSSES)
    options.check(name, LOSSES[name], settings)
    return partial(LOSSES[name], **settings)
