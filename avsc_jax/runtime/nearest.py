"""Finds what a mistyped name most likely means, and makes the sentence about it.

Example:
  >>> check('select', 'log_los', ['accuracy', 'log_loss'])
  Traceback (most recent call last):
  ValueError: select is 'log_los'; it must be one of accuracy, log_loss (did you mean log_loss?)
"""

import contextlib
import difflib
import itertools
from collections.abc import Collection, Iterable
from pathlib import Path

CUTOFF = 0.6  # of difflib's ratio; below it names have little in common
LEAST_PREFIX = 3  # letters with which one known name alone begins
MOST_FILES = 5000  # of a folder that are compared


def names(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = CUTOFF) -> list[str]:
    """Returns the known names that are most like a name, whatever their case, the nearest first.

    A name that begins some known names is like these, however long they are.

    Example:
      >>> names('Demo', ['demo', 'tau']), names('resn', ['resnet50', 'swin_tiny'])
      (['demo'], ['resnet50'])
    """
    by_lower = {one.lower(): one for one in known if one}
    found = difflib.get_close_matches(name.lower(), by_lower, n=most, cutoff=cutoff)
    if not found and len(name) >= LEAST_PREFIX:
        found = [one for one in by_lower if one.startswith(name.lower())][:most]
    return [by_lower[one] for one in found]


def meant(name: str, known: Iterable[str]) -> str:
    """Returns the end of a sentence, ' (did you mean demo?)'; '' if no known name is like it."""
    found = names(name, known)
    return f' (did you mean {found[0]}?)' if found else ''


def check(what: str, value: object, known: Collection[str | None]) -> None:
    """Raises ValueError, with the nearest name, for a value that is none of the known ones.

    Args:
      what: what the value is, such as 'config.select', the begin of the sentence.
      known: in the order of the sentence.
    """
    if value in known:
        return
    listed = ', '.join("''" if name == '' else str(name) for name in known)
    like = meant(str(value), filter(None, known))
    raise ValueError(f'{what} is {value!r}; it must be one of {listed}{like}')


def path(missing: Path) -> str:
    """Returns the end of a sentence with the existing path that is most like a missing one, or ''.

    The first part of the path that does not exist is compared with what lies in its place.
    """
    with contextlib.suppress(OSError, ValueError):  # a name may be too long, or hold a zero byte
        parts = [*reversed([missing, *missing.parents])]
        place = next((part for part in parts if not part.exists()), None)
        if place is None or not place.parent.is_dir():
            return ''
        inside = itertools.islice(place.parent.iterdir(), MOST_FILES)
        siblings = sorted(one.name for one in inside if not one.name.startswith('.'))
        for name in names(place.name, siblings):
            found = place.with_name(name)
            whole = found / missing.relative_to(place)
            return f' (did you mean {whole if whole.exists() else found}?)'
    return ''
