"""Training losses, one value per example, always in float32."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
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


def sigmoid_cross_entropy(
    logits: Float[Array, 'B C'], labels: Float[Array, 'B C']
) -> Float[Array, 'B']:
    """Binary cross entropy of independent classes, the mean over them.

    Args:
      logits: unnormalised scores.
      labels: 1 where a class is true and 0 where it is not; or values between, as mixed rows have.

    Example:
      >>> logits, labels = jnp.array([[0.0, 0.0], [jnp.log(3.0), 0.0]]), jnp.array([[1.0, 0.0]] * 2)
      >>> print(np.asarray(sigmoid_cross_entropy(logits, labels)).round(3))  # ln 2; ln 4/3 and ln 2
      [0.693 0.49 ]
    """
    logits = jnp.asarray(logits, jnp.float32)
    return optax.sigmoid_binary_cross_entropy(logits, jnp.asarray(labels, jnp.float32)).mean(-1)


def targets(
    labels: Int[Array, 'B'] | Float[Array, 'B C'], num_classes: int, *, smoothing: float = 0.0
) -> Float[Array, 'B C']:
    """Makes the share of each class in the loss of a row: one-hot, or labels of several classes.

    Args:
      labels: class indices, or 1 for each of several classes that are true, 0 for the others.
      smoothing: share that is spread evenly over all classes, as PyTorch's label_smoothing; of
        several classes, each value moves by it towards 1/2.

    Example:
      >>> print(np.asarray(targets(jnp.array([1]), 4, smoothing=0.2)))
      [[0.05 0.85 0.05 0.05]]
      >>> print(np.asarray(targets(jnp.array([[1.0, 0.0]]), 2, smoothing=0.5)))
      [[0.75 0.25]]
    """
    is_independent = labels.ndim > 1
    made = labels if is_independent else jax.nn.one_hot(labels, num_classes)
    even = 0.5 if is_independent else 1 / num_classes
    return (1 - smoothing) * made + smoothing * even if smoothing else jnp.asarray(made)


def of_targets(
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    logits: Float[Array, 'B C'],
    targets: Float[Array, 'B C'],
    *,
    weights: Float[Array, 'C'] | None = None,
    is_independent: bool = False,
) -> Float[Array, 'B']:
    """Σ_c weight_c · target_c · loss(logits, class c): losses of mixed or smoothed rows.

    Args:
      loss: one of LOSSES, its settings filled in.
      targets: share of each class; see `targets`.
      weights: of the classes; None: 1.
      is_independent: the loss takes the targets themselves, and is a mean over classes; each
        class's own loss is then weighted in that mean.

    Example:
      >>> logits, shares = jnp.zeros((1, 2)), jnp.array([[0.75, 0.25]])
      >>> weighted = of_targets(cross_entropy, logits, shares, weights=jnp.array([1.0, 2.0]))
      >>> print(np.asarray(weighted).round(3))  # (0.75 + 2 · 0.25) ln 2
      [0.866]
    """
    if is_independent:
        if weights is None:
            return loss(logits, targets)
        of_class = jax.vmap(lambda x, t: loss(x[:, None], t[:, None]), 1, 1)
        return (jnp.asarray(weights)[None] * of_class(logits, targets)).mean(axis=1)
    classes = jnp.broadcast_to(jnp.arange(logits.shape[1])[:, None], logits.shape[::-1])
    each = jax.vmap(loss, (None, 0), 1)(logits, classes)
    shares = targets if weights is None else jnp.asarray(weights)[None] * targets
    return (shares * each).sum(axis=1)


def balanced(labels: Int[np.ndarray, 'N'] | Float[np.ndarray, 'N C'], num_classes: int):
    """Returns class weights that are inverse to the classes' numbers of rows: N / (C · count).

    Args:
      labels: class indices, or 1 for each of several classes that are true.

    Raises:
      ValueError: a class has no rows.

    Example:
      >>> print(balanced(np.array([0, 0, 0, 1]), 2).round(3))
      [0.667 2.   ]
    """
    one_hot = labels if labels.ndim > 1 else np.eye(num_classes)[labels]
    counts = one_hot.sum(axis=0)
    if not counts.all():
        raise ValueError(
            f'{int((counts == 0).sum())} of {num_classes} classes have no row to train on, and '
            "class_weights='balanced' divides by their number; give a list of weights, or clips"
        )
    return (len(labels) / (num_classes * counts)).astype(np.float32)


LOSSES = {
    'cross_entropy': cross_entropy,
    'focal_loss': focal_loss,
    'sigmoid_cross_entropy': sigmoid_cross_entropy,
}
# Name of a loss of independent classes, whose labels are [B, C]; the others take classes [B].
INDEPENDENT = ('sigmoid_cross_entropy',)


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
