"""Reading and writing predictions tables.

`.npz` keeps everything. `.csv`, `.tsv` and `.txt` are DCASE's tab-separated file, which keeps
clips and probabilities only.
"""

import csv
import json
import pathlib
from collections.abc import Sequence

import numpy as np

from avsc_jax import metrics, scenes
from avsc_jax.runtime.files import whole, write_arrays
from avsc_jax.tables.predictions import FIELDS, Predictions
from avsc_jax.tables.text_files import NAMES, clip_id_of, existing, name_column, naming, parse
from avsc_jax.tables.truth_files import label_indices

SUFFIXES = ('.npz', '.csv', '.tsv', '.txt')


def read(path: str | pathlib.Path, classes: Sequence[str] = scenes.SCENES) -> Predictions:
    """Reads a predictions table; warns when rows do not sum to 1.

    Args:
      path: a file of one of SUFFIXES: `.npz`, DCASE's text file, or the course layout, a text file
        with the true scene in `scene_label` and the predicted one in `scene_pred`.
      classes: the columns that a text file must have, in any order; `.npz` brings its own.

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
      (['a'], [[0.9, 0.1]])
    """
    path = existing(path)
    with naming(path):
        table = _read_npz(path) if _is_npz(path) else _read_text(path, list(classes))
    metrics.warn_of_sums(table.probs, str(path))
    return table


def write(table: Predictions, path: str | pathlib.Path) -> None:
    """Writes a predictions table; the file appears once it is complete.

    Args:
      table: any table for `.npz`, one row a clip for a text file.
      path: a file of one of SUFFIXES; an existing one is replaced.

    Raises:
      ValueError: another suffix, or segments that a text file cannot hold.

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
        columns = {name: getattr(table, name) for name in FIELDS}
        write_arrays(path, meta=np.array(json.dumps(table.meta)), **columns)
    else:
        if np.any(table.segment != -1):
            raise ValueError(
                f'{path} can hold one row a clip and the table has segments; pool it first or '
                'write .npz'
            )
        classes = table.meta['classes']
        with whole(path) as beside, beside.open('w', encoding='utf-8', newline='') as file:
            lines = csv.writer(file, delimiter='\t', lineterminator='\n')
            lines.writerow(['filename', 'scene_label', *classes])
            for name, row in zip(table.clip_id.tolist(), table.probs, strict=True):
                lines.writerow([name, classes[row.argmax()], *map(repr, row.tolist())])


def _is_npz(path: pathlib.Path) -> bool:
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path} must end in {", ".join(SUFFIXES)}, not {path.suffix!r}')
    return path.suffix == '.npz'


def _read_npz(path: pathlib.Path) -> Predictions:
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in FIELDS}
            meta = json.loads(file['meta'].item())
    except Exception as error:  # zip, npy and JSON readers raise a dozen kinds on broken bytes
        raise ValueError(f'not a readable predictions table ({error}); write it again') from error
    return Predictions(**columns, meta=meta)


def _read_text(path: pathlib.Path, classes: list[str]) -> Predictions:
    """Reads DCASE's file, or the course layout: scene_label is the truth, scene_pred the answer."""
    header, rows = parse(path)
    name = name_column(header)
    rest = [column for column in header if column not in (*NAMES, 'scene_label', 'scene_pred')]
    for problem, columns in (
        ('missing', [column for column in classes if column not in rest]),
        ('unknown', [column for column in rest if column not in classes]),
        ('doubled', sorted({column for column in rest if rest.count(column) > 1})),
    ):
        if columns:
            raise ValueError(
                f'{problem} class columns: {" ".join(columns)}; each of {" ".join(classes)} must '
                'be there once'
            )
    label = np.full(len(rows), -1, np.int32)
    if {'scene_pred', 'scene_label'} <= set(header):
        label = label_indices([row[header.index('scene_label')] for row in rows], classes)
    return Predictions(
        clip_id=np.array([clip_id_of(row[name]) for row in rows], str),
        segment=np.full(len(rows), -1, np.int32),
        label=label,
        probs=_numbers(rows, [header.index(column) for column in classes]),
        meta={'classes': classes, 'granularity': 'clip', 'pooled': True},
    )


def _numbers(rows: list[list[str]], columns: list[int]) -> np.ndarray:
    probs = np.empty((len(rows), len(columns)))
    for number, row in enumerate(rows):
        try:
            probs[number] = [float(row[column]) for column in columns]
        except ValueError as error:
            raise ValueError(f'data row {number + 1}: {error}; give numbers') from error
    return probs
