"""The predictions table: a row of class probabilities for each frame, second or clip."""

import dataclasses
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from avsc_jax import metrics
from avsc_jax.runtime.files import some

FIELDS = ('clip_id', 'segment', 'label', 'probs')  # the arrays of every table


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of clips or of their segments; checked when it is made.

    Attributes:
      clip_id: [N] strings.
      segment: [N] int32, index of the frame or second in its clip; -1 is the whole clip. The pairs
        (clip_id, segment) are unique.
      label: [N] int32, true class; -1 is unknown.
      probs: [N, C] float64 in [0, 1]; rows need not sum to 1.
      meta: plain JSON values; `classes` (C names, the order of the columns) must be there. Their
        letters are composed ('ü' is one sign), as they are in text files.
      group: [N] strings, the recording location or another group that clips share, '' where it is
        unknown; None: the table names no groups. Intervals are drawn over groups.
    """

    clip_id: np.ndarray
    segment: np.ndarray
    label: np.ndarray
    probs: np.ndarray
    meta: dict
    group: np.ndarray | None = None

    def __post_init__(self) -> None:
        probs = metrics.check_probs(self.probs)
        rows, classes = probs.shape
        names = [unicodedata.normalize('NFC', name) for name in self.meta.get('classes', ())]
        if len(names) != classes:
            raise ValueError(
                f'the table has {classes} columns of probabilities and {len(names)} class names; '
                "meta['classes'] must name each column"
            )
        object.__setattr__(self, 'meta', {**self.meta, 'classes': names})
        object.__setattr__(self, 'probs', probs)
        columns = {
            'clip_id': np.asarray(self.clip_id, str),
            'segment': _integers('segment', self.segment, np.iinfo(np.int32).max),
            'label': _integers('label', self.label, classes - 1),
        }
        if self.group is not None:
            columns['group'] = np.asarray(self.group, str)
        for name, column in columns.items():
            if column.shape != (rows,):
                raise ValueError(
                    f'{name} has shape {column.shape} beside {rows} rows of probabilities; '
                    'give one value a row'
                )
            object.__setattr__(self, name, column)
        seen: set[tuple[str, int]] = set()
        twice = []
        for key in keys_of(self):
            if key in seen:
                twice.append(key)
            seen.add(key)
        if twice:
            raise ValueError(
                f'{len(twice)} rows repeat the clip and segment of another: {some(twice)}; '
                'give each once'
            )


def _integers(name: str, values: np.ndarray, largest: int) -> np.ndarray:
    values = np.asarray(values)
    bad = values if values.dtype.kind not in 'iu' else values[(values < -1) | (values > largest)]
    if bad.size:
        raise ValueError(
            f'{name} must hold integers from -1 to {largest}, not {bad.flat[0]!r} ({values.dtype})'
        )
    return values.astype(np.int32)


def keys_of(table: Predictions) -> list[tuple[str, int]]:
    """Clip and segment of each row."""
    return list(zip(table.clip_id.tolist(), table.segment.tolist(), strict=True))


def columns(table: Predictions) -> dict[str, np.ndarray]:
    """The arrays of a table by name: FIELDS, and `group` if it names groups."""
    names = FIELDS if table.group is None else (*FIELDS, 'group')
    return {name: getattr(table, name) for name in names}


def rows(table: Predictions, index: np.ndarray | slice, **changed: Any) -> Predictions:
    """Picks rows of a table, in the order of the index.

    Args:
      index: row numbers, a boolean for each row, or a slice.
      changed: fields of the result that are not those of the rows.

    Example:
      >>> probs = np.array([[0.9, 0.1], [0.4, 0.6]])
      >>> table = Predictions(['a', 'b'], [-1, -1], [0, 1], probs, {'classes': ['bus', 'tram']})
      >>> rows(table, table.label == 1).clip_id.tolist()
      ['b']
    """
    picked = {name: column[index] for name, column in columns(table).items()}
    return Predictions(**{'meta': table.meta, **picked, **changed})


def joined(tables: Sequence[Predictions]) -> Predictions:
    """Puts the rows of several tables below each other, under the first one's header.

    Example:
      >>> probs = np.array([[0.9, 0.1]])
      >>> first, second = (
      ...     Predictions(['a'], [k], [0], probs, {'classes': ['bus', 'tram']}) for k in (0, 1))
      >>> joined([first, second]).segment.tolist()
      [0, 1]
    """
    parts = [columns(table) for table in tables]
    names = [name for name in parts[0] if all(name in part for part in parts)]
    stacked = {name: np.concatenate([part[name] for part in parts]) for name in names}
    return Predictions(**stacked, meta=tables[0].meta)


def cautioned(table: Predictions, lines: Sequence[str]) -> Predictions:
    """Adds warnings to those that a table brings into reports.

    Example:
      >>> probs = np.array([[0.9, 0.1]])
      >>> table = Predictions(['a'], [-1], [0], probs, {'classes': ['bus', 'tram']})
      >>> cautioned(table, ['10 clips are missing']).meta['about']
      {'warnings': ['10 clips are missing']}
    """
    if not lines:
        return table
    about = dict(table.meta.get('about', {}))
    about['warnings'] = list(dict.fromkeys([*about.get('warnings', ()), *lines]))
    return dataclasses.replace(table, meta={**table.meta, 'about': about})
