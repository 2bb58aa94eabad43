"""Multinomial logistic regression: C by cross-validation, and a temperature. Pure functions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from avsc_jax import ensemble, metrics
from avsc_jax.types import Array, Float, Int

TOLERANCE = 1e-7  # probabilities are within 1e-6 of the optimum
STEPS = 5000  # at most; a fit takes some hundred
Fold = tuple[np.ndarray, np.ndarray]  # rows that are fitted, and rows that are scored


class Fit(NamedTuple):
    """A fit on all rows, with what cross-validation says about it.

    Attributes:
      mean, deviation: of the features; a constant one has deviation 1.
      kernel, bias: of the logits, on standardised features.
      temperature: what divides the logits, fitted to those of the folds; 1 if all are right.
      c: the value of C with the lowest log loss over the folds.
      losses: each value of C -> that log loss.
      log_loss, accuracy: over the folds, with `c` and the temperature.
      num_folds: how many there were.
    """

    mean: np.ndarray
    deviation: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    temperature: float
    c: float
    losses: dict[float, float]
    log_loss: float
    accuracy: float
    num_folds: int


# On matrices this small threads only wait for each other: of 1,000 clips, 47 s of two busy cores
# became 2 s of one.
@threadpool_limits.wrap(limits=1)
def fit(
    x: Float[Array, 'N D'], labels: Int[Array, 'N'], folds: Sequence[Fold], grid: Sequence[float]
) -> Fit:
    """Fits logistic regression to standardised features, with the best C of a grid.

    Args:
      x: features.
      labels: classes in [0, C); each has a row among the fitted ones of every fold.
      folds: see `cut`.
      grid: values of C, the inverse of the penalty, as scikit-learn has it; of equally good ones
        the smallest is taken.
    """
    x = np.asarray(x, np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.where(np.ptp(x, axis=0) > 0, deviation, 1)
    rows, basis = _in_basis((x - mean) / deviation)
    logits = {c: np.zeros((len(labels), labels.max() + 1)) for c in sorted(grid)}
    steps = [(fold, c) for fold in folds for c in logits]
    for (fitted, scored), c in tqdm(steps, 'cross-validation', leave=False, unit='fit'):
        weights, bias = _fitted(c, rows[fitted], labels[fitted])
        logits[c][scored] = rows[scored] @ weights + bias
    losses = {c: _log_loss(each, labels) for c, each in logits.items()}
    c = min(losses, key=lambda c: losses[c])
    is_right, temperature = logits[c].argmax(axis=1) == labels, 1.0
    if not is_right.all():  # else the loss only falls with the temperature, to none
        temperature = ensemble.fit_temperature(scipy.special.softmax(logits[c], axis=1), labels)
    weights, bias = _fitted(c, rows, labels)
    return Fit(
        mean=mean,
        deviation=deviation,
        kernel=basis @ weights,
        bias=bias,
        temperature=temperature,
        c=c,
        losses=losses,
        log_loss=_log_loss(logits[c] / temperature, labels),
        accuracy=float(is_right.mean()),
        num_folds=len(folds),
    )


def cut(labels: Int[Array, 'N'], groups: Sequence[str], most: int) -> list[Fold]:
    """Cuts rows into folds that share no group, each of which has every class among the others.

    Args:
      labels: class of each row.
      groups: group of each row, such as its place or recording.
      most: number of folds; fewer where a class has fewer groups, or none if that is below two.

    Source: scikit-learn's StratifiedGroupKFold, a GroupKFold that also spreads each class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.asarray(groups)
    fewest = min(len({*groups[labels == label]}) for label in np.unique(labels))
    for count in range(min(most, fewest), 1, -1):
        folds = [*StratifiedGroupKFold(count).split(labels, labels, groups)]
        if all(len({*labels[fitted]}) == len({*labels}) for fitted, _ in folds):
            return folds
    return []


def _in_basis(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotates rows `[N, D]` into the space that they span, if it is smaller: `rows @ basis.T` is x.

    Penalised weights never leave that space, so that a fit there is the same, and quicker.
    """
    if len(x) >= x.shape[1]:
        return x, np.eye(x.shape[1])
    basis, rows = np.linalg.qr(x.T)
    return rows.T, basis


def _fitted(c: float, rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights `[D, C]` and biases `[C]` of a fit."""
    from sklearn.linear_model import LogisticRegression  # takes a second, of every command

    model = LogisticRegression(C=c, tol=TOLERANCE, max_iter=STEPS).fit(rows, labels)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # of two classes there is one logit
        return np.hstack([0 * weights, weights]), np.hstack([0 * bias, bias])
    return weights, bias


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    return metrics.log_loss(scipy.special.softmax(logits, axis=1), labels)
