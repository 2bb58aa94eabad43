"""The predictions table: a row of class probabilities for each frame, second or clip."""

import dataclasses
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from avsc_jax import metrics
from avsc_jax.runtime.files import some
from avsc_jax.tables import thresholds
from avsc_jax.types import Kind

FIELDS = ('clip_id', 'segment', 'label', 'probs')  # the arrays of every table
# `meta.kind` of a table -> the column of a text file that names each row's likeliest class
LABEL_COLUMNS: dict[Kind, str] = {'exclusive': 'scene_label', 'independent': 'tag_label'}


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of clips or of their segments; checked when it is made.

    Attributes:
      clip_id: [N] strings.
      segment: [N] int32, index of the frame or second in its clip; -1 is the whole clip. The pairs
        (clip_id, segment) are unique.
      label: [N] int32, true class; -1 is unknown. Of independent classes bool [N, C], whether each
        is true, or [N] of -1 where nothing is known.
      probs: [N, C] float64 in [0, 1]; rows need not sum to 1. Of independent classes, NaN is what a
        row has no answer for.
      meta: plain JSON values; `classes` (C names, the order of the columns) must be there. Their
        letters are composed ('ü' is one sign), as they are in text files. `kind` is 'exclusive',
        also where it is absent: one class is true; or 'independent': each is true or not by itself.
        These may have `thresholds`, see `tables.thresholds`.
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
        kind = self.meta.get('kind', 'exclusive')
        if kind not in LABEL_COLUMNS:
            raise ValueError(f"meta['kind'] is {kind!r}; it must be {' or '.join(LABEL_COLUMNS)}")
        if kind == 'exclusive':
            probs = metrics.check_probs(self.probs)
        else:  # NaN is allowed; all else is checked
            probs = np.asarray(self.probs, np.float64)
            metrics.check_probs(np.nan_to_num(probs))
        rows, classes = probs.shape
        names = [unicodedata.normalize('NFC', name) for name in self.meta.get('classes', ())]
        if len(names) != classes:
            raise ValueError(
                f'the table has {classes} columns of probabilities and {len(names)} class names; '
                "meta['classes'] must name each column"
            )
        if 'thresholds' in self.meta:
            thresholds.checked(self.meta['thresholds'], classes)
        object.__setattr__(self, 'meta', {**self.meta, 'classes': names})
        object.__setattr__(self, 'probs', probs)
        columns = {
            'clip_id': np.asarray(self.clip_id, str),
            'segment': _integers('segment', self.segment, np.iinfo(np.int32).max),
            'label': _labels(self.label, classes, kind),
        }
        if self.group is not None:
            columns['group'] = np.asarray(self.group, str)
        for name, column in columns.items():
            is_bool = column.dtype == bool  # of independent classes
            if column.shape != ((rows, classes) if is_bool else (rows,)):
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


def _labels(label: np.ndarray, classes: int, kind: Kind) -> np.ndarray:
    """Checks labels: indices [N] or, of independent classes, bool [N, C] or [N] of -1."""
    label = np.asarray(label)
    if kind == 'exclusive':
        return _integers('label', label, classes - 1)
    if label.dtype == bool and label.ndim == 2 and label.shape[1] == classes:
        return label
    if label.ndim == 1 and label.dtype.kind in 'iu' and (label == -1).all():
        return label.astype(np.int32)
    raise ValueError(
        f'label has shape {label.shape} and type {label.dtype}; of independent classes it must be '
        f'bool [rows, {classes}], whether each is true, or [rows] of -1 for unknown'
    )


def check_exclusive(table: Predictions, what: str) -> None:
    """Raises ValueError for a table of independent classes, which have no such thing.

    Args:
      what: what needs exclusive classes, such as 'a log loss'.

    Example:
      >>> meta = {'classes': ['Speech', 'Dog'], 'kind': 'independent'}
      >>> tags = Predictions(['a'], [-1], [-1], np.array([[0.9, 0.8]]), meta)
      >>> try:
      ...     check_exclusive(tags, 'a log loss')
      ... except ValueError as error:
      ...     print(str(error)[:41])
      the classes of the table are independent
    """
    if table.meta.get('kind', 'exclusive') != 'exclusive':
        raise ValueError(
            f'the classes of the table are independent (tags: meta.kind), and {what} needs classes '
            'of which one is right; give tables of scenes'
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
