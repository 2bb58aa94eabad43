"""Logistic regression: C by cross-validation, and a temperature. Pure functions.

It is multinomial where a row has one class, and one regression a class where each is true of a row
or not by itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from avsc_jax import ensemble, label_metrics, metrics
from avsc_jax.data.sources import stratify
from avsc_jax.types import Array, Float

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
      log_loss, accuracy: over the folds, with `c` and the temperature. Of independent classes the
        accuracy is the share of all pairs of row and class, and the temperature is 1.
      num_folds: how many there were.
      logits: of each row `[N, C]`, by the fold that did not have it, with `c`.
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
    logits: np.ndarray


# On matrices this small threads only wait for each other: of 1,000 clips, 47 s of two busy cores
# became 2 s of one.
@threadpool_limits.wrap(limits=1)
def fit(x: Float[Array, 'N D'], labels: Array, folds: Sequence[Fold], grid: Sequence[float]) -> Fit:
    """Fits logistic regression to standardised features, with the best C of a grid.

    Args:
      x: features.
      labels: classes in [0, C) `[N]`, each of which has a row among the fitted ones of every fold;
        or, of independent classes, which are true of each row `[N, C]`.
      folds: see `cut`.
      grid: values of C, the inverse of the penalty, as scikit-learn has it; of equally good ones
        the smallest is taken.
    """
    x = np.asarray(x, np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation = np.where(np.ptp(x, axis=0) > 0, deviation, 1)
    rows, basis = _in_basis((x - mean) / deviation)
    count = labels.max() + 1 if labels.ndim == 1 else labels.shape[1]
    logits = {c: np.zeros((len(labels), count)) for c in sorted(grid)}
    steps = [(fold, c) for fold in folds for c in logits]
    for (fitted, scored), c in tqdm(steps, 'cross-validation', leave=False, unit='fit'):
        weights, bias = _fitted(c, rows[fitted], labels[fitted])
        logits[c][scored] = rows[scored] @ weights + bias
    losses = {c: _log_loss(each, labels) for c, each in logits.items()}
    c = min(losses, key=lambda c: losses[c])
    is_right, temperature = _is_right(logits[c], labels), 1.0
    if (
        labels.ndim == 1 and not is_right.all()
    ):  # else the loss only falls with the temperature, to none
        temperature = ensemble.fit_temperature(ensemble.probabilities(logits[c]), labels)
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
        logits=logits[c],
    )


def cut(labels: Array, groups: Sequence[str], most: int) -> list[Fold]:
    """Cuts rows into folds that share no group, each of which has every class among the others.

    Args:
      labels: class of each row `[N]`; or those that are true of it `[N, C]`, of which any may be
        missing in a fold.
      groups: group of each row, such as its place or recording.
      most: number of folds; fewer where a class has fewer groups, or none if that is below two.

    Source: scikit-learn's StratifiedGroupKFold, a GroupKFold that also spreads each class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.asarray(groups)
    if labels.ndim == 2:
        return _cut_labels(labels, groups, min(most, len({*groups.tolist()})))
    fewest = min(len({*groups[labels == label]}) for label in np.unique(labels))
    for count in range(min(most, fewest), 1, -1):
        folds = [*StratifiedGroupKFold(count).split(labels, labels, groups)]
        if all(len({*labels[fitted]}) == len({*labels}) for fitted, _ in folds):
            return folds
    return []


def _cut_labels(labels: np.ndarray, groups: np.ndarray, count: int) -> list[Fold]:
    """Cuts rows of several labels into folds that share no group; see `stratify.cut`."""
    if count < 2:
        return []
    names = [[str(k) for k in np.flatnonzero(row)] for row in labels]
    of = np.array(stratify.cut(groups.tolist(), names, dict.fromkeys(range(count), 1.0)))
    folds = [(np.flatnonzero(of != k), np.flatnonzero(of == k)) for k in range(count)]
    return [fold for fold in folds if fold[1].size]


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

    if labels.ndim == 2:
        each = [_of_label(c, rows, labels[:, k] > 0) for k in range(labels.shape[1])]
        return np.concatenate([w for w, _ in each], axis=1), np.concatenate([b for _, b in each])
    model = LogisticRegression(C=c, tol=TOLERANCE, max_iter=STEPS).fit(rows, labels)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # of two classes there is one logit
        return np.hstack([0 * weights, weights]), np.hstack([0 * bias, bias])
    return weights, bias


def _of_label(c: float, rows: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits one label: weights `[D, 1]` and bias `[1]`.

    One that is true of no or every row says so, with half a row for doubt.
    """
    if true.all() or not true.any():
        share = (true.sum() + 0.5) / (len(true) + 1)
        return np.zeros((rows.shape[1], 1)), np.array([scipy.special.logit(share)])
    weights, bias = _fitted(c, rows, true.astype(int))
    return weights[:, 1:], bias[1:]  # that of false rows is 0


def _is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return logits.argmax(axis=1) == labels if labels.ndim == 1 else (logits > 0) == (labels > 0)


def _log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    if labels.ndim == 2:
        probs = ensemble.probabilities(logits, 'independent')
        return float(label_metrics.log_loss(probs, labels).mean())
    return metrics.log_loss(ensemble.probabilities(logits), labels)
