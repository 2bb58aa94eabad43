"""Scores of independent classes, each true of a row or not by itself: numpy, float64.

The first arguments are always `(probs [N, C], labels [N, C])`, labels being bool, or 0 and 1. A
class that is true of no row has NaN as average precision, ROC AUC, recall and F1, and counts in no
mean over classes; `counts` says how many there are. Every function raises ValueError for
probabilities outside [0, 1], NaN, and labels of another shape.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from avsc_jax import metrics
from avsc_jax.types import Array, Bool, Float

__all__ = [
    'at_thresholds',
    'average_precision',
    'best_thresholds',
    'brier',
    'counts',
    'intervals',
    'log_loss',
    'macro',
    'micro_average_precision',
    'precision_recall',
    'roc_auc',
]

EPS = 1e-15  # keeps logarithms finite
DEFAULT = 0.5  # threshold of a class that has none of its own
_VALUES_AT_ONCE = 1 << 22  # of cumulated weights: 32 MB


def check(probs: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities as float64 and labels as bool, both [N, C].

    Raises:
      ValueError: there is no row, or the two cannot be scored together.
    """
    probs, labels = metrics.check_probs(probs), np.asarray(labels)
    if not len(probs):
        raise ValueError('there are no rows to score; give at least one')
    if labels.shape != probs.shape or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f'labels have shape {labels.shape} and type {labels.dtype} beside probabilities '
            f'{probs.shape}; give as many, each 0 or 1, or False or True'
        )
    return probs, labels.astype(bool)


def counts(labels: Bool[Array, 'N C']) -> np.ndarray:
    """Counts the rows of which each class is true, int64 `[C]`.

    Example:
      >>> counts(np.array([[1, 0], [1, 0], [0, 0]])).tolist()
      [2, 0]
    """
    return np.asarray(labels, bool).sum(axis=0)


