"""The fitted decision stage of an ensemble: each step fitted on some places, scored on others.

The steps are names of `recipes.CALIBRATIONS`, in `config.decision`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from avsc_jax import ensemble, tables
from avsc_jax.ensemble import recipes
from avsc_jax.report import paired, scores
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.tables import mix
from avsc_jax.training import logistic

FILE = 'decision.json'
MOST_FOLDS = 5
FEWEST_PLACES = 5


class Decision(NamedTuple):
    """A fitted decision stage with the tables that it makes of an ensemble.

    Attributes:
      stages: name -> table of the mix and of the mix after each step, cross-fitted over places.
      fitted: the steps fitted to all rows, which classify new clips.
      worth: each stage's scores, and how they differ from the stage before; see `paired.row`.
      sentence: how it was made.
    """

    stages: dict[str, tables.Predictions]
    fitted: list[ensemble.FittedStep]
    worth: list[dict[str, Any]]
    sentence: str


def check(config: ConfigDict) -> None:
    """Raises ValueError for steps that are unknown, or that a recipe cannot have."""
    steps = recipes.check_calibrations('config.decision', [*config.get('decision', ())])
    if not steps:
        return
    recipe = config.recipe
    if recipes.RECIPES[recipe['name']].fits is not None:
        raise ValueError(
            f'config.recipe is {recipe["name"]}, whose weights are searched on the scored rows, so '
            'that config.decision would not be fitted on other places; use stacking with mean'
        )
    if recipe.get('clamp'):
        raise ValueError(
            f'config.recipe clamps ({recipe["clamp"]}) before config.decision is fitted; set its '
            "clamp to None, and end config.decision with 'clamp'"
        )


def decide(
    mixed: tables.Predictions, members: mix.Members, names: Sequence[str], title: str
) -> Decision:
    """Fits the steps to an ensemble's mix, over folds of places and on all rows.

    Args:
      mixed: the mix of the members.
      members: tables of the same rows, by role.
      names: the steps, in the order in which they are applied.
      title: what the ensemble is called.

    Raises:
      ValueError: a row has no true label, or there are too few places to fit on others.
    """
    if (mixed.label < 0).any():
        raise ValueError(
            f'{int((mixed.label < 0).sum())} of {len(mixed.label)} rows have no true label, which '
            'config.decision is fitted to; leave it out, or report on labelled clips'
        )
    groups, over = scores.groups(mixed)
    count = len({*groups.tolist()})
    cuts = logistic.cut(mixed.label, groups, MOST_FOLDS) if count >= FEWEST_PLACES else []
    if not cuts:
        raise ValueError(
            f'config.decision is fitted on some {over} and scored on others, and {count} {over} '
            f'are too few: it needs {FEWEST_PLACES} or more, and two of each class; leave '
            'config.decision out, or fit by avsc-score --fit-on'
        )
    probs, stacked = ensemble.renormalize(mixed.probs), mix.stacked(members)
    stages = ensemble.cross_fit(names, probs, stacked, mixed.label, cuts)
    shown = ['the mix', *(f'+ {name}' for name in names)]
    made = {
        f'{title}, {name}': dataclasses.replace(mixed, probs=stage, meta=dict(mixed.meta))
        for name, stage in zip(shown, stages, strict=True)
    }
    return Decision(
        stages=made,
        fitted=ensemble.fit_steps(names, probs, stacked, mixed.label),
        worth=[
            paired.row(name, stage, mixed.label, groups, stages[k - 1] if k else None)
            for k, (name, stage) in enumerate(zip(shown, stages, strict=True))
        ],
        sentence=f'then {", ".join(names)}, fitted over {len(cuts)} folds of {count} {over}, '
        'so that no row is scored by a fit that saw its place; new clips by a fit on all',
    )


def write(fitted: Sequence[ensemble.FittedStep], folder: RunFolder) -> None:
    """Writes the fitted steps into a run folder."""
    folder.write_json(FILE, ensemble.as_lists(fitted))


def read(folder: RunFolder, config: ConfigDict, *, classes: int) -> list[ensemble.FittedStep]:
    """Reads the fitted steps of an ensemble's run folder; none where its config has none."""
    names = [*config.get('decision', ())]
    if not names:
        return []
    members = len(config.get('roles') or config.groups)
    fitted = ensemble.from_lists(
        folder.read_json(FILE, [{'step': str, 'numbers': list}]), members=members, classes=classes
    )
    if [step.name for step in fitted] != names:
        raise ValueError(
            f'{folder.path / FILE} holds {mix.listed(step.name for step in fitted) or "no step"}, '
            f'and the config {mix.listed(names)}; make the ensemble again'
        )
    return fitted
