"""Reading and writing predictions tables.

`.npz` keeps everything. `.csv`, `.tsv` and `.txt` are DCASE's tab-separated file, which keeps
clips and probabilities only.
"""

import contextlib
import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from avsc_jax import metrics, scenes
from avsc_jax.runtime.files import read_arrays, some, whole, write_arrays
from avsc_jax.tables.predictions import FIELDS, Predictions

SUFFIXES = ('.npz', '.csv', '.tsv', '.txt')
_NAMES = ('filename', 'filename_audio', 'filename_video', 'filename_audio_video', 'aid')
_MEDIA = ('.wav', '.flac', '.mp3', '.ogg', '.m4a', '.mp4', '.mkv', '.mov', '.avi', '.webm')


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
    path = _existing(path)
    with _naming(path):
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


def truth(path: str | pathlib.Path) -> dict[str, str]:
    """Reads the true scene of each clip from a fold file, such as fold1_evaluate.csv.

    Args:
      path: a text file with a column of file names (filename_audio ...) and scene_label.

    Returns:
      clip_id -> name of the scene.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column is missing, the file holds predictions, or a clip has two scenes.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'fold1_evaluate.csv')
      ...     _ = path.write_text('filename_audio\\tscene_label\\naudio/a.wav\\tbus\\n')
      ...     truth(path)
      {'a': 'bus'}
    """
    path = _existing(path)
    labels: dict[str, str] = {}
    with _naming(path):
        header, rows = _rows(path)
        if 'scene_label' not in header:
            raise ValueError(f'the columns are {" ".join(header)}; scene_label must be there')
        if set(scenes.SCENES) <= set(header) and 'scene_pred' not in header:
            raise ValueError(
                'this is a file of predictions, whose scene_label is what a system guessed; give '
                'the fold file, such as fold1_evaluate.csv'
            )
        name, label = _name_column(header), header.index('scene_label')
        for row in rows:
            clip_id = _clip_id(row[name])
            if labels.setdefault(clip_id, row[label]) != row[label]:
                raise ValueError(
                    f'{clip_id} is {labels[clip_id]!r} and {row[label]!r}; a clip has one scene'
                )
    return labels


def with_truth(table: Predictions, labels: Mapping[str, str]) -> Predictions:
    """Returns the table with the labels that `truth` read.

    Args:
      table: any labels of its own are replaced.
      labels: clip_id -> name of the scene.

    Raises:
      ValueError: a clip has no label, or a label is none of the table's classes.

    Example:
      >>> probs = np.array([[0.9, 0.1]])
      >>> table = Predictions(['a'], [-1], [-1], probs, {'classes': ['bus', 'tram']})
      >>> with_truth(table, {'a': 'tram'}).label.tolist()
      [1]
    """
    clips = list(dict.fromkeys(table.clip_id.tolist()))
    missing = [clip for clip in clips if clip not in labels]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(clips)} clips have no true label: {some(missing)}; '
            'give a file that lists them all'
        )
    names = [labels[clip] for clip in table.clip_id.tolist()]
    return dataclasses.replace(table, label=_indices(names, table.meta['classes']))


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Adds the file's name to a ValueError raised inside."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def _is_npz(path: pathlib.Path) -> bool:
    if path.suffix not in SUFFIXES:
        raise ValueError(f'{path} must end in {", ".join(SUFFIXES)}, not {path.suffix!r}')
    return path.suffix == '.npz'


def _existing(path: str | pathlib.Path) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} is not a file; give the path of an existing table')
    return path


def _read_npz(path: pathlib.Path) -> Predictions:
    try:
        arrays = read_arrays(path)
        columns = {name: arrays[name] for name in FIELDS}
        meta = json.loads(arrays['meta'].item())
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'not a readable predictions table ({error}); write it again') from error
    return Predictions(**columns, meta=meta)


def _rows(path: pathlib.Path) -> tuple[list[str], list[list[str]]]:
    """Reads header and rows of a tab or comma separated file with any line ends."""
    lines = path.read_text(encoding='utf-8-sig').splitlines()
    if not lines:
        raise ValueError('the file is empty; it must start with a line of column names')
    header, *rows = csv.reader(lines, delimiter='\t' if '\t' in lines[0] else ',')
    rows = [row for row in rows if row]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f'data row {number} has {len(row)} fields for {len(header)} columns; '
                'every row must be complete'
            )
    return header, rows


def _name_column(header: list[str]) -> int:
    columns = [index for index, name in enumerate(header) if name in _NAMES]
    if not columns:
        raise ValueError(
            f'the columns are {" ".join(header)}; name the clips in one of {" ".join(_NAMES)}'
        )
    return columns[0]


def _clip_id(name: str) -> str:
    """'audio/airport-lisbon-1175-44106.wav' -> 'airport-lisbon-1175-44106'."""
    path = pathlib.PurePosixPath(name.strip().replace('\\', '/'))
    return path.stem if path.suffix.lower() in _MEDIA else path.name


def _read_text(path: pathlib.Path, classes: list[str]) -> Predictions:
    """Reads DCASE's file, or the course layout: scene_label is the truth, scene_pred the answer."""
    header, rows = _rows(path)
    name = _name_column(header)
    rest = [column for column in header if column not in (*_NAMES, 'scene_label', 'scene_pred')]
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
        label = _indices([row[header.index('scene_label')] for row in rows], classes)
    return Predictions(
        clip_id=np.array([_clip_id(row[name]) for row in rows], str),
        segment=np.full(len(rows), -1, np.int32),
        label=label,
        probs=_numbers(rows, [header.index(column) for column in classes]),
        meta={'classes': classes, 'granularity': 'clip', 'pooled': True},
    )


def _indices(names: list[str], classes: Sequence[str]) -> np.ndarray:
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ValueError(f'true labels {some(unknown)} are none of {" ".join(classes)}')
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in names], np.int32)


def _numbers(rows: list[list[str]], columns: list[int]) -> np.ndarray:
    probs = np.empty((len(rows), len(columns)))
    for number, row in enumerate(rows):
        try:
            probs[number] = [float(row[column]) for column in columns]
        except ValueError as error:
            raise ValueError(f'data row {number + 1}: {error}; give numbers') from error
    return probs
