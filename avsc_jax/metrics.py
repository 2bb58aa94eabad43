"""Scores of class probabilities against labels: numpy, float64, sums and counts divided once.

The first arguments are always `(probs [N, C], labels [N])`. A class without items has NaN as its
own score and counts in no macro or weighted average. Every function raises ValueError for
probabilities outside [0, 1], NaN, and labels that are not integers in [0, C).
"""

import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from avsc_jax.runtime import nearest
from avsc_jax.types import Array, Float, Int

Terms = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (probs [N, C], labels [N]) -> [N]

__all__ = [
    'Paired',
    'accuracy',
    'average_of',
    'bootstrap_interval',
    'calibration_error',
    'confusion',
    'hits',
    'log_loss',
    'log_losses',
    'paired_test',
    'per_class',
    'reliability',
]

TOLERANCE = 1e-6  # float32 softmax rows sum to 1 within this
SUM_TOLERANCE = 1e-3  # of a row's sum, where its values are not rounded
FLIPS = 10_000  # sign flips in a paired test, unless there are fewer in all
_SAME = np.finfo(np.float32).eps / 2  # how far float32 is from a number of few decimals
_DRAWN_AT_ONCE = 1 << 20  # groups: 8 MB of numbers


def check_probs(probs: Array) -> np.ndarray:
    """Returns the probabilities as float64 [N, C].

    Raises:
      ValueError: they have another shape, fewer than two classes, NaN or values outside [0, 1].
    """
    probs = np.asarray(probs, np.float64)
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise ValueError(
            f'probabilities have shape {probs.shape}; give [rows, classes] with two classes or more'
        )
    empty = np.flatnonzero(np.isnan(probs).any(axis=1))
    if empty.size:
        raise ValueError(
            f'{empty.size} of {len(probs)} rows hold NaN, which is no probability, first row '
            f'{empty[0]}; a system gave no answer there: make these rows again or leave them out'
        )
    inside = (probs >= -TOLERANCE) & (probs <= 1 + TOLERANCE)
    bad = np.flatnonzero(~inside.all(axis=1))
    if bad.size and (probs >= 0).all() and (np.abs(probs.sum(axis=1) - 100) < 5).all():
        raise ValueError('the rows sum to about 100, so they are per cent; divide them by 100')
    if bad.size:
        worst = ', '.join(f'row {row} ({probs[row][~inside[row]][0]})' for row in bad[:3])
        raise ValueError(
            f'{bad.size} of {len(probs)} rows hold values outside [0, 1], first {worst}; '
            'give softmax probabilities, not logits'
        )
    return probs


def _check_labels(labels: Array, rows: int, classes: int) -> np.ndarray:
    """Returns the labels as int64 [N].

    Raises:
      ValueError: the labels are not `rows` integers in [0, classes).
    """
    labels = np.asarray(labels)
    if labels.dtype == bool and labels.ndim == 2:
        raise ValueError(
            'the labels are bool [rows, classes], of independent classes such as tags; this metric '
            'needs classes of which one is right: give an integer a row'
        )
    if labels.shape != (rows,) or labels.dtype.kind not in 'iu':
        raise ValueError(
            f'labels have shape {labels.shape} and type {labels.dtype}; give {rows} integers, one '
            'a row of probabilities'
        )
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        raise ValueError(
            f'{bad.size} of {rows} labels are outside [0, {classes}), first row {bad[0]} '
            f'({labels[bad[0]]}); -1 means unknown: join the true labels or drop those rows'
        )
    return labels.astype(np.int64)


def rounding(probs: Float[Array, 'N C']) -> int | None:
    """Counts the decimals, at most 5, to which probabilities are rounded; None: to no fewer.

    Those below 0.1 may have more, as numbers of two or three digits have; but where the others have
    fewer than two, as 0.5 and 0.4 beside 0.03, all count.
    """
    probs = np.asarray(probs, np.float64)
    decimals = _decimals(probs[probs >= min(0.1, probs.max(axis=1, initial=0).min(initial=1))])
    return _decimals(probs) if decimals is not None and decimals < 2 else decimals


