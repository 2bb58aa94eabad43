"""Names of files as text, and lists of them in sentences."""

from collections.abc import Sequence


def printable(value: object) -> str:
    """A name from a file, without the control characters that could move a terminal's cursor."""
    return ''.join(c if c.isprintable() else '�' for c in str(value))


def some(items: Sequence, most: int = 3) -> str:
    """The first few of a list, for a sentence: `'a, b, c, ...'`."""
    return ', '.join(map(str, items[:most])) + ', ...' * (len(items) > most)
