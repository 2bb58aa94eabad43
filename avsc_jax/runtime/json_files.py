"""Reads JSON that may be damaged or hostile: one parser and one check of its shape.

A shape is written as the JSON is: a type, `[shape]` for a list, `{'name': shape, 'name?': shape}`
for an object in which the names without a mark must be there and others may be, `{str: shape}` for
an object of any names, and a tuple for one of several shapes; `None` is null, and `float` takes
integers, too.
"""

import collections
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 24  # ten times the longest report; a value takes up to 30 times its text
MAX_DIGITS = 20
MAX_LEVELS = 40  # of lists and objects in each other; ours have up to eight
Shape = Any

_WORDS: dict[Any, str] = {
    str: 'a text',
    int: 'a whole number',
    float: 'a number',
    bool: 'true or false',
    dict: 'an object',
    list: 'a list',
    None: 'null',
}


def read(path: Path, shape: Shape = object, *, finite: bool = True) -> Any:
    """Reads a JSON file of this shape; see `parse` and `check`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, with its name, what was seen and what was expected.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} is not a file; check the path')
    with path.open('rb') as file:
        content = file.read(MAX_BYTES + 1)
    try:
        return checked(content, shape, finite=finite)
    except ValueError as error:
        raise ValueError(f'{path} is damaged ({error}); write it again') from error


def checked(content: bytes | str, shape: Shape, *, finite: bool = True) -> Any:
    """Parses JSON and returns it if it is of this shape; see `parse` and `check`."""
    value = parse(content, finite=finite)
    check(value, shape)
    return value


def parse(
    content: bytes | str, *, finite: bool = True, paths: bool = False, most_bytes: int = MAX_BYTES
) -> Any:
    """Returns the value of a JSON text; refuses what JSON does not have or programs stumble over.

    Args:
      finite: whether NaN and infinite numbers are refused, too.
      paths: whether texts may be paths of bytes that are not UTF-8, as `os.fsdecode` gives them.

    Raises:
      ValueError: the text is no JSON, not UTF-8, too long, nested too deeply, names something
        twice in an object, or holds numbers or letters that do not exist.

    Example:
      >>> parse('{"a": [1, 2.5]}')
      {'a': [1, 2.5]}
    """
    if len(content) > most_bytes:
        raise ValueError(f'it has more than {most_bytes:,} bytes')
    text = content.decode('utf-8-sig') if isinstance(content, bytes) else content
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError as error:
        raise ValueError(f'it is nested on more than {MAX_LEVELS} levels') from error
    for leaf in _leaves(value):
        if isinstance(leaf, str):
            # half of a character is an error, which says so
            leaf.encode(errors='surrogateescape' if paths else 'strict')
    if finite and not is_finite(value):
        raise ValueError('it holds a number that is not finite, such as NaN')
    return value


def is_finite(value: Any) -> bool:
    """Returns whether all numbers in a JSON value are finite."""
    return all(math.isfinite(leaf) for leaf in _leaves(value) if isinstance(leaf, float))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        ((twice, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f'it names {_shown(twice)} twice')
    return made


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f'it holds a whole number of {len(digits)} digits')
    return int(digits)


def _leaves(value: Any) -> Iterator[Any]:
    """Yields the names and plain values of a JSON value, level by level."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                yield from each
                below += each.values()
            elif isinstance(each, list):
                below += each
            else:
                yield each
        level, depth = below, depth + 1
        if depth > MAX_LEVELS:
            raise ValueError(f'it is nested on more than {MAX_LEVELS} levels')


def check(value: Any, shape: Shape, place: str = '') -> None:
    """Raises ValueError unless a JSON value is of a shape; see the head of this file.

    Args:
      place: where in a file the value stands, for the error.

    Example:
      >>> check({'size': [64, 48]}, {'size': [int], 'name?': str})
      >>> check({'size': [64, 'x']}, {'size': [int]})
      Traceback (most recent call last):
      ValueError: size[1] is 'x', and must be a whole number
    """
    shapes = shape if isinstance(shape, tuple) else (shape,)
    fitting = [each for each in shapes if _is_of_kind(value, each)]
    if not fitting:
        words = ' or '.join(_words(each) for each in shapes)
        raise ValueError(f'{place or "it"} is {_shown(value)}, and must be {words}')
    (first, *others) = fitting
    try:
        if isinstance(first, list):
            for index, each in enumerate(value):
                check(each, first[0], f'{place}[{index}]')
        elif isinstance(first, Mapping):
            for name, part in first.items():
                _check_part(value, name, part, place)
    except ValueError:
        if not others:
            raise
        check(value, tuple(others), place)


def _check_part(value: dict, name: Any, part: Shape, place: str) -> None:
    """Checks one name of an object's shape."""
    start = f'{place}.' if place else ''
    if name is str:
        for key, each in value.items():
            check(each, part, f'{start}{key!r:.40}')
    elif (key := name.removesuffix('?')) in value:
        check(value[key], part, f'{start}{key}')
    elif key == name:
        raise ValueError(f'{place or "it"} has no {name}')


def _is_of_kind(value: Any, shape: Shape) -> bool:
    if shape is None:
        return value is None
    if isinstance(shape, list | Mapping):
        return isinstance(value, list if isinstance(shape, list) else dict)
    if shape is float:
        shape = int | float
    return isinstance(value, shape) and (shape in (bool, object) or not isinstance(value, bool))


def _words(shape: Shape) -> str:
    if isinstance(shape, list):
        return 'a list'
    return _WORDS[dict if isinstance(shape, Mapping) else shape]


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f'{_WORDS[type(value)]} of {len(value)}'
    text = repr(value)
    return text if len(text) < 50 else f'{text[:45]}...'
