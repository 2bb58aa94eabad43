"""Tables of several members become one: brought in line, mixed, calibrated on another split.

A group of members is a dictionary of name to table. What is done to the numbers is in
`avsc_jax.ensemble`.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from avsc_jax import tables
from avsc_jax.ensemble.recipes import CALIBRATIONS, RECIPES, best_weights

Members = Mapping[str, tables.Predictions]


def alike(members: Members, pooled: bool = False) -> dict[str, tables.Predictions]:
    """The same items in the same order in all; clips where frames would meet seconds."""
    kinds = {table.meta.get('granularity') for table in members.values()}
    found = list(members.values())
    if pooled or len(kinds) > 1:
        found = [tables.pool(table) for table in found]
    found = tables.aligned(found)
    label = np.max([table.label for table in found], axis=0)  # -1 where none knows it
    found = [dataclasses.replace(table, label=label) for table in found]
    return dict(zip(members, found, strict=True))


def paired(fit: Members, members: Members, by_name: bool) -> dict[str, tables.Predictions]:
    """The members as they are on the split to fit on, found by name or else by order."""
    if len(fit) != len(members) or (by_name and fit.keys() != members.keys()):
        raise ValueError(
            f'the tables to fit on are {listed(fit)}, those to report on {listed(members)}; give '
            'the same members in both'
        )
    fit = fit if by_name else dict(zip(members, fit.values(), strict=True))
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
    """The weights in steps of 0.05 that are best on these tables."""
    return best_weights(stacked(fit), first(fit).label)


def mix_halves(members: Members, half: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The weighted mean whose weights never saw what they mix, and the weights of both halves.

    Args:
      members: tables of the same items.
      half: 0 or 1 for each row; its rows get the weights that are best on the other's.
    """
    probs, found = np.empty_like(first(members).probs), []
    for number in (0, 1):
        mine = half == number
        found.append(fit_weights(_rows(members, ~mine)))
        probs[mine] = mix(_rows(members, mine), 'weights', found[-1], clamp=None)
    return probs, found


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
    """Mixes the probabilities of members: every decision of score, ensembles and predict.

    Args:
      probs: member, or role of the recipe -> `[N, C]`.
      recipe: `name`, a key of RECIPES, and options of its function.
      classes: the C names in the order of the columns.
      weights: one a member; None: all alike.
      options: of the recipe's function, in place of the recipe's own.

    Returns:
      Probabilities `[N, C]`; a clamped row need not sum to one.
    """
    options = {**recipe, **options}
    chosen = RECIPES[options.pop('name')]
    return chosen.function(probs, classes=classes, weights=weights, **options)


def fit_calibration(
    kind: str, probs: np.ndarray, fit: Members
) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """A calibration that is best for this mix of the tables to fit on, and its numbers as text."""
    groups, adjust = CALIBRATIONS[kind](probs, first(fit).label)
    shown = ' | '.join(' '.join(f'{x:.4g}' for x in np.atleast_1d(group)) for group in groups)
    # NaN in a clamp keeps what it finds.
    return (lambda mixed: adjust(mixed, *groups)), f'{kind} {shown.replace("nan", "kept")}'


def overlap(fit: Members, members: Members) -> str | None:
    """A warning when clips are fitted on and reported on."""
    reported = {*first(members).clip_id}
    both = len(reported & {*first(fit).clip_id})
    return f'fitted on {both} of the {len(reported)} clips it is reported on' if both else None


def about(members: Members, steps: str, cautions: Iterable[str]) -> dict[str, object]:
    """What the tables' own `about` says of data, protocol, weights and warnings, joined."""
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
    """Any member's table: what they share, such as labels and classes, can be read off it."""
    return next(iter(members.values()))


def listed(names: Iterable[str]) -> str:
    """'a, b, c'."""
    return ', '.join(map(str, names))


def _rows(members: Members, keep: np.ndarray) -> dict[str, tables.Predictions]:
    """Some rows of every member."""
    columns = ('clip_id', 'segment', 'label', 'probs')
    return {
        name: dataclasses.replace(table, **{c: getattr(table, c)[keep] for c in columns})
        for name, table in members.items()
    }


def stacked(members: Members) -> np.ndarray:
    """The probabilities of all members, `[M, N, C]`."""
    return np.stack([table.probs for table in members.values()])
