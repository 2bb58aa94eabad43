"""Checks the options that a config gives a function by name."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from avsc_jax.runtime import nearest

MAX_NUMBER = 200_000  # above the highest sample rate; widths and counts are far below


def of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns a function's options by name: the parameters that can only be given by name."""
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def check(name: str, function: Callable[..., Any], given: Iterable[str]) -> None:
    """Raises ValueError for an unknown option of a function, or a missing one without a default.

    Args:
      name: what the function is called in the sentence.
      given: the names of the options that it would be called with.
    """
    known = of(function)
    check_names(name, known, given)
    missing = [each for each, p in known.items() if p.default is p.empty and each not in given]
    if missing:
        raise ValueError(f'{name} needs the option {missing[0]}, which is not given')


def check_names(name: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Raises ValueError, with the nearest known name, for an option that is not known."""
    known = sorted(known)
    unknown = sorted({*given} - {*known})
    if not unknown:
        return
    its = f'its options are {", ".join(known)}' if known else 'it has no options'
    raise ValueError(
        f'{name} has no option {", ".join(unknown)}; {its}{nearest.meant(unknown[0], known)}'
    )


def check_numbers(name: str, given: Mapping[str, Any], most: int = MAX_NUMBER) -> None:
    """Raises ValueError for an option that holds a number above `most`, in lists as well.

    Sizes of networks and front ends may come from a run folder of somebody else: one of a billion
    layers would be made for hours before anything else could be checked.
    """
    for option, value in given.items():
        inside = [value]
        while inside:
            each = inside.pop()
            if isinstance(each, Mapping):
                inside += each.values()
            elif isinstance(each, list | tuple):
                inside += each
            elif isinstance(each, int | float) and not abs(each) <= most:
                raise ValueError(
                    f'{name} has the option {option} with the number {each:g}; it must be at most '
                    f'{most:,}'
                )