def _decimals(values: np.ndarray) -> int | None:
    for decimals in range(6):
        if np.abs(values - values.round(decimals)).max(initial=0) <= _SAME:
            return decimals
    return None


def sum_tolerance(probs: Float[Array, 'N C']) -> float:
    """How far from 1 the sums of rows may be: as far as rounding takes them, at most 0.1.

    Values with two decimals or more may be rounded; each is then wrong by half of the last one.
    """
    decimals = rounding(probs)
    if decimals is None or decimals < 2:
        return SUM_TOLERANCE
    return max(SUM_TOLERANCE, min(0.1, probs.shape[1] * 0.5 * 10.0**-decimals + TOLERANCE))


def warn_of_sums(probs: Float[Array, 'N C'], source: str = 'probabilities') -> None:
    """Gives one UserWarning if rows do not sum to 1 within 1e-6: how many, and the first."""
    sums = np.asarray(probs, np.float64).sum(axis=1)
    bad = np.flatnonzero(np.abs(sums - 1) > TOLERANCE)
    if bad.size:
        warnings.warn(
            f'{source}: {bad.size} of {len(sums)} rows do not sum to 1, first row {bad[0]} '
            f'(sum {sums[bad[0]]:.6g}); the log loss depends on renormalize',
            stacklevel=3,
        )


