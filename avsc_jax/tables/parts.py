"""Classes in parts, such as tags of sound and tags of pictures, of which a row may miss some.

A part that a row misses is NaN there: means leave it out, and no other value stands for it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from avsc_jax.types import Kind


class Part(NamedTuple):
    """Classes that are answered together.

    Attributes:
      title: what they are, in words; '' where they are all classes.
      classes: their names, as in the order of all probabilities.
      prefix: with which each name begins, so that names of other parts differ.
    """

    title: str
    classes: tuple[str, ...]
    prefix: str = ''

    def short(self, name: str) -> str:
        """Returns the name of a class without the prefix."""
        return name.removeprefix(self.prefix)


def of(system: Any) -> tuple[Part, ...]:
    """Returns the classes of a system in parts; all are one part where it has no `parts`."""
    return getattr(system, 'parts', ()) or (Part('', tuple(system.classes)),)


def kind_of(system: Any) -> Kind:
    """Returns the kind of a system's classes: 'exclusive' where it has no `kind`."""
    return getattr(system, 'kind', 'exclusive')


def thresholds_of(system: Any) -> tuple[float, ...]:
    """Returns the C values from which on labels are called true; none where they are not known."""
    return tuple(getattr(system, 'thresholds', ()))


def true_labels(names: Sequence[str], probs: np.ndarray, thresholds: Sequence[float]) -> list[str]:
    """Lists the names of the labels that reach their thresholds, the likeliest first."""
    reached = dict(zip(names, np.asarray(probs) >= np.asarray(thresholds), strict=True))
    return [name for name, _ in ranked(names, probs) if reached[name]]


def joined(names: Sequence[str]) -> str:
    """Joins labels for a cell of a table: 'night;crowd'."""
    return ('|' if any(';' in name for name in names) else ';').join(names)


def mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Averages rows `[N, C]` over those that do not miss a value; NaN where all do."""
    values = np.asarray(rows)
    known = ~np.isnan(values)
    if known.all():
        return values.mean(axis=0)
    sums = np.where(known, values, 0).sum(axis=0)
    return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)


def largest(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the largest value of each column of `[N, C]` that is not missing; else NaN."""
    values = np.asarray(rows)
    most = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    return np.where(np.isneginf(most), np.nan, most)


def likeliest(probs: np.ndarray) -> int:
    """Returns the index of the largest probability that is not missing, the first of equals."""
    return int(np.where(np.isnan(probs), -1, probs).argmax())


def ranked(names: Sequence[str], probs: np.ndarray) -> list[tuple[str, float]]:
    """Lists names and probabilities, the likeliest first; those that are missing are left out."""
    order = np.argsort(-np.asarray(probs), kind='stable')
    return [(names[c], float(probs[c])) for c in order if not np.isnan(probs[c])]


def split(parts: Sequence[Part], probs: np.ndarray) -> Iterator[tuple[Part, np.ndarray]]:
    """Yields each part with its probabilities, in the order of the columns."""
    start = 0
    for part in parts:
        end = start + len(part.classes)
        yield part, probs[start:end]
        start = end


def best(parts: Sequence[Part], probs: np.ndarray, count: int) -> list[tuple[Part, str, float]]:
    """Lists the `count` likeliest classes of each part that is not missing."""
    return [
        (part, name, value)
        for part, own in split(parts, probs)
        for name, value in ranked(part.classes, own)[:count]
    ]
