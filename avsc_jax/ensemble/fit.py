"""Fits weights of members, temperatures and clamps on one split, for use on another.

Fits run on the host, in float64, and minimise the micro log loss of `avsc_jax.metrics` over the
given rows. The numbers they return are arguments of functions of `avsc_jax.ensemble`.
"""

import math

import numpy as np
import scipy  # whose parts load on first use

from avsc_jax import metrics
from avsc_jax.types import Array, Float, Int

EPS = 1e-15  # where metrics.log_loss clips
TIE = 1e-12  # losses closer than this are equal
EXACT_POINTS = 5_000_000  # 9 members at 0.05 have 3,108,105; more take the coordinate search

# Okazaki 2021, Eq. (1): intervals (low, high] between the edges; NaN keeps the value
CLAMP_EDGES = (0.06, 0.20, 0.70)
CLAMP_VALUES = (0.001, 0.06, math.nan, 0.99)


def search_weights(
    members: Float[Array, 'M N C'], labels: Int[Array, 'N'], step: float = 0.05
) -> tuple[Float[np.ndarray, 'M'], float]:
    """Finds the weights on a grid whose weighted mean has the lowest log loss.

    Exact up to five million points (9 members at 0.05); beyond, members trade one step as long as
    that helps. Of equal points the first one wins, counted from [1, 0, ...] to [..., 0, 1]: earlier
    members are preferred.

    Args:
      members: probabilities whose rows sum to 1; the loss is that of `metrics.log_loss(mean,
        labels, renormalize=False)`, members being clipped to 1e-15 first.
      labels: true classes in [0, C).
      step: 1 divided by a whole number.

    Returns:
      Weights, whose sum is 1, and the loss of the weighted mean.

    Raises:
      ValueError: shape, labels or step are not as above.

    Example:
      >>> good, bad = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.4, 0.6], [0.7, 0.3]])
      >>> weights, loss = search_weights(np.stack([good, bad]), np.array([0, 1]))
      >>> weights.tolist(), round(loss, 3)  # −(ln 0.9 + ln 0.8) / 2
      ([1.0, 0.0], 0.164)

    Source: Wang 2021, Sec. 3.3 (grid search, interval 0.05); ties are our choice.
    """
    members = np.asarray(members)
    if members.ndim != 3 or not len(members):
        raise ValueError(f'members have shape {members.shape}; give [members, rows, classes]')
    steps = round(1 / step) if step > 0 else 0
    if steps < 1 or abs(steps * step - 1) > 1e-9:
        raise ValueError(f'step is {step}; give 1 divided by a whole number, such as 0.05')
    members = np.stack([metrics.check(member, labels)[0] for member in members])
    # Only the true class's probability counts in the loss: [M, N].
    true = np.clip(members[:, np.arange(len(labels)), labels], EPS, 1)
    # A member given twice would make a million ties: only its first place is searched.
    places = {row.tobytes(): place for place, row in reversed([*enumerate(true)])}
    first = sorted(places.values())
    shares = _best_shares(true[first], steps)
    weights = np.zeros(len(true))
    weights[first] = shares / steps
    return weights, float(_losses(shares[None], true[first])[0])


def _best_shares(true: Float[np.ndarray, 'M N'], steps: int) -> np.ndarray:
    center = _optimum(true)
    best = _trade(_rounded(center, steps), true)
    if math.comb(steps + len(true) - 1, steps) > EXACT_POINTS:
        return best
    close = _near(center, true, steps, _losses(best[None], true)[0] + TIE)
    losses = _losses(close, true)
    return close[np.flatnonzero(losses <= losses.min() + TIE)[0]]


