"""Reading and writing predictions tables.

`.npz` keeps everything. `.csv`, `.tsv` and `.txt` are text files in DCASE's layout, which keep
clips, groups and probabilities only.
"""

import csv
import json
import pathlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from avsc_jax import metrics, scenes
from avsc_jax.runtime import json_files
from avsc_jax.runtime.files import read_arrays, some, whole, write_arrays
from avsc_jax.tables import parts, thresholds
from avsc_jax.tables.predictions import FIELDS, LABEL_COLUMNS, Predictions, cautioned, columns
from avsc_jax.tables.text_files import (
    GROUPS,
    NAMES,
    clip_names,
    column,
    existing,
    group_names,
    name_columns,
    naming,
    parse,
)  # fmt: skip
from avsc_jax.tables.truth_files import label_indices

SUFFIXES = ('.npz', '.csv', '.tsv', '.txt')
MAX_BYTES = 1 << 30  # of the arrays of .npz; a row takes about 1 KB when it is checked
KINDS = {'clip_id': 'U', 'group': 'U', 'meta': 'U', 'probs': 'fiub'}  # letters of their types
MAX_ROWS = 4_000_000  # frames of TAU are 1.2 million
META = {
    'classes': [str], 'kind?': str, 'granularity?': (str, None), 'split?': (str, None),
    'pooled?': (bool, None), 'calibrated?': (bool, None), 'config_hash?': (str, None),
    'versions?': dict, 'system?': str,
    'about?': {'warnings?': [str], 'weights?': {str: str}, 'data?': (str, None)},
    'learned?': {str: {str: float}}, 'thresholds?': thresholds.SHAPE,
}  # fmt: skip
# Columns beside the names and the classes
FACTS = (*LABEL_COLUMNS.values(), 'labels', 'scene_pred', 'start_s', 'end_s', *GROUPS)


def read(path: str | pathlib.Path, classes: Sequence[str] | None = None) -> Predictions:
    """Reads a predictions table; warns when rows do not sum to 1.

    Args:
      path: a file of one of SUFFIXES: `.npz`, DCASE's text file (with `tag_label` in place of
        `scene_label` where classes are independent), or the course layout, a text file with the
        true scene in `scene_label` and the predicted one in `scene_pred`. A text file's fields are
        separated by tabs, semicolons or commas. One with the columns `start_s` and `end_s` has a
        row for each window of a file.
      classes: the columns that a text file must have, in any order; `.npz` brings its own. None:
        the ten scenes if the file has them, else all columns of numbers in their order.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it holds no predictions table of these classes.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'clips.csv')
      ...     _ = path.write_text('filename\\tbus\\ttram\\naudio/a.wav\\t0.9\\t0.1\\n')
      ...     table = read(path, classes=['bus', 'tram'])
      >>> table.clip_id.tolist(), table.probs.tolist()
      (['audio/a.wav'], [[0.9, 0.1]])
    """
    path = existing(path)
    with naming(path):
        table = _read_npz(path) if _is_npz(path) else _read_text(path, classes)
    if table.meta.get('kind', 'exclusive') == 'exclusive':
        metrics.warn_of_sums(table.probs, str(path))
    return table


def check_classes(path: pathlib.Path, classes: Sequence[str]) -> None:
    """Raises ValueError if a text file at `path` would have a class named like another column.

    Example:
      >>> import pathlib
      >>> check_classes(pathlib.Path('clips.csv'), ['bus', 'tram'])
    """
    taken = [name for name in classes if name in (*NAMES, *FACTS)]
    if taken and not _is_npz(path):
        raise ValueError(f'{path} cannot hold a class called {taken[0]!r}; write .npz')


def write(table: Predictions, path: str | pathlib.Path, separator: str = '\t') -> None:
    """Writes a predictions table; the file appears once it is complete.

    Args:
      table: any table for `.npz`, one row a clip for a text file.
      path: a file of one of SUFFIXES; an existing one is replaced.
      separator: of the fields of a text file; DCASE's has tabs.

    Raises:
      ValueError: another suffix, or segments or names of classes that a text file cannot hold.

    Example:
      >>> import pathlib, tempfile
      >>> probs = np.array([[0.75, 0.25]])
      >>> table = Predictions(['a'], [-1], [0], probs, {'classes': ['bus', 'tram']})
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'clips.csv')
      ...     write(table, path)
      ...     lines = path.read_text().splitlines()
      >>> [line.split() for line in lines]
      [['filename', 'scene_label', 'bus', 'tram'], ['a', 'bus', '0.75', '0.25']]
    """
    path = pathlib.Path(path)
    if _is_npz(path):
        write_arrays(path, meta=np.array(json.dumps(table.meta)), **columns(table))
        return
    if np.any(table.segment != -1):
        raise ValueError(
            f'{path} can hold one row a clip and the table has segments; pool it first or '
            'write .npz'
        )
    classes = table.meta['classes']
    check_classes(path, classes)
    group = [] if table.group is None else [table.group.tolist()]
    likeliest = [parts.likeliest(row) for row in table.probs]
    true = _true(table)
    facts = zip(table.clip_id.tolist(), likeliest, *true, *group, strict=True)
    answer = LABEL_COLUMNS[table.meta.get('kind', 'exclusive')]
    with whole(path) as beside, beside.open('w', encoding='utf-8', newline='') as file:
        lines = csv.writer(file, delimiter=separator, lineterminator='\n')
        lines.writerow(
            ['filename', answer, *['labels'] * len(true), *['group'] * len(group), *classes]
        )
        for (name, best, *more), row in zip(facts, table.probs.tolist(), strict=True):
            lines.writerow([name, classes[best], *more, *map(repr, row)])