def macro(values: Float[Array, 'C']) -> float:
    """Averages over the classes that have a value; NaN if none has.

    Example:
      >>> macro(np.array([0.5, np.nan, 1.0]))
      0.75
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float('nan')


def average_precision(
    probs: Float[Array, 'N C'], labels: Bool[Array, 'N C']
) -> Float[np.ndarray, 'C']:
    """Average precision of each class: the mean precision at the ranks where recall rises.

    Rows of equal probability are one rank, and precision is not interpolated, as in scikit-learn.

    Example:
      >>> probs = np.array([[0.9, 0.2], [0.8, 0.1], [0.3, 0.4]])
      >>> average_precision(probs, np.array([[1, 0], [0, 0], [1, 0]])).round(3).tolist()
      [0.833, nan]
    """
    probs, labels = check(probs, labels)
    once = np.ones((1, len(probs)))
    return np.array([ranking.precisions(once)[0] for ranking in _rankings(probs, labels)])


def micro_average_precision(probs: Float[Array, 'N C'], labels: Bool[Array, 'N C']) -> float:
    """Average precision of all pairs of row and class together; NaN if none is true.

    Example:
      >>> probs = np.array([[0.9, 0.2], [0.8, 0.1], [0.3, 0.4]])
      >>> round(micro_average_precision(probs, np.array([[1, 0], [0, 0], [1, 0]])), 3)
      0.75
    """
    probs, labels = check(probs, labels)
    return float(_Ranking.of(probs, labels).precisions(np.ones((1, len(probs))))[0])


def _rankings(probs: np.ndarray, labels: np.ndarray) -> list['_Ranking']:
    """Ranks the rows by each class."""
    each = range(probs.shape[1])
    return [_Ranking.of(probs[:, k : k + 1], labels[:, k : k + 1]) for k in each]


class _Ranking(NamedTuple):
    """Pairs of row and class by falling probability, of one class or of all; sorted once.

    Attributes:
      rows: the row of each `[K]`.
      true: the rows of those whose class is true, `[P]`.
      starts: the first of `true` in each run of equal probabilities that has one `[R]`.
      ends: the places in `rows` of the last of each of these runs `[R]`.
    """

    rows: np.ndarray
    true: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, probs: np.ndarray, labels: np.ndarray) -> '_Ranking':
        """Ranks `probs [N, C]`."""
        values = probs.ravel()
        order = np.argsort(-values, kind='stable')
        rows, places = order // probs.shape[1], np.flatnonzero(labels.ravel()[order])
        ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
        runs, starts = np.unique(np.searchsorted(ends, places), return_index=True)
        return cls(rows, rows[places], starts, ends[runs])

    def precisions(self, weights: np.ndarray) -> np.ndarray:
        """Average precision for each line of weights of the rows `[S, N]`; NaN if none is true."""
        if not self.true.size:
            return np.full(len(weights), np.nan)
        every = np.cumsum(weights[:, self.rows], axis=1)[:, self.ends]
        gained = np.add.reduceat(weights[:, self.true], self.starts, axis=1)
        right = np.cumsum(gained, axis=1)
        with np.errstate(invalid='ignore', divide='ignore'):
            return (gained * np.where(every > 0, right / every, 0)).sum(axis=1) / right[:, -1]


def roc_auc(probs: Float[Array, 'N C'], labels: Bool[Array, 'N C']) -> Float[np.ndarray, 'C']:
    """Area under the ROC curve of each class; NaN for one that is true of no or every row.

    Example:
      >>> roc_auc(np.array([[0.9, 0.2], [0.8, 0.1], [0.3, 0.4]]), np.eye(3, 2)).tolist()
      [1.0, 0.0]
    """
    from scipy.stats import rankdata

    probs, labels = check(probs, labels)
    positive = labels.sum(axis=0)
    pairs = positive * (len(labels) - positive)
    above = (rankdata(probs, axis=0) * labels).sum(axis=0) - positive * (positive + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def log_loss(probs: Float[Array, 'N C'], labels: Bool[Array, 'N C']) -> Float[np.ndarray, 'C']:
    """Mean of −ln p of what is true of each class: p where it is true, 1 − p where it is not.

    Example:
      >>> log_loss(np.array([[0.5, 0.8], [0.5, 0.4]]), np.array([[1, 1], [0, 0]])).round(3).tolist()
      [0.693, 0.367]
    """
    return _log_losses(*check(probs, labels)).mean(axis=0)


def _log_losses(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -np.log(np.clip(np.where(labels, probs, 1 - probs), EPS, 1))


def brier(probs: Float[Array, 'N C'], labels: Bool[Array, 'N C']) -> Float[np.ndarray, 'C']:
    """Mean squared distance of each class's probability from 0 or 1.

    Example:
      >>> brier(np.array([[0.5, 0.8], [0.5, 0.4]]), np.array([[1, 1], [0, 0]])).round(3).tolist()
      [0.25, 0.1]
    """
    probs, labels = check(probs, labels)
    return np.square(probs - labels).mean(axis=0)


def at_thresholds(
    probs: Float[Array, 'N C'], labels: Bool[Array, 'N C'], thresholds: Float[Array, 'C']
) -> dict[str, np.ndarray | dict[str, float]]:
    """Precision, recall and F1 of each class that is called true from its threshold on.

    Returns:
      Arrays `[C]` under `precision`, `recall`, `f1`, `true` (rows of which it is true) and
      `called` (rows called so), and dictionaries `macro` and `micro` of the three. A class that is
      never called has precision 0.

    Example:
      >>> probs = np.array([[0.9, 0.2], [0.8, 0.7], [0.3, 0.4]])
      >>> labels = np.array([[1, 0], [0, 1], [1, 1]])
      >>> scores = at_thresholds(probs, labels, np.array([0.5, 0.3]))
      >>> scores['precision'].tolist(), scores['recall'].tolist()
      ([0.5, 1.0], [0.5, 1.0])
      >>> scores['micro']['f1']
      0.75
    """
    probs, labels = check(probs, labels)
    called = probs >= np.asarray(thresholds)[None]
    right, true, said = (x.sum(axis=0) for x in (called & labels, labels, called))
    scores = _of_counts(right, true, said)
    together = _of_counts(right.sum(), true.sum(), said.sum())
    return {
        **scores,
        'true': true,
        'called': said,
        'macro': {name: macro(values) for name, values in scores.items()},
        'micro': {name: float(value) for name, value in together.items()},
    }


def _of_counts(right: np.ndarray, true: np.ndarray, said: np.ndarray) -> dict[str, np.ndarray]:
    present = np.where(np.asarray(true) > 0, true, np.nan)
    return {
        'precision': right / np.maximum(said, 1) + 0 * present,
        'recall': right / present,
        'f1': 2 * right / (said + present),
    }


def precision_recall(
    probs: Float[Array, 'N'], labels: Bool[Array, 'N']
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns precision, recall and threshold at each value of one class, the highest first.

    Example:
      >>> curve = precision_recall(np.array([0.9, 0.8, 0.3]), np.array([1, 0, 1]))
      >>> [line.round(3).tolist() for line in curve]
      [[1.0, 0.5, 0.667], [0.5, 0.5, 1.0], [0.9, 0.8, 0.3]]
    """
    probs, labels = np.asarray(probs, np.float64), np.asarray(labels, bool)
    order = np.argsort(-probs, kind='stable')
    ends = np.append(np.flatnonzero(np.diff(probs[order])), len(probs) - 1)
    right = np.cumsum(labels[order])[ends]
    with np.errstate(invalid='ignore', divide='ignore'):
        return right / (ends + 1), right / right[-1], probs[order][ends]


