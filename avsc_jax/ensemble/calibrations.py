"""Fits several calibrations one after the other, also so that no group is scored by its own fit."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from avsc_jax.ensemble import rules
from avsc_jax.ensemble.recipes import CALIBRATIONS, check_calibrations
from avsc_jax.types import Array, Float, Int


class FittedStep(NamedTuple):
    """A calibration with its numbers.

    Attributes:
      name: one of `recipes.CALIBRATIONS`.
      numbers: what follows probabilities and members in the arguments of its function.
    """

    name: str
    numbers: Sequence[Any]


def fit_steps(
    names: Sequence[str],
    probs: Float[Array, 'N C'],
    members: Float[Array, 'M N C'],
    labels: Int[Array, 'N'],
) -> list[FittedStep]:
    """Fits each calibration to what the earlier ones make of a mix.

    Args:
      names: of `recipes.CALIBRATIONS`, in the order in which they are applied.
      probs: the mix, rows summing to one.
      members: the members' probabilities, which stacking reads.
      labels: the true classes.

    Example:
      >>> probs, labels = np.array([[0.9, 0.1]] * 4), np.array([0, 0, 0, 1])  # right in 3 of 4
      >>> (step,) = fit_steps(['temperature'], probs, probs[None], labels)
      >>> step.name, round(step.numbers[0], 3)
      ('temperature', 2.0)
    """
    fitted = []
    for name in names:
        step = FittedStep(name, CALIBRATIONS[name].fit(probs, members, labels))
        probs = apply_steps([step], probs, members)[-1]
        fitted.append(step)
    return fitted


def apply_steps(
    fitted: Sequence[FittedStep], probs: Float[Array, 'N C'], members: Float[Array, 'M N C']
) -> list[Float[Array, 'N C']]:
    """Returns a mix as it is and after each fitted calibration, rows summing to one.

    Example:
      >>> probs = np.array([[0.9, 0.1]])
      >>> before, after = apply_steps([FittedStep('temperature', (2.0,))], probs, probs[None])
      >>> after.round(3).tolist()
      [[0.75, 0.25]]
    """
    stages = [probs]
    for step in fitted:
        made = CALIBRATIONS[step.name].apply(stages[-1], members, *step.numbers)
        stages.append(rules.renormalize(made))
    return stages


def cross_fit(
    names: Sequence[str],
    probs: Float[Array, 'N C'],
    members: Float[Array, 'M N C'],
    labels: Int[Array, 'N'],
    cuts: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Float[np.ndarray, 'K N C']:
    """Applies calibrations to each row that are fitted without its group.

    Args:
      names, probs, members, labels: as in `fit_steps`.
      cuts: rows to fit on and rows to score, which share no group; each row is scored once.

    Returns:
      The mix as it is, then after each calibration.

    Example:
      >>> probs, labels = np.array([[0.9, 0.1]] * 8), np.array([0, 0, 0, 1] * 2)
      >>> cuts = [(np.arange(4), np.arange(4, 8)), (np.arange(4, 8), np.arange(4))]
      >>> cross_fit(['temperature'], probs, probs[None], labels, cuts)[1, 0].round(3).tolist()
      [0.75, 0.25]
    """
    result = np.full((len(names) + 1, *probs.shape), np.nan)
    for inside, outside in cuts:
        fitted = fit_steps(names, probs[inside], members[:, inside], labels[inside])
        result[:, outside] = apply_steps(fitted, probs[outside], members[:, outside])
    return result


def as_lists(fitted: Sequence[FittedStep]) -> list[dict[str, Any]]:
    """Returns fitted calibrations as JSON holds them: `step` and `numbers`, NaN as None.

    Example:
      >>> as_lists([FittedStep('temperature', (2.0,))])
      [{'step': 'temperature', 'numbers': [2.0]}]
    """

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(each) for each in value]
        return None if np.isnan(value) else value

    return [
        {'step': step.name, 'numbers': [plain(np.asarray(x).tolist()) for x in step.numbers]}
        for step in fitted
    ]


def from_lists(steps: Sequence[dict[str, Any]], *, members: int, classes: int) -> list[FittedStep]:
    """Returns the calibrations that `as_lists` wrote, checked.

    Args:
      steps: what a file holds, which may be damaged.
      members: the number of members that the mix has.
      classes: the number of classes.

    Raises:
      ValueError: a step is unknown, or has other numbers than these members and classes need.

    Example:
      >>> from_lists([{'step': 'temperature', 'numbers': [2.0]}], members=2, classes=10)
      [FittedStep(name='temperature', numbers=[array(2.)])]
    """
    shapes = {
        'temperature': [()],
        'vector': [(classes,), (classes,)],
        'stacking': [(members, classes, classes), (classes,)],
        'clamp': [(3,), (4,)],
    }
    fitted = []
    for step in steps:
        name, given = step['step'], step['numbers']
        check_calibrations('a step of the decision', [name])
        try:
            numbers = [np.array(x, np.float64) for x in given]  # None becomes NaN
        except (TypeError, ValueError):
            numbers = []
        kept = name == 'clamp'  # whose NaN keeps an interval
        if [x.shape for x in numbers] != shapes[name] or not (
            kept or all(np.isfinite(x).all() for x in numbers)
        ):
            raise ValueError(
                f'the step {name} of the decision does not hold finite numbers of the shapes '
                f'{shapes[name]}; make the ensemble again'
            )
        fitted.append(FittedStep(name, numbers))
    return fitted