def check(probs: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities as float64 [N, C] and labels as int64 [N].

    Raises:
      ValueError: there is no row, or probabilities and labels cannot be scored together.
    """
    probs = check_probs(probs)
    if not len(probs):
        raise ValueError('there are no rows to score; give at least one')
    return probs, _check_labels(labels, *probs.shape)


def _losses(probs: np.ndarray, labels: np.ndarray, renormalize: bool, eps: float) -> np.ndarray:
    clipped = np.clip(probs, eps, 1 - eps)
    true = clipped[np.arange(len(labels)), labels]
    return -np.log(true / clipped.sum(axis=1) if renormalize else true)


def hits(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns 1 for each item whose likeliest class is the true one, else 0, as float64 `[N]`.

    Example:
      >>> hits(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1])).tolist()
      [1.0, 0.0]
    """
    return (probs.argmax(axis=1) == labels).astype(np.float64)


def _average(sums: np.ndarray, counts: np.ndarray, average: str) -> np.ndarray | np.float64:
    """Means [...] of per-class sums and counts [..., C]: over items, or over classes present."""
    if average == 'micro':
        return sums.sum(axis=-1) / counts.sum(axis=-1)
    if average == 'macro':
        means = sums / np.maximum(counts, 1)
        return means.sum(axis=-1) / (counts > 0).sum(axis=-1)
    raise ValueError(f"average is {average!r}; it must be 'micro' or 'macro'")


def _mean(terms: np.ndarray, labels: np.ndarray, classes: int, average: str) -> float:
    sums = np.bincount(labels, terms, minlength=classes)
    return float(_average(sums, np.bincount(labels, minlength=classes), average))


def log_loss(
    probs: Float[Array, 'N C'],
    labels: Int[Array, 'N'],
    *,
    average: str = 'micro',
    renormalize: bool = True,
    eps: float = 1e-15,
) -> float:
    """Mean of −ln p of the true class; warns when rows do not sum to 1.

    Args:
      probs: values in [0, 1], clipped to [eps, 1 − eps].
      labels: class indices in [0, C).
      average: 'micro' over all items; 'macro' over the means of the classes, as DCASE ranks.
      renormalize: divide each row by its sum after clipping, as scikit-learn did in 2021; False is
        the convention of scikit-learn 1.5 and later.
      eps: keeps the logarithm finite.

    Example:
      >>> probs, labels = np.array([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]]), np.array([0, 1, 1])
      >>> round(log_loss(probs, labels), 3)  # −(ln 0.8 + ln 0.6 + ln 0.5) / 3
      0.476
      >>> round(log_loss(probs, labels, average='macro'), 3)
      0.413
    """
    probs, labels = check(probs, labels)
    warn_of_sums(probs)
    return _mean(_losses(probs, labels, renormalize, eps), labels, probs.shape[1], average)


def accuracy(
    probs: Float[Array, 'N C'], labels: Int[Array, 'N'], *, average: str = 'micro'
) -> float:
    """Share of rows whose largest value is the true class; of equal values the first counts.

    Args:
      probs: values in [0, 1].
      labels: class indices in [0, C).
      average: 'micro' over all items; 'macro' is the mean of the classes' own shares.

    Example:
      >>> probs, labels = np.array([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]), np.array([0, 1, 1])
      >>> round(accuracy(probs, labels), 3)
      0.667
      >>> accuracy(probs, labels, average='macro')  # (1/1 + 1/2) / 2
      0.75
    """
    probs, labels = check(probs, labels)
    return _mean(hits(probs, labels), labels, probs.shape[1], average)


def confusion(probs: Float[Array, 'N C'], labels: Int[Array, 'N']) -> Int[np.ndarray, 'C C']:
    """Counts of (true class, predicted class): rows are the truth.

    Example:
      >>> probs = np.array([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
      >>> confusion(probs, np.array([0, 1, 1])).tolist()
      [[1, 0], [1, 1]]
    """
    probs, labels = check(probs, labels)
    classes = probs.shape[1]
    pairs = labels * classes + probs.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def per_class(
    probs: Float[Array, 'N C'], labels: Int[Array, 'N'], *, renormalize: bool = True
) -> dict[str, np.ndarray | dict[str, float]]:
    """Precision, recall, f1, accuracy, log_loss and support of every class, and their averages.

    Returns:
      One array [C] for each of these names, and dictionaries `macro` and `weighted` (by support)
      of scalars under the same names without support. A class that is never predicted has
      precision 0; the accuracy of one class is its recall.

    Example:
      >>> probs = np.array([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
      >>> scores = per_class(probs, np.array([0, 1, 1]))
      >>> scores['precision'].tolist(), scores['recall'].tolist()
      ([0.5, 1.0], [1.0, 0.5])
      >>> scores['macro']['recall']
      0.75
    """
    probs, labels = check(probs, labels)
    classes = probs.shape[1]
    counts = confusion(probs, labels)
    right, support, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    present = np.where(support > 0, support, np.nan)
    losses = np.bincount(labels, _losses(probs, labels, renormalize, 1e-15), minlength=classes)
    scores = {
        'precision': right / np.maximum(predicted, 1) + 0 * present,
        'recall': right / present,
        'f1': 2 * right / (predicted + present),
        'accuracy': right / present,
        'log_loss': losses / present,
    }
    macro = {name: float(np.nanmean(score)) for name, score in scores.items()}
    weighted = {
        name: float(np.nansum(score * support) / support.sum()) for name, score in scores.items()
    }
    return {**scores, 'support': support, 'macro': macro, 'weighted': weighted}


def reliability(
    probs: Float[Array, 'N C'], labels: Int[Array, 'N'], *, bins: int = 15
) -> dict[str, np.ndarray]:
    """Mean confidence, accuracy and count in equal bins (low, high] of the largest probability.

    Returns:
      Arrays [bins] under `confidence`, `accuracy` and `count`; NaN where a bin is empty.

    Example:
      >>> probs = np.array([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2]])
      >>> table = reliability(probs, np.array([0, 0, 1]), bins=2)
      >>> table['count'].tolist(), table['confidence'].round(3).tolist()
      ([0, 3], [nan, 0.8])
    """
    probs, labels = check(probs, labels)
    confidence = probs.max(axis=1)
    index = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count = np.bincount(index, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    return {
        'confidence': np.bincount(index, confidence, minlength=bins) / filled,
        'accuracy': np.bincount(index, hits(probs, labels), minlength=bins) / filled,
        'count': count,
    }


def calibration_error(
    probs: Float[Array, 'N C'], labels: Int[Array, 'N'], *, bins: int = 15
) -> float:
    """Expected calibration error: |accuracy − confidence| of the bins, weighted by their counts.

    Example:
      >>> probs = np.array([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2]])  # 80 % sure, right in 2 of 3
      >>> round(calibration_error(probs, np.array([0, 0, 1]), bins=2), 3)
      0.133

    Source: Guo et al. 2017, Eq. (3).
    """
    table = reliability(probs, labels, bins=bins)
    gaps = np.abs(table['accuracy'] - table['confidence'])
    return float(np.nansum(gaps * table['count']) / table['count'].sum())


def log_losses(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log loss of each item `[N]`, rows being divided by their sum.

    Example:
      >>> log_losses(np.array([[0.8, 0.2], [0.5, 0.5]]), np.array([0, 1])).round(3).tolist()
      [0.223, 0.693]
    """
    return _losses(probs, labels, renormalize=True, eps=1e-15)


TERMS: dict[str, Terms] = {'log_loss': log_losses, 'accuracy': hits}


def average_of(
    terms: Terms,
    probs: Float[Array, 'N C'],
    labels: Int[Array, 'N'],
    *,
    average: str = 'micro',
) -> float:
    """Returns the mean over the items of any score that each item has by itself.

    Args:
      terms: `(probs [N, C], labels [N]) -> [N]`, such as `hits`.
      probs: as in `log_loss`.
      labels: as in `log_loss`.
      average: 'micro' over all items; 'macro' over the means of the classes.

    Example:
      >>> average_of(hits, np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 1]))
      0.5
    """
    probs, labels = check(probs, labels)
    return _mean(terms(probs, labels), labels, probs.shape[1], average)


def bootstrap_interval(
    metric: str | Terms,
    probs: Float[Array, 'N C'],
    labels: Int[Array, 'N'],
    groups: np.ndarray,
    *,
    average: str = 'micro',
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of a score, drawn over whole groups of items (recording locations).

    Items of one location are alike, so drawing single items would give intervals that are too
    narrow.

    Args:
      metric: 'log_loss' (renormalised), 'accuracy', or terms as in `average_of`.
      probs: as in `log_loss`.
      labels: as in `log_loss`.
      groups: [N], any values; equal values are one group.
      average: as in `log_loss`.
      samples: number of draws.
      level: share of the draws inside the interval.
      seed: same seed, same interval.

    Returns:
      (low, high), percentiles of the draws; NaN when there is only one group.

    Example:
      >>> probs, labels = np.array([[0.8, 0.2], [0.6, 0.4]] * 2), np.array([0, 1, 0, 0])
      >>> bootstrap_interval('accuracy', probs, labels, np.array(['park', 'park', 'bus', 'bus']))
      (0.5, 1.0)
    """
    probs, labels = check(probs, labels)
    terms = metric(probs, labels) if callable(metric) else _terms(metric, probs, labels)
    draws = _draws(terms, labels, probs.shape[1], groups, samples, seed)
    return _percentiles(_average(*draws, average), level)


class Paired(NamedTuple):
    """Difference of two systems' scores on the same items, ours minus theirs, and its spread.

    Attributes:
      standard_error: standard deviation of the differences of the bootstrap's draws.
      interval: percentiles of these differences.
      p_value: two-sided, of the sign-flip test over groups.
      groups: the number of groups that all of these rest on.
    """

    difference: float
    standard_error: float
    interval: tuple[float, float]
    p_value: float
    groups: int


def paired_test(
    ours: Float[Array, 'N C'],
    theirs: Float[Array, 'N C'],
    labels: Int[Array, 'N'],
    groups: np.ndarray,
    *,
    average: str = 'micro',
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    terms: Mapping[str, Terms] = TERMS,
) -> dict[str, Paired]:
    """Compares two systems on the same items by log loss (renormalised) and accuracy.

    Draws are those of `bootstrap_interval` with the same seed. The p value is the share of sign
    flips of the groups' sums that give a difference at least as large: of all flips where they are
    10,000 or fewer, else of as many drawn ones and the observed one.

    Args:
      ours, theirs: probabilities; a negative difference of log loss means that ours is better.
      labels, groups, average, samples, level, seed: as in `bootstrap_interval`.
      terms: metric -> its score of each item, see `average_of`.

    Returns:
      One `Paired` a metric; with one group, standard error and interval are NaN and p is 1.

    Example:
      >>> ours, theirs = np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([[0.6, 0.4], [0.5, 0.5]])
      >>> result = paired_test(ours, theirs, np.array([0, 1]), np.array(['park', 'bus']))
      >>> round(result['log_loss'].difference, 3), result['log_loss'].p_value
      (-0.312, 0.5)
    """
    ours, labels = check(ours, labels)
    theirs, _ = check(theirs, labels)
    counts = np.bincount(labels, minlength=ours.shape[1])
    share = 1 / len(labels) if average == 'micro' else 1 / (counts[labels] * (counts > 0).sum())
    _, group = np.unique(groups, return_inverse=True)
    result = {}
    for metric, of in terms.items():
        gaps = of(ours, labels) - of(theirs, labels)
        draws = _draws(gaps, labels, len(counts), groups, samples, seed)
        values = _average(*draws, average)
        result[metric] = Paired(
            difference=_mean(gaps, labels, len(counts), average),
            standard_error=float(np.std(values, ddof=1)),
            interval=_percentiles(values, level),
            p_value=_sign_flips(np.bincount(group, share * gaps), seed),
            groups=int(group.max()) + 1,
        )
    return result


def _terms(metric: str, probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns each item's score by the metric of this name."""
    nearest.check('metric', metric, TERMS)
    return TERMS[metric](probs, labels)


# Resampling. Items of one group (a recording location) are alike, so whole groups are drawn and
# flipped, never single items.


def _draws(
    terms: np.ndarray,
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray,
    samples: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws groups with replacement: sums of the terms and counts of each class [samples, C].

    Args:
      terms: [N], the score of each item.
      labels: [N], the class of each in [0, C).
      classes: C.
      groups: [N], any values; equal values are one group. With one group the sums are NaN.
      samples: number of draws.
      seed: same seed, same draws, whatever the terms are.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(group) != len(labels):
        raise ValueError(f'there are {len(group)} groups for {len(labels)} rows; give one a row')
    if len(names) < 2:
        return np.full((samples, classes), np.nan), np.ones((samples, classes))
    cell = group * classes + labels
    sums = np.bincount(cell, terms, minlength=len(names) * classes).reshape(-1, classes)
    counts = np.bincount(cell, minlength=len(names) * classes).reshape(-1, classes)
    totals = np.concatenate([sums, counts], axis=1)  # one row a group is all that draws need
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // len(names))
    drawn = np.concatenate(
        [
            times_drawn(rng, min(at_once, samples - done), len(names)) @ totals
            for done in range(0, samples, at_once)
        ]
    )
    return drawn[:, :classes], drawn[:, classes:]


def times_drawn(rng: np.random.Generator, samples: int, groups: int) -> np.ndarray:
    """Returns how often each group is drawn [samples, groups]; each draw takes as many as exist."""
    drawn = rng.integers(groups, size=(samples, groups)) + groups * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * groups).reshape(samples, groups)


def _percentiles(values: np.ndarray | np.float64, level: float) -> tuple[float, float]:
    """Returns the central interval that holds a share `level` of the values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _sign_flips(sums: np.ndarray, seed: int) -> float:
    """Share of sign flips of the groups' sums that leave their total at least as far from 0.

    All 2^G flips are tried where they are FLIPS or fewer, else FLIPS drawn ones and the observed.
    """
    groups, exact = len(sums), 2 ** len(sums) <= FLIPS
    if exact:
        flipped = (np.arange(2**groups)[:, None] >> np.arange(groups) & 1) @ sums
    else:
        rng = np.random.default_rng(seed)
        flipped = np.array([rng.integers(2, size=groups) @ sums for _ in range(FLIPS)])
    total = sums.sum()
    rounding = 1e-9 * np.abs(sums).sum()  # differences of accuracy tie
    extreme = np.abs(total - 2 * flipped) >= abs(total) - rounding
    return float(extreme.mean() if exact else (extreme.sum() + 1) / (FLIPS + 1))