def best_thresholds(
    probs: Float[Array, 'N C'], labels: Bool[Array, 'N C'], *, beta: float = 1.0
) -> Float[np.ndarray, 'C']:
    """Finds each class's threshold with the largest F score; NaN for one that is true of no row.

    It lies half-way between the lowest value that is called true and the next one below, which is
    0 below the last; of equally good ones it is the highest.

    Args:
      beta: how many times recall counts as much as precision; 1 is F1.

    Example:
      >>> probs = np.array([[0.9, 0.2], [0.8, 0.1], [0.3, 0.4]])
      >>> best_thresholds(probs, np.array([[1, 0], [1, 0], [0, 0]])).round(3).tolist()
      [0.55, nan]
    """
    probs, labels = check(probs, labels)
    if not beta > 0:
        raise ValueError(f'beta is {beta}; it must be more than 0, such as 1 for F1')
    thresholds = np.full(probs.shape[1], np.nan)
    for number in np.flatnonzero(labels.any(axis=0)):
        precision, recall, values = precision_recall(probs[:, number], labels[:, number])
        weighed = beta**2 * precision + recall
        scores = (1 + beta**2) * precision * recall / np.where(weighed > 0, weighed, 1)
        best = int(scores.argmax())
        below = np.append(values, 0.0)[best + 1]
        thresholds[number] = (values[best] + below) / 2
    return thresholds


def intervals(
    probs: Float[Array, 'N C'],
    labels: Bool[Array, 'N C'],
    groups: np.ndarray,
    thresholds: Float[Array, 'C'],
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Mapping[str, tuple[float, float] | list[tuple[float, float]]]:
    """Bootstrap intervals drawn over whole groups of rows; see `metrics.bootstrap_interval`.

    Args:
      groups: [N], any values; equal values are one group. One group gives NaN.
      thresholds: as in `at_thresholds`.
      samples, level, seed: as there.

    Returns:
      (low, high) of `average_precision_macro`, `average_precision_micro`, `f1_macro`, `f1_micro`
      and `log_loss`, and a list of one for each class as `average_precision`. A draw without a true
      row of a class leaves it out.

    Example:
      >>> probs, labels = np.array([[0.9, 0.2], [0.8, 0.7]] * 2), np.array([[1, 0], [1, 1]] * 2)
      >>> found = intervals(probs, labels, np.arange(4) // 2, np.array([0.5, 0.5]))
      >>> found['average_precision_macro'], found['f1_micro']
      ((1.0, 1.0), (1.0, 1.0))
    """
    probs, labels = check(probs, labels)
    names, group = np.unique(groups, return_inverse=True)
    if len(group) != len(labels):
        raise ValueError(f'there are {len(group)} groups for {len(labels)} rows; give one a row')
    nothing = (float('nan'), float('nan'))
    if len(names) < 2:
        keys = (f'{n}_{of}' for n in ('average_precision', 'f1') for of in ('macro', 'micro'))
        each = [nothing] * probs.shape[1]
        return dict.fromkeys(keys, nothing) | {'log_loss': nothing, 'average_precision': each}
    rng = np.random.default_rng(seed)
    at_once = max(1, _VALUES_AT_ONCE // probs.size)
    rankings, together = _rankings(probs, labels), _Ranking.of(probs, labels)
    called = probs >= np.asarray(thresholds)[None]
    columns = [np.asarray(x, float) for x in (called & labels, labels, called)]
    losses, parts = _log_losses(probs, labels).mean(axis=1), []
    for done in range(0, samples, at_once):
        drawn = metrics.times_drawn(rng, min(at_once, samples - done), len(names))
        weights = drawn[:, group].astype(float)  # of the rows
        of_classes = np.stack([ranking.precisions(weights) for ranking in rankings], axis=1)
        parts.append(
            {
                'average_precision': of_classes,
                'average_precision_macro': np.array([macro(row) for row in of_classes]),
                'average_precision_micro': together.precisions(weights),
                **_drawn(columns, losses, weights),
            }
        )
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    per_class = values.pop('average_precision')
    found: dict = {name: _interval(column, level) for name, column in values.items()}
    found['average_precision'] = [_interval(column, level) for column in per_class.T]
    return found


def _drawn(
    columns: Sequence[np.ndarray], losses: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """F1 and log loss `[S]` for each line of weights of the rows `[S, N]`.

    Args:
      columns: which rows are rightly called, true, and called so, `[N, C]` each.
      losses: of each row `[N]`.
    """
    sums = [weights @ column for column in columns]
    return {
        'f1_macro': np.array([macro(row) for row in _of_counts(*sums)['f1']]),
        'f1_micro': _of_counts(*(x.sum(axis=1) for x in sums))['f1'],
        'log_loss': weights @ losses / weights.sum(axis=1),
    }


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return float('nan'), float('nan')
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
