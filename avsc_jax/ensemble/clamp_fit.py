"""Fits the seven numbers of a clamp like Eq. (1) of Okazaki et al. 2021.

For given edges the best values solve a convex problem in their logarithms, which Newton's method
solves for many edges at once. Edges lie on a grid, of which all points are tried where that is
quick.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from avsc_jax import metrics
from avsc_jax.ensemble.fit import CLAMP_EDGES, EPS, TIE
from avsc_jax.types import Array, Float, Int

GRID = np.arange(101) / 100  # the edges
EXACT = 2_000_000  # edges times rows; more take a search from several starts
STARTS = 5  # of that search, besides Eq. (1) and no clamp
COARSE = (0, 1, 3, 6, 12, 20, 35, 50, 70, 85, 95, 99)  # places in GRID, tried as starts
CHUNK = 2**17  # edges times rows that fit a core's cache
ROUNDS, FLAT = 200, 1e-10  # of Newton's method; it ends where the gradient is flatter


def fit_clamp(
    probs: Float[Array, 'N C'], labels: Int[Array, 'N']
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Finds the edges and values with the lowest renormalised log loss.

    There are two low intervals, one that is kept and a high one, never decreasing. Edges are
    multiples of 0.01, values any numbers from 1e-15 to 1. The result is the best there is up to two
    million edges times rows; beyond, edges move one at a time, or all by 0.01, as long as that
    helps, from Eq. (1), from no clamp and from the best of some hundred others. So the loss is at
    most that of Eq. (1) and that of the given table.

    Returns:
      Edges (3) and values (4), for `piecewise_clamp`.

    Example:
      >>> probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
      >>> edges, values = fit_clamp(probs, np.array([0, 0, 1]))  # 0.6 is right in 1 of 2
      >>> renormalize(piecewise_clamp(probs, edges, values)).round(3).tolist()
      [[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]
    """
    counts = _count(*metrics.check(probs, labels))
    places = _distinct(counts)
    if len(places) * len(counts.below) <= EXACT:
        losses, values = _best_values(places, counts)
    else:
        places, losses, values = _search(counts)
    best = np.flatnonzero(losses <= losses.min() + TIE)[0]
    edges = GRID[places[best]]
    room = max(edges[1], EPS)  # exp may round beyond the limits of the values
    low = min(math.exp(values[best, 0]), room)
    second = min(max(math.exp(values[best, 1]), low), room)
    high = min(max(math.exp(values[best, 2]), edges[2]), 1.0)
    return tuple(edges.tolist()), (low, second, math.nan, float(high))


class _Counts(NamedTuple):
    """Counts and sums of a table's probabilities up to each edge of GRID.

    Attributes:
      below: `[N, G]`, number of a row's probabilities up to the edge.
      mass: `[N, G]`, their sum.
      true: `[G]`, number of rows whose true class is among them.
      logs: `[G]`, sum of the logarithms of these true classes.
      classes: C.
    """

    below: np.ndarray
    mass: np.ndarray
    true: np.ndarray
    logs: np.ndarray
    classes: int


def _count(probs: Float[np.ndarray, 'N C'], labels: Int[np.ndarray, 'N']) -> _Counts:
    inside = probs.astype(np.float32)[..., None] <= GRID.astype(np.float32)  # as piecewise_clamp
    rows = np.arange(len(labels))
    true = np.log(np.maximum(probs[rows, labels], EPS))
    return _Counts(
        below=inside.sum(axis=1),
        mass=(inside * probs[..., None]).sum(axis=1),
        true=inside[rows, labels].sum(axis=0),
        logs=(inside[rows, labels] * true[:, None]).sum(axis=0),
        classes=probs.shape[1],
    )


def _distinct(counts: _Counts) -> Int[np.ndarray, 'E 3']:
    """Lists places of edges in GRID that differ in what they do to the table.

    Of edges with the same probabilities between them, the second one is the highest and the third
    one the lowest, which leaves the values most room.
    """
    total = counts.below.sum(axis=0)
    first = np.flatnonzero(np.diff(total, prepend=-1))  # places of the lowest edges
    last = np.append(first[1:] - 1, len(GRID) - 1)
    a, b, c = np.meshgrid(*[np.arange(len(first))] * 3, indexing='ij')
    rising = (a <= b) & (b < c)
    places = [np.stack([first[a[rising]], last[b[rising]], first[c[rising]]], axis=1)]
    for cell, (start, stop) in enumerate(zip(first, last, strict=True)):  # nothing is kept
        seconds = np.arange(start, stop)
        low, middle = (grid.ravel() for grid in np.meshgrid(first[: cell + 1], seconds))
        places.append(np.stack([low, middle, middle + 1], axis=1))
    return np.concatenate(places)


def _search(
    counts: _Counts,
) -> tuple[Int[np.ndarray, 'E 3'], Float[np.ndarray, 'E'], Float[np.ndarray, 'E 3']]:
    """Improves several edges as long as a move helps; returns where they end, losses and values."""
    coarse = [(i, j, k) for i, j, k in itertools.product(COARSE, repeat=3) if i <= j < k]
    losses, _ = _best_values(np.array(coarse), counts)
    equation = [round(100 * edge) for edge in CLAMP_EDGES]
    starts = [equation, [0, 0, 100], *(coarse[k] for k in np.argsort(losses)[:STARTS])]
    ends = np.array([_descend(np.array(start), counts) for start in starts])
    return ends, *_best_values(ends, counts)


