"""Reads the labels of a table's rows: one class each, or several as in `night;crowd`.

Several labels stand in one column, separated by `;`, `|` or commas (in quotes, where commas
separate columns), or each has a column of its own with 0 and 1. A file may have several rows, each
with some of its labels. What could be read in two ways is an error.
"""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from avsc_jax.data import label_kinds
from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.runtime.files import some
from avsc_jax.types import Kind

SEPARATORS = (';', '|', ',')
TRUTH = {'0': False, '1': True, '0.0': False, '1.0': True}


class Row(NamedTuple):
    """A line below a table's header.

    Attributes:
      line: its number.
      cells: what a column means, such as 'label' -> its text.
      others: name of each other column -> its text.
    """

    line: int
    cells: dict[str, str]
    others: dict[str, str]


def read(table: Path, rows: Sequence[Row], kind: Kind) -> list[str | tuple[str, ...]]:
    """Returns the label of each row, or the rising tuple of its labels.

    Args:
      kind: 'exclusive' for one label each, 'independent' for several.

    Raises:
      ValueError: the labels can be read in no way, or in two.
    """
    texts = [row.cells.get('label', '') for row in rows]
    if kind == 'exclusive':
        _check_one(table, texts)
        return [*texts]
    if rows and 'label' not in rows[0].cells:
        return _of_columns(table, rows)
    separator = _separator(table, texts)
    return [tuple(sorted(_names(text, separator))) for text in texts]


def joined(table: Path, items: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """Joins the rows of each file, whose labels are all of theirs, and returns notes on them.

    Raises:
      ValueError: rows of one file have different groups, splits or files, or no file has two
        labels, as where they are separated by another sign.
    """
    of_clip: dict[str, list[Clip]] = collections.defaultdict(list)
    for item in items:
        of_clip[item.clip_id].append(item)
    made, several, unlike = [], [], []
    for clip_id, rows in of_clip.items():
        names = tuple(sorted({name for row in rows for name in row.labels}))
        made.append(rows[0]._replace(scene=names))
        several += [clip_id] * (len(rows) > 1)
        unlike += [clip_id] * (len({row._replace(scene='') for row in rows}) > 1)
    if unlike:
        raise ValueError(
            f'{len(unlike)} files of {table} have rows with different groups, splits or files: '
            f'{some(unlike)}; give each file one of them'
        )
    note = f'files in several rows have the labels of all of them ({len(several):,}): '
    names = sorted({name for item in made for name in item.labels})
    folded = collections.defaultdict(list)
    for name in names:
        folded[name.casefold()].append(name)
    alike = [' and '.join(same) for same in folded.values() if len(same) > 1]
    notes = [note + some(several)] * bool(several)
    notes += [f'labels that differ in case only stay apart: {some(alike)}'] * bool(alike)
    none = sum(not item.labels for item in made)
    return made, notes + [f'{none:,} files have no label: all are false'] * bool(none)


def check_several(table: Path, items: Sequence[Clip]) -> None:
    """Raises ValueError if no file of a column of labels has two of them.

    They may be separated by a sign that is not known, which would make one label of several.
    """
    if not any(len(item.labels) > 1 for item in items):
        names = sorted({name for item in items for name in item.labels})
        raise ValueError(
            f'no file of {table} has two labels (the labels are {some(names)}): separate them by '
            f'{" or ".join(SEPARATORS)}, or give a column of 0 and 1 for each label; or leave out '
            f'the token {label_kinds.TOKEN}, if each file has one class'
        )


def _names(text: str, separator: str) -> set[str]:
    """Splits a cell; empty parts, as of `a;;b` or `a;`, are none."""
    return {part.strip() for part in text.split(separator)} - {''}


def _separator(table: Path, texts: Sequence[str]) -> str:
    """Finds the sign between labels: `;` or `|` if there is one, else the comma.

    Raises:
      ValueError: there are two such signs, or labels with commas are known as labels each.
    """
    signs = [sign for sign in SEPARATORS if any(sign in text for text in texts)]
    if ';' in signs and '|' in signs:
        raise ValueError(f'{table} separates labels by both ; and |; use one of them')
    sign = signs[0] if signs else ','
    names = {name for text in texts for name in _names(text, sign)}
    for other in signs[1:]:
        for name in sorted(names):
            parts = _names(name, other)
            if len(parts) > 1 and parts <= names:
                raise ValueError(
                    f'{table} separates labels by {sign} in some rows and by {other} in others, '
                    f'such as {name!r}; use one of them'
                )
    return sign


def _of_columns(table: Path, rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Reads labels that have a column each, with 0 and 1.

    Raises:
      ValueError: there are no two such columns, or a column holds something else.
    """
    names = [*rows[0].others]
    for name in names:
        odd = [row for row in rows if row.others[name] not in TRUTH]
        if odd:
            raise ValueError(
                f'{table} has no column label, so that each other column is a label of 0 and 1, '
                f'and {name} holds {odd[0].others[name]!r} (line {odd[0].line}); name the column '
                'of labels label, or remove this one'
            )
    if len(names) < 2:
        raise ValueError(
            f'{table} has no column label, and {len(names)} columns of 0 and 1; give a column '
            'label, as night;crowd, or a column for each label, two or more'
        )
    return [tuple(sorted(name for name in names if TRUTH[row.others[name]])) for row in rows]


def _check_one(table: Path, texts: Sequence[str]) -> None:
    """Raises ValueError for labels that are several each, where a file has one.

    A sign that may be part of a name counts only where the parts are labels of other rows, too: all
    of them for commas, one for `;` and `|`.
    """
    cells = {*texts} - {''}
    for sign in SEPARATORS:
        parts = {cell: _names(cell, sign) for cell in cells}
        times = collections.Counter(name for names in parts.values() for name in names)
        enough = all if sign == ',' else any
        several = sorted(
            cell
            for cell, names in parts.items()
            if len(names) > 1 and enough(times[name] > 1 for name in names)
        )
        if several:
            raise ValueError(
                f'{table} gives files several labels ({some(several)}), and this config takes one '
                f'class a file; {label_kinds.ADVICE}'
            )
