"""Mixes the tables of several members into one: aligns, averages and calibrates them.

Members are a dictionary of name to table. The arithmetic is in `avsc_jax.ensemble`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from avsc_jax import tables
from avsc_jax.ensemble import FittedStep, apply_steps, fit_steps
from avsc_jax.ensemble.recipes import CALIBRATIONS, RECIPES, best_weights
from avsc_jax.tables import names

Members = Mapping[str, tables.Predictions]


def alike(members: Members, pooled: bool = False) -> dict[str, tables.Predictions]:
    """Returns the tables with the same items in the same order, and with every known label.

    Groups are those of the first table that has them.

    Args:
      members: tables of the same clips.
      pooled: whether to pool them to clips; done anyway if their granularities differ.
    """
    kinds = {table.meta.get('granularity') for table in members.values()}
    values = list(members.values())
    if pooled or len(kinds) > 1:
        values = [tables.pool(table) for table in values]
    values = tables.aligned(values)
    each = [table.label for table in values]
    each = [label for label in each if label.ndim == 2] or each  # of independent classes: known
    label = np.max(each, axis=0)  # -1 where no table knows it
    group = next((table.group for table in values if table.group is not None), None)
    values = [dataclasses.replace(table, label=label, group=group) for table in values]
    return dict(zip(members, values, strict=True))


def paired(fit: Members, members: Members, by_name: bool) -> dict[str, tables.Predictions]:
    """Returns each member's table of the split to fit on.

    Args:
      fit: tables of the split to fit on.
      members: tables of the split to report on.
      by_name: whether the two are matched by name, or else by order.

    Raises:
      ValueError: the members or their classes differ, or a label to fit on is unknown.
    """
    if len(fit) != len(members) or (by_name and fit.keys() != members.keys()):
        raise ValueError(
            f'the tables to fit on are {listed(fit)}, those to report on {listed(members)}; give '
            'the same members in both'
        )
    fit = fit if by_name else dict(zip(members, fit.values(), strict=True))
    classes = first(members).meta['classes']
    fit = {name: tables.with_classes(table, classes) for name, table in fit.items()}
    ours, theirs = first(members), first(fit)
    if ours.meta['classes'] != theirs.meta['classes']:
        raise ValueError(
            f'the tables to fit on have the classes {" ".join(theirs.meta["classes"])}, those to '
            f'report on {" ".join(ours.meta["classes"])}; give tables of one kind'
        )
    unknown = theirs.clip_id[theirs.label < 0]
    if len(unknown):
        raise ValueError(
            f'{len(unknown)} of {len(theirs.label)} rows to fit on have no true label: '
            f'{listed(unknown[:3])}; give tables that hold their labels'
        )
    return {name: fit[name] for name in members}


def fit_weights(fit: Members) -> np.ndarray:
    """Finds the weights in steps of 0.05 with the lowest log loss on these tables."""
    return best_weights(stacked(fit), first(fit).label)


def mix_halves(members: Members, half: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Averages each half of the rows with weights that are fitted on the other half.

    Args:
      members: tables of the same items.
      half: 0 or 1 for each row.

    Returns:
      Probabilities `[N, C]`, and the weights of both halves.
    """
    probs, weights = np.empty_like(first(members).probs), []
    for number in (0, 1):
        inside = half == number
        theirs, ours = (
            {name: tables.rows(table, part) for name, table in members.items()}
            for part in (~inside, inside)
        )
        weights.append(fit_weights(theirs))
        probs[inside] = mix(ours, 'weights', weights[-1], clamp=None)
    return probs, weights


def mix(members: Members, recipe: str, weights: np.ndarray | None, clamp: str | None) -> np.ndarray:
    """Mixes tables of the same items by a recipe of RECIPES; see `fuse`."""
    probs = {name: table.probs for name, table in members.items()}
    classes = first(members).meta['classes']
    return fuse(probs, {'name': recipe}, classes=classes, weights=weights, clamp=clamp)