def _descend(start: Int[np.ndarray, '3'], counts: _Counts) -> Int[np.ndarray, '3']:
    """Moves edges to the best place near them, until none is better by a billionth."""
    steps = np.array([*itertools.product((-1, 0, 1), repeat=3)])
    best, lowest = start, math.inf
    while True:
        moves = [best + steps]
        for place in range(3):
            moved = np.tile(best, (len(GRID), 1))
            moved[:, place] = np.arange(len(GRID))
            moves.append(moved)
        places = np.unique(np.concatenate(moves), axis=0)
        low, middle, high = places.T
        places = places[(low >= 0) & (low <= middle) & (middle < high) & (high < len(GRID))]
        losses, _ = _best_values(places, counts)
        if losses.min() >= lowest - 1e-9:
            return best
        best, lowest = places[losses.argmin()], losses.min()


def _best_values(
    places: Int[np.ndarray, 'E 3'], counts: _Counts
) -> tuple[Float[np.ndarray, 'E'], Float[np.ndarray, 'E 3']]:
    """Returns the lowest loss with these edges, and the logarithms of its three values.

    A loss is infinite where the first value would exceed the second one: the best there is what
    the edges with nothing between the first two give.
    """
    size = max(1, CHUNK // len(counts.below))
    parts = [_newton(_problem(places[k : k + size], counts)) for k in range(0, len(places), size)]
    losses, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return np.where(values[:, 0] > values[:, 1] + 1e-9, np.inf, losses), values


class _Problem(NamedTuple):
    """The loss as a function of the logarithms of the three values, for E edges.

    Attributes:
      number: `[E, 3, N]`, number of a row's probabilities in the low, second and high interval.
      kept: `[E, N]`, sum of those in the third one.
      share: `[E, 3]`, share of rows whose true class is in each interval.
      logs: `[E]`, sum of the logarithms of kept true classes, divided by the rows.
      floor, ceiling: `[E, 3]`, limits of the logarithms.
      empty: `[E, 3]`, whether an interval holds no probability, so that its value does nothing.
    """

    number: np.ndarray
    kept: np.ndarray
    share: np.ndarray
    logs: np.ndarray
    floor: np.ndarray
    ceiling: np.ndarray
    empty: np.ndarray

    def terms(
        self, value: np.ndarray, these: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns loss `[E]`, gradient `[E, 3]` and Hessian `[E, 3, 3]` of some edges."""
        weighted = self.number[these] * np.exp(value)[..., None]
        sums = weighted.sum(axis=1) + self.kept[these]
        share = self.share[these]
        loss = np.log(sums).mean(axis=1) - (share * value).sum(axis=1) - self.logs[these]
        weighted /= sums[:, None]
        mean = weighted.mean(axis=2)
        squares = weighted @ weighted.swapaxes(1, 2) / weighted.shape[2]
        return loss, mean - share, mean[..., None] * np.eye(3) - squares


def _problem(places: Int[np.ndarray, 'E 3'], counts: _Counts) -> _Problem:
    rows, (low, middle, high) = len(counts.below), places.T
    below, mass, true = counts.below.T, counts.mass.T, counts.true
    number = [below[low], below[middle] - below[low], counts.classes - below[high]]
    share = [true[low], true[middle] - true[low], rows - true[high]]
    lowest = np.full(len(places), math.log(EPS))
    top = np.log(np.maximum(GRID[middle], EPS))
    return _Problem(
        number=np.stack(number, axis=1).astype(float),
        kept=np.maximum(mass[high] - mass[middle], 0),
        share=np.stack(share, axis=1) / rows,
        logs=(counts.logs[high] - counts.logs[middle]) / rows,
        floor=np.stack([lowest, lowest, np.log(GRID[high])], axis=1),
        ceiling=np.stack([top, top, np.zeros(len(places))], axis=1),
        empty=np.stack(number, axis=1).sum(axis=2) == 0,
    )


def _newton(problem: _Problem) -> tuple[Float[np.ndarray, 'E'], Float[np.ndarray, 'E 3']]:
    """Minimises the losses between the limits; returns them and the logarithms of the values.

    Values whose limit is in the way are held, and a step that does not help is shortened.
    """
    _, _, share, _, floor, ceiling, empty = problem
    value = np.clip(np.log([0.001, 0.06, 0.99]), floor, ceiling)
    value = np.where((share == 0) & ~empty, floor, value)  # never the true class: as low as can be
    loss, gradient, hessian = problem.terms(value, np.arange(len(value)))
    scale = np.ones(len(value))
    for _ in range(ROUNDS):
        held = ((value <= floor) & (gradient > 0)) | ((value >= ceiling) & (gradient < 0))
        moving = (share > 0) & ~empty & ~held
        steep = (np.abs(gradient) * moving).max(axis=1) > FLAT
        todo = np.flatnonzero(steep & (scale > 1e-9))
        if not len(todo):
            break
        part = moving[todo]
        both = part[:, :, None] & part[:, None]
        matrix = np.where(both, hessian[todo], 0) + np.eye(3) * np.where(part, 1e-12, 1)[:, None]
        step = -np.linalg.solve(matrix, np.where(part, gradient[todo], 0)[..., None])[..., 0]
        longest = np.maximum(np.abs(step).max(axis=1), 3)
        step *= (scale[todo] * 3 / longest)[:, None]
        tried = np.clip(value[todo] + step, floor[todo], ceiling[todo])
        new = problem.terms(tried, todo)
        better = new[0] <= loss[todo]
        scale[todo] = np.where(better, 1.0, scale[todo] / 4)
        taken = todo[better]
        value[taken] = tried[better]
        loss[taken], gradient[taken], hessian[taken] = (each[better] for each in new)
    value[:, 1] = np.where(empty[:, 1], value[:, 0], value[:, 1])  # these do nothing, and rise
    value[:, 0] = np.where(empty[:, 0], floor[:, 0], value[:, 0])
    return loss, value