def _losses(shares: np.ndarray, true: Float[np.ndarray, 'M N']) -> np.ndarray:
    """Log loss of the mean with each row of `shares`, divided by its sum, as weights."""
    rows = true.shape[1]
    # One logarithm for the product of 16 items, which stays above 1e-240.
    groups = np.ones((len(true), 16 * math.ceil(rows / 16)))
    groups[:, :rows] = true
    weights = shares / shares.sum(axis=1, keepdims=True, dtype=float)
    size = max(1, 2**18 // rows)  # points whose mixtures fit a core's cache
    losses = []
    for k in range(0, len(weights), size):
        products = (weights[k : k + size] @ groups).reshape(-1, 16, groups.shape[1] // 16).prod(1)
        losses.append(-np.log(products).sum(axis=1) / rows)
    return np.concatenate(losses)


def _optimum(true: Float[np.ndarray, 'M N']) -> Float[np.ndarray, 'M']:
    """Approximates the best weights off the grid, by expectation maximisation for a mixture."""
    weights = np.full(len(true), 1 / len(true))
    for _ in range(300):
        weights = weights * (true / (weights @ true)).mean(axis=1)
    return weights / weights.sum()


def _rounded(weights: Float[np.ndarray, 'M'], steps: int) -> Int[np.ndarray, 'M']:
    """Rounds weights to a grid point: down, then steps left over go to the largest remainders."""
    shares = np.floor(weights * steps).astype(int)
    left = np.argsort(shares - weights * steps, kind='stable')[: steps - shares.sum()]
    shares[left] += 1
    return shares


def _trade(shares: Int[np.ndarray, 'M'], true: Float[np.ndarray, 'M N']) -> Int[np.ndarray, 'M']:
    """Moves one step of weight at a time between the best pair of members, until none helps."""
    one = np.eye(len(true), dtype=int)
    moves = (one[None] - one[:, None]).reshape(-1, len(true))
    loss = _losses(shares[None], true)[0]
    while True:
        points = shares + moves
        points = points[(points >= 0).all(axis=1)]
        losses = _losses(points, true)
        if losses.min() >= loss - TIE:
            return shares
        shares, loss = points[losses.argmin()], losses.min()


def _near(
    center: Float[np.ndarray, 'M'], true: Float[np.ndarray, 'M N'], steps: int, loss: float
) -> np.ndarray:
    """Grid points that may have a loss of at most `loss`, in order: usually a few of millions.

    The others are ruled out by a lower bound that costs no logarithm. With q the mixture at the
    center, q(1 + t) that at a point and p the largest member, 1 + t ≤ p/q on all of the simplex, so
    that −ln(1 + t) ≥ −t + t²q/2p; the mean of that over the items is a quadratic in the weights.
    """
    mixed = center @ true
    slope = (true / mixed).mean(axis=1)
    curvature = (true / (mixed * true.max(axis=0))) @ true.T / true.shape[1]
    room = loss + np.log(mixed).mean()
    grid, close = _grid(len(true), steps), []
    for k in range(0, len(grid), 2**15):
        away = grid[k : k + 2**15] / steps - center
        rise = np.einsum('km,km->k', away @ (curvature / 2), away) - away @ slope
        close.append(grid[k : k + 2**15][rise <= room])
    return np.concatenate(close)


def _grid(members: int, steps: int) -> np.ndarray:
    """Lists every way to share `steps` among the members, from [steps, 0, ...] down."""
    small = np.min_scalar_type(steps)  # millions of rows: their memory costs more than their sums
    columns: list[np.ndarray] = []
    left = np.array([steps], small)
    for _ in range(members - 1):  # each row branches: this member takes all steps left, ..., none
        branches = left.astype(int) + 1
        ends = branches.cumsum()
        kept = (np.arange(ends[-1]) - np.repeat(ends - branches, branches)).astype(small)
        columns = [np.repeat(column, branches) for column in (*columns, left)]
        columns[-1] -= kept
        left = kept
    return np.column_stack([*columns, left])


def fit_temperature(probs: Float[Array, 'N C'], labels: Int[Array, 'N']) -> float:
    """Finds the temperature in [0.05, 20] with which `temperature_scale` has the lowest log loss.

    Example:
      >>> probs, labels = np.array([[0.9, 0.1]] * 4), np.array([0, 0, 0, 1])  # right in 3 of 4
      >>> round(fit_temperature(probs, labels), 3)  # with which 9 to 1 becomes 3 to 1
      2.0

    Source: Guo et al. 2017, Sec. 4.2, on log-probabilities in place of logits.
    """
    logs, labels = _logs(probs, labels)
    fit = scipy.optimize.minimize_scalar(  # the loss is convex in 1/T
        lambda sharpness: _cross_entropy(sharpness * logs, labels),
        bounds=(1 / 20, 20),
        method='bounded',
        options={'xatol': 1e-8},
    )
    return float(1 / fit.x)


def fit_vector_scale(
    probs: Float[Array, 'N C'], labels: Int[Array, 'N'], ridge: float = 1e-4
) -> tuple[Float[np.ndarray, 'C'], Float[np.ndarray, 'C']]:
    """Finds the scales ≥ 0 and biases with which `vector_scale` has the lowest log loss.

    Args:
      probs: the table of the fitting split.
      labels: its true classes.
      ridge: pulls towards scale 1 and bias 0, so that a class without items keeps finite numbers;
        the loss never ends above that of the table as it is.

    Returns:
      Scale and bias of each class.

    Example:
      >>> probs, labels = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([1, 1])
      >>> scale, bias = fit_vector_scale(probs, labels)
      >>> bool(bias[1] > 0 > bias[0])  # the second class is always the true one
      True

    Source: Guo et al. 2017, Sec. 4.2; the ridge is our choice.
    """
    logs, labels = _logs(probs, labels)
    classes = logs.shape[1]
    truth = np.eye(classes)[labels]
    start = np.repeat([1.0, 0.0], classes)

    def loss_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = x[:classes] * logs + x[classes:]
        error = (scipy.special.softmax(scaled, axis=1) - truth) / len(labels)
        gradient = np.concatenate([(error * logs).sum(axis=0), error.sum(axis=0)])
        away = x - start
        loss = _cross_entropy(scaled, labels) + ridge * away @ away
        return loss, gradient + 2 * ridge * away

    bounds = [(0, None)] * classes + [(None, None)] * classes
    fit = scipy.optimize.minimize(loss_and_gradient, start, jac=True, bounds=bounds)
    return fit.x[:classes], fit.x[classes:]


def _logs(probs: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    probs, labels = metrics.check(probs, labels)
    return np.log(np.maximum(probs, EPS)), labels


def _cross_entropy(logits: Float[np.ndarray, 'N C'], labels: Int[np.ndarray, 'N']) -> float:
    true = logits[np.arange(len(labels)), labels]
    return float((scipy.special.logsumexp(logits, axis=1) - true).mean())
