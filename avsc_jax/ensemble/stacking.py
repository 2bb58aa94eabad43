"""Stacking: a multinomial logistic regression on members' log-probabilities, beside their mix."""

import numpy as np
import scipy.optimize
import scipy.special

from avsc_jax import metrics
from avsc_jax.ensemble import rules
from avsc_jax.ensemble.fit import EPS
from avsc_jax.types import AnyArray, Array, Float, Int


def stack(
    probs: Float[AnyArray, 'N C'],
    members: Float[AnyArray, 'M N C'],
    kernel: Float[Array, 'M C C'],
    bias: Float[Array, 'C'],
) -> Float[AnyArray, 'N C']:
    """Softmax of ln p + Σ ln q kernel + bias, where p is a mix and q are its members.

    Args:
      probs: the mix, clipped to 1e-15 first, as the members are.
      members: probabilities of each member, whose mean log-probability is subtracted in each row.
      kernel: for each member and class of it, what is added to each class; zeros leave the mix.
      bias: what is added to each class.

    Example:
      >>> mix, members = np.array([[0.5, 0.5]]), np.array([[[0.8, 0.2]]])
      >>> stack(mix, members, np.eye(2)[None], np.zeros(2)).round(3).tolist()
      [[0.8, 0.2]]

    Source: Wolpert 1992, stacked generalization; the mix as the starting point is our choice.
    """
    xp = rules.namespace(probs)
    kernel, bias = xp.asarray(kernel, probs.dtype), xp.asarray(bias, probs.dtype)
    logs = xp.log(xp.maximum(members, EPS))
    logs = logs - logs.mean(axis=-1, keepdims=True)
    added = xp.einsum('mnc,mck->nk', logs, kernel) + bias[None]
    return rules.probabilities_of_logs(xp.log(xp.maximum(probs, EPS)) + added)


def fit_stacking(
    probs: Float[Array, 'N C'],
    members: Float[Array, 'M N C'],
    labels: Int[Array, 'N'],
    ridge: float = 1e-2,
) -> tuple[Float[np.ndarray, 'M C C'], Float[np.ndarray, 'C']]:
    """Finds the kernel and bias with which `stack` has the lowest log loss.

    Args:
      probs: the mix of the members.
      members: their probabilities.
      labels: the true classes.
      ridge: times the sum of squares of kernel and bias; it pulls towards the mix as it is, whose
        loss the fit never exceeds on these rows.

    Returns:
      Kernel and bias, for `stack`.

    Example:
      >>> mix, labels = np.full((4, 2), 0.5), np.array([0, 0, 1, 1])
      >>> sure = np.array([[[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]]])
      >>> stack(mix, sure, *fit_stacking(mix, sure, labels)).argmax(axis=1).tolist()
      [0, 0, 1, 1]
    """
    probs, labels = metrics.check(probs, labels)
    logs = np.log(np.maximum(np.asarray(members, np.float64), EPS))
    logs -= logs.mean(axis=-1, keepdims=True)
    count, rows, classes = logs.shape
    columns = np.hstack([*logs, np.ones((rows, 1))])  # the last one is for the bias
    offset, truth = np.log(np.maximum(probs, EPS)), np.eye(classes)[labels]

    def loss_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        weights = x.reshape(-1, classes)
        logits = offset + columns @ weights
        loss = (scipy.special.logsumexp(logits, axis=1) - (logits * truth).sum(axis=1)).mean()
        error = (scipy.special.softmax(logits, axis=1) - truth) / rows
        gradient = columns.T @ error + 2 * ridge * weights
        return loss + ridge * x @ x, gradient.ravel()

    fit = scipy.optimize.minimize(
        loss_and_gradient,
        np.zeros(columns.shape[1] * classes),
        jac=True,
        method='L-BFGS-B',
        options={'maxiter': 5000, 'maxfun': 10000, 'ftol': 1e-15, 'gtol': 1e-8},
    )
    weights = fit.x.reshape(-1, classes)
    return weights[:-1].reshape(count, classes, classes), weights[-1]