def fuse(
    probs: Mapping[str, np.ndarray],
    recipe: Mapping[str, Any],
    *,
    classes: Sequence[str],
    weights: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """Mixes the probabilities of members by a recipe; score, ensembles and predict all use it.

    Args:
      probs: member, or role of the recipe -> `[N, C]`.
      recipe: `name`, a key of RECIPES, and options of its function.
      classes: the C names in the order of the columns.
      weights: one for each member; None: equal ones.
      options: options of the recipe's function, in place of those in `recipe`.

    Returns:
      Probabilities `[N, C]`; a clamped row need not sum to one.
    """
    options = {**recipe, **options}
    chosen = RECIPES[options.pop('name')]
    return chosen.function(probs, classes=classes, weights=weights, **options)


def fit_calibration(
    kinds: Sequence[str], probs: np.ndarray, fit: Members
) -> tuple[list[FittedStep], str]:
    """Fits calibrations, one after the other, to the mixed probabilities of tables to fit on.

    Args:
      kinds: of CALIBRATIONS, in the order in which they are applied.
      probs: `[N, C]`, the mix.
      fit: the members' tables, which hold its labels.

    Returns:
      The fitted calibrations, and their numbers as text.
    """
    fitted = fit_steps(kinds, probs, stacked(fit), first(fit).label)
    return fitted, '; '.join(map(_shown, fitted))


def calibrate(fitted: Sequence[FittedStep], probs: np.ndarray, members: Members) -> np.ndarray:
    """Applies fitted calibrations to a mix; rows that end with a clamp need not sum to one."""
    if not fitted:
        return probs
    *earlier, last = fitted
    before = apply_steps(earlier, probs, stacked(members))[-1]
    return CALIBRATIONS[last.name].apply(before, stacked(members), *last.numbers)


def _shown(step: FittedStep) -> str:
    numbers = [np.atleast_1d(group) for group in step.numbers]
    if max(group.size for group in numbers) > 50:
        return f'{step.name} with {sum(group.size for group in numbers)} numbers'
    shown = ' | '.join(' '.join(f'{x:.4g}' for x in group) for group in numbers)
    return f'{step.name} {shown.replace("nan", "kept")}'  # NaN in a clamp keeps an interval


def overlap(fit: Members, members: Members) -> str | None:
    """Returns a warning if some clips are both fitted on and reported on."""
    reported, fitted = ({*map(names.key, first(of).clip_id)} for of in (members, fit))
    both = len(reported & fitted)
    return f'fitted on {both} of the {len(reported)} clips it is reported on' if both else None


def about(members: Members, steps: str, cautions: Iterable[str]) -> dict[str, object]:
    """Joins the `about` of the members' tables: data, protocol, weights and warnings.

    Args:
      steps: how the mix was made, added to the protocol.
      cautions: further warnings.
    """
    abouts = {name: table.meta.get('about', {}) for name, table in members.items()}

    def joined(key: str, unknown: str) -> str:
        return '; '.join(dict.fromkeys(about.get(key) or unknown for about in abouts.values()))

    return {
        'data': joined('data', 'not recorded in the table'),
        'protocol': f'{joined("protocol", "training not recorded in the table")}. Scored: {steps}',
        'weights': {
            f'{name}: {encoder}' if len(abouts) > 1 else encoder: origin
            for name, about in abouts.items()
            for encoder, origin in about.get('weights', {}).items()
        },
        'warnings': [
            *(line for about in abouts.values() for line in about.get('warnings', ())),
            *cautions,
        ],
    }


def first(members: Members) -> tables.Predictions:
    """Returns any member's table, for what they share, such as labels and classes."""
    return next(iter(members.values()))


def listed(names: Iterable[str]) -> str:
    """Joins names for a sentence: 'a, b, c'."""
    return ', '.join(map(str, names))


def stacked(members: Members) -> np.ndarray:
    """The probabilities of all members, `[M, N, C]`."""
    return np.stack([table.probs for table in members.values()])