def _true(table: Predictions) -> list[list[str]]:
    """Returns the column of the labels that reach their thresholds, if the table has these."""
    if 'thresholds' not in table.meta:
        return []
    classes, limits = table.meta['classes'], table.meta['thresholds']['thresholds']
    return [[parts.joined(parts.true_labels(classes, row, limits)) for row in table.probs]]


def _is_npz(path: pathlib.Path) -> bool:
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path} must end in {", ".join(SUFFIXES)}, not {path.suffix!r}')
    return path.suffix == '.npz'


def _read_npz(path: pathlib.Path) -> Predictions:
    try:
        read = read_arrays(path, limit=MAX_BYTES)
        arrays = {name: read[name] for name in FIELDS} | {
            name: read[name] for name in ('group',) if name in read
        }
        for name, array in read.items():
            if name in KINDS and array.dtype.kind not in KINDS[name]:
                raise ValueError(f'its {name} is of {array.dtype}')
        meta = json_files.checked(read['meta'].item(), META, finite=False)
        if (rows := len(read['clip_id'])) > MAX_ROWS:
            raise ValueError(f'it has {rows:,} rows; at most {MAX_ROWS:,} are read')
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'not a readable predictions table ({error}); write it again') from error
    return Predictions(**arrays, meta=meta)


def _read_text(path: pathlib.Path, wanted: Sequence[str] | None) -> Predictions:
    """Reads DCASE's file, or the course layout: scene_label is the truth, scene_pred the answer."""
    header, rows = parse(path)
    clips = clip_names(rows, name_columns(header)[0])
    classes = _classes(header, wanted and [unicodedata.normalize('NFC', name) for name in wanted])

    def cells(name: str) -> list[str]:
        return [row[header.index(name)].strip() for row in rows]

    facts = {*header} - {*classes}
    has_truth = {'scene_pred', 'scene_label'} <= facts
    named = ('scene_pred', *LABEL_COLUMNS.values())
    answer = next((name for name in named if name in facts), None)
    kind = 'independent' if answer == LABEL_COLUMNS['independent'] else 'exclusive'
    has_windows = {'start_s', 'end_s'} <= facts
    of_groups = column(header, [name for name in GROUPS if name in facts])
    granularity = 'window' if has_windows else 'clip'
    unknown = np.full(len(rows), -1, np.int32)
    table = Predictions(
        clip_id=np.array(clips, str),
        segment=_places(clips, cells('start_s')) if has_windows else unknown,
        label=label_indices(cells('scene_label'), classes) if has_truth else unknown,
        probs=_numbers(rows, [header.index(name) for name in classes]),
        meta={'classes': classes, 'granularity': granularity, 'pooled': not has_windows}
        | ({'kind': kind} if kind == 'independent' else {}),
        group=None if of_groups is None else np.array(group_names(rows, of_groups), str),
    )
    wrong = _contradictions(table, cells(answer)) if answer else []
    return cautioned(table, [f'{path}: {answer} {line}' for line in wrong])


def _classes(header: list[str], wanted: Sequence[str] | None) -> list[str]:
    """Returns the classes among the columns, in the order of a table; see `read`.

    Raises:
      ValueError: columns of classes are missing, unknown or doubled.
    """
    own = [name for name in header if name in (wanted or ()) or name not in (*NAMES, *FACTS)]
    nearly = len({*scenes.SCENES} & {*own}) > len(scenes.SCENES) / 2
    classes = list(wanted or (scenes.SCENES if nearly else dict.fromkeys(own)))
    for problem, named in (
        ('missing', [name for name in classes if name not in own]),
        ('unknown', [name for name in own if name not in classes]),
        ('doubled', sorted({name for name in own if own.count(name) > 1})),
    ):
        if named:
            raise ValueError(
                f'{problem} class columns: {" ".join(named)}; each of {" ".join(classes)} must '
                'be there once' + ' (--classes names others)' * (wanted is None)
            )
    return classes


def _places(clips: Sequence[str], starts: Sequence[str]) -> np.ndarray:
    """Numbers the windows of each clip from 0 by their starts; equal ones get one number.

    Raises:
      ValueError: a start is no number.
    """
    try:
        windows = list(zip(clips, map(float, starts), strict=True))
    except ValueError as error:
        raise ValueError(f'start_s: {error}; give seconds') from error
    place: dict[tuple[str, float], int] = {}
    first: dict[str, int] = {}
    for number, window in enumerate(sorted({*windows})):
        place[window] = number - first.setdefault(window[0], number)
    return np.array([place[window] for window in windows], np.int32)


def _contradictions(table: Predictions, answers: Sequence[str]) -> list[str]:
    """Describes the rows whose written answer is not their likeliest class, in a sentence."""
    number = {name: index for index, name in enumerate(table.meta['classes'])}
    best = np.nan_to_num(table.probs).max(axis=1)
    wrong = [
        f'{clip} {answer!r}'
        for clip, answer, row, top in zip(
            table.clip_id.tolist(), answers, table.probs, best, strict=True
        )
        if answer and (answer not in number or row[number[answer]] < top)
    ]
    if not wrong:
        return []
    return [
        f'contradicts the probabilities in {len(wrong)} of {len(answers)} rows, and is not used: '
        f'{some(wrong)}'
    ]


def _numbers(rows: Sequence[Sequence[str]], places: Sequence[int]) -> np.ndarray:
    probs = np.empty((len(rows), len(places)))
    for number, row in enumerate(rows):
        try:
            probs[number] = [float(row[place]) for place in places]
        except ValueError as error:
            comma = any(',' in row[place] for place in places)
            advice = 'write numbers with a point, not with a comma' if comma else 'give numbers'
            raise ValueError(f'data row {number + 1}: {error}; {advice}') from error
    return probs
