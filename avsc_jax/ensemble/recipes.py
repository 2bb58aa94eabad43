"""How several members become one, and how that is calibrated: RECIPES and CALIBRATIONS by name.

Neither numpy nor JAX is loaded before a function is called: `score --help` lists the names.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from avsc_jax import ensemble
from avsc_jax.runtime import nearest, options


def average(probs: Mapping[str, Any], **options: Any) -> Any:
    """Applies `ensemble.average`; options that other recipes have are left out."""
    known = ('weights', 'geometric', 'clamp')
    return ensemble.average([*probs.values()], **{k: v for k, v in options.items() if k in known})


def hitachi(probs: Mapping[str, Any], *, weights: Any = None, **options: Any) -> Any:
    """Applies `ensemble.hitachi`, the decision stage of Okazaki 2021; it weighs by itself."""
    return ensemble.hitachi(**{**probs, **options})


def best_weights(members: Any, labels: Any) -> Any:
    """The weights in steps of 0.05 that are best on members `[M, N, C]`."""
    return ensemble.search_weights(members, labels)[0]


class Recipe(NamedTuple):
    """How the probabilities of several members become one.

    Attributes:
      words: what it is called in a sentence.
      function: `(probs by member, *, classes, weights, **options) -> [N, C]`, see `mix.fuse`.
      roles: the members that it takes, by name; none: any.
      optional: those of the roles that may be missing.
      fits: `(members [M, N, C], labels [N])` -> weights, one a member; None: nothing is fitted.
      weighs: whether it takes weights.
    """

    words: str
    function: Callable[..., Any]
    roles: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    fits: Callable[[Any, Any], Any] | None = None
    weighs: bool = True


RECIPES = {
    'mean': Recipe('mean', average),
    'geometric': Recipe('geometric mean', partial(average, geometric=True)),
    'hitachi': Recipe(
        'decision stage', hitachi, ('audio', 'visual', 'clip'), ('clip',), weighs=False
    ),
    'weights': Recipe('weighted mean', average, fits=best_weights),
}


def check(where: str, recipe: Mapping[str, Any]) -> None:
    """Raises ValueError for an unknown recipe, or for an option that none has.

    Args:
      where: what the recipe is called in the sentence.
      recipe: its name and options; `paper`, the weights in the paper, is only shown.
    """
    name = str(recipe.get('name'))
    nearest.check(where, name, RECIPES)
    functions = (ensemble.average, ensemble.hitachi, RECIPES[name].function)
    known = {option for function in functions for option in options.of(function)} - {'classes'}
    options.check_names(where, known | {'weights'}, {*recipe} - {'name', 'paper'})


class Calibration(NamedTuple):
    """A step that is fitted to a mix of members, and then applied to others.

    Attributes:
      words: what it is, in a sentence.
      fit: `(probs [N, C], members [M, N, C], labels [N])` -> its numbers, a sequence.
      apply: `(probs, members, *numbers)` -> `[N, C]`; rows of a clamp need not sum to one.
    """

    words: str
    fit: Callable[[Any, Any, Any], Sequence[Any]]
    apply: Callable[..., Any]


def _fit_temperature(probs: Any, members: Any, labels: Any) -> Sequence[Any]:
    return (ensemble.fit_temperature(probs, labels),)


def _temperature(probs: Any, members: Any, temperature: Any) -> Any:
    return ensemble.temperature_scale(probs, temperature)


def _fit_vector(probs: Any, members: Any, labels: Any) -> Sequence[Any]:
    return ensemble.fit_vector_scale(probs, labels)


def _vector(probs: Any, members: Any, scale: Any, bias: Any) -> Any:
    return ensemble.vector_scale(probs, scale, bias)


def _fit_stacking(probs: Any, members: Any, labels: Any) -> Sequence[Any]:
    return ensemble.fit_stacking(probs, members, labels)


def _stacking(probs: Any, members: Any, kernel: Any, bias: Any) -> Any:
    return ensemble.stack(probs, members, kernel, bias)


def _fit_clamp(probs: Any, members: Any, labels: Any) -> Sequence[Any]:
    return ensemble.fit_clamp(probs, labels)


def _clamp(probs: Any, members: Any, edges: Any, values: Any) -> Any:
    return ensemble.piecewise_clamp(probs, edges, values)


CALIBRATIONS = {
    'temperature': Calibration('one temperature for all classes', _fit_temperature, _temperature),
    'vector': Calibration('a scale and a bias for each class', _fit_vector, _vector),
    'stacking': Calibration(
        "a logistic regression on the members' log-probabilities", _fit_stacking, _stacking
    ),
    'clamp': Calibration(
        'the edges and values of a clamp like Okazaki 2021, Eq. (1)', _fit_clamp, _clamp
    ),
}


def check_calibrations(where: str, names: Sequence[str]) -> list[str]:
    """Returns the names as a list, or raises ValueError for an unknown or a repeated one."""
    for name in names:
        nearest.check(where, name, CALIBRATIONS)
    if len({*names}) < len(names):
        raise ValueError(f'{where} is {", ".join(names)}; give each step once')
    return [*names]
