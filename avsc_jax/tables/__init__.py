"""Predictions tables: one row of class probabilities a frame, second or clip, and their files.

`.npz` keeps everything. `.csv`, `.tsv` and `.txt` are the tab-separated DCASE file, which keeps
clips and probabilities only. Training ends by writing a table, scoring starts by reading some.
"""

import contextlib
import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from avsc_jax import ensemble, metrics, scenes

SUFFIXES = ('.npz', '.csv', '.tsv', '.txt')
_NAMES = ('filename', 'filename_audio', 'filename_video', 'filename_audio_video', 'aid')
_MEDIA = ('.wav', '.flac', '.mp3', '.ogg', '.m4a', '.mp4', '.mkv', '.mov', '.avi', '.webm')
_FIELDS = ('clip_id', 'segment', 'label', 'probs')


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of clips or of their segments; checked when it is made.

    Attributes:
      clip_id: [N] strings.
      segment: [N] int32, index of the frame or second in its clip; -1 is the whole clip. The pairs
        (clip_id, segment) are unique.
      label: [N] int32, true class; -1 is unknown.
      probs: [N, C] float64 in [0, 1]; rows need not sum to 1.
      meta: plain JSON values; `classes` (C names, the order of the columns) must be there.
    """

    clip_id: np.ndarray
    segment: np.ndarray
    label: np.ndarray
    probs: np.ndarray
    meta: dict

    def __post_init__(self):
        probs = metrics.check_probs(self.probs)
        rows, classes = probs.shape
        names = list(self.meta.get('classes', ()))
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
        for name, column in columns.items():
            if column.shape != (rows,):
                raise ValueError(
                    f'{name} has shape {column.shape} beside {rows} rows of probabilities; '
                    'give one value a row'
                )
            object.__setattr__(self, name, column)
        seen = set()
        twice = [key for key in _keys(self) if key in seen or seen.add(key)]
        if twice:
            raise ValueError(
                f'{len(twice)} rows repeat the clip and segment of another: {_some(twice)}; '
                'each must be there once'
            )


def _integers(name: str, values: np.ndarray, largest: int) -> np.ndarray:
    values = np.asarray(values)
    bad = values if values.dtype.kind not in 'iu' else values[(values < -1) | (values > largest)]
    if bad.size:
        raise ValueError(
            f'{name} must hold integers from -1 to {largest}, not {bad.flat[0]!r} ({values.dtype})'
        )
    return values.astype(np.int32)


def _keys(table: Predictions) -> list[tuple[str, int]]:
    return list(zip(table.clip_id.tolist(), table.segment.tolist(), strict=True))


def _some(items: Sequence) -> str:
    return ', '.join(str(item) for item in items[:3]) + (', ...' if len(items) > 3 else '')


def read(path: str | pathlib.Path, classes: Sequence[str] = scenes.SCENES) -> Predictions:
    """Reads `.npz`, the DCASE file or the course layout; warns when rows do not sum to 1.

    Args:
      path: the suffix chooses the format.
      classes: the columns that a text file must have, in any order; `.npz` brings its own.
    """
    path = _existing(path)
    with _naming(path):
        table = _read_npz(path) if _is_npz(path) else _read_text(path, list(classes))
    metrics.warn_of_sums(table.probs, str(path))
    return table


def write(table: Predictions, path: str | pathlib.Path) -> None:
    """Writes the table beside `path` and renames it; the suffix chooses the format."""
    path = pathlib.Path(path)
    beside = path.with_name(path.name + '.part')
    if _is_npz(path):
        with beside.open('wb') as file:
            columns = {name: getattr(table, name) for name in _FIELDS}
            np.savez(file, meta=np.array(json.dumps(table.meta)), **columns)
    else:
        if np.any(table.segment != -1):
            raise ValueError(
                f'{path} can hold one row a clip and the table has segments; pool it first or '
                'write .npz'
            )
        classes = table.meta['classes']
        with beside.open('w', encoding='utf-8', newline='') as file:
            lines = csv.writer(file, delimiter='\t', lineterminator='\n')
            lines.writerow(['filename', 'scene_label', *classes])
            for name, row in zip(table.clip_id.tolist(), table.probs, strict=True):
                lines.writerow([name, classes[row.argmax()], *map(repr, row.tolist())])
    beside.replace(path)


def truth(path: str | pathlib.Path) -> dict[str, str]:
    """True scene name of every clip_id in a fold file (columns filename_audio ... scene_label)."""
    path = _existing(path)
    labels = {}
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
    """The same table with labels from `truth(path)`; an error when a clip or class is missing."""
    clips = list(dict.fromkeys(table.clip_id.tolist()))
    missing = [clip for clip in clips if clip not in labels]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(clips)} clips have no true label: {_some(missing)}; '
            'give a file that lists them all'
        )
    names = [labels[clip] for clip in table.clip_id.tolist()]
    return dataclasses.replace(table, label=_indices(names, table.meta['classes']))


def pool(table: Predictions, rule: str = 'mean') -> Predictions:
    """One row a clip, of all its rows; clips in the order of their first row, segment -1.

    Args:
      rule: 'mean' of the probabilities, or their 'product', divided by its sum: its largest class
        is the one that the baseline of DCASE 2021, task 1B, decides for.
    """
    if rule not in _RULES:
        raise ValueError(f'no rule of pooling is called {rule!r}; give one of {" ".join(_RULES)}')
    clip_id, first, group = np.unique(table.clip_id, return_index=True, return_inverse=True)
    unlike = np.unique(table.clip_id[table.label != table.label[first][group]])
    if len(unlike):
        raise ValueError(
            f'the rows of {len(unlike)} clips have several labels: {_some(unlike.tolist())}; '
            'a clip has one scene'
        )
    order = np.argsort(first)
    return Predictions(
        clip_id=clip_id[order],
        segment=np.full(len(order), -1, np.int32),
        label=table.label[first[order]],
        probs=_RULES[rule](table.probs, group, len(order))[order],
        meta={**table.meta, 'granularity': 'clip', 'pooled': True},
    )


def _product(probs: np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Products of the rows of each group, divided by their sums."""
    logs = np.log(np.maximum(probs, np.finfo(np.float32).tiny))  # what softmax rounds to 0 is less
    counts = np.bincount(group, minlength=num_groups)
    logs = ensemble.pool(logs, group, num_groups) * counts[:, None]
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


_RULES = {'mean': ensemble.pool, 'product': _product}


def seconds(table: Predictions, count: int = 10) -> Predictions:
    """One frame a second: of a clip of T frames, second k of `count` has frame int(k T / count).

    So the baseline of DCASE 2021, task 1B, scores one-second items. Clips in the order of their
    first row; the segment of a row is its second.
    """
    _, first, group, frames = np.unique(
        table.clip_id, return_index=True, return_inverse=True, return_counts=True
    )
    rows = np.lexsort((table.segment, group))  # clip by clip, frame by frame
    starts = np.cumsum(frames) - frames
    uneven = rows[table.segment[rows] != np.arange(len(rows)) - np.repeat(starts, frames)]
    if len(uneven):
        raise ValueError(
            f'the frames of {_some(np.unique(table.clip_id[uneven]).tolist())} are not numbered '
            '0, 1, 2 ...; give a table of frames, all that a clip has'
        )
    chosen = starts[:, None] + np.arange(count)[None] * frames[:, None] // count
    rows = rows[chosen[np.argsort(first)].ravel()]
    return Predictions(
        clip_id=table.clip_id[rows],
        segment=np.tile(np.arange(count), len(first)),
        label=table.label[rows],
        probs=table.probs[rows],
        meta={**table.meta, 'granularity': 'second'},
    )


def grouped(table: Predictions, count: int) -> Predictions:
    """One row for each `count` rows, their mean: the seconds of a table of frames.

    The rows of a clip stand together, frame by frame; segment k is of frames k * count and on.
    """
    first = slice(None, None, count)
    places = table.segment - np.arange(len(table.segment)) % count
    if len(places) % count or (places != np.repeat(places[first], count)).any():
        raise ValueError(
            f'the rows are not {count} frames of each second, one after the other: was the sound '
            'cut into pieces of another length?'
        )
    return Predictions(
        clip_id=table.clip_id[first],
        segment=(table.segment[first] // count).astype(np.int32),
        label=table.label[first],
        probs=table.probs.reshape(-1, count, table.probs.shape[1]).mean(axis=1),
        meta={**table.meta, 'granularity': 'second'},
    )


def aligned(tables: Iterable[Predictions]) -> list[Predictions]:
    """The tables with rows in the first one's order; an error unless they hold the same items."""
    first, *others = tables
    keys = _keys(first)
    result = [first]
    for number, table in enumerate(others, start=2):
        for name in ('classes', 'granularity'):
            ours, theirs = first.meta.get(name), table.meta.get(name)
            if ours != theirs:
                raise ValueError(
                    f'table {number} has the {name} {_list(theirs)}, the first has {_list(ours)}; '
                    'give tables of one kind'
                )
        row = {key: index for index, key in enumerate(_keys(table))}
        unlike = row.keys() ^ set(keys)
        if unlike:
            raise ValueError(
                f'table {number} has {len(row)} rows, the first has {len(keys)}, and {len(unlike)} '
                f'are in one only: {_some(sorted(unlike))}; give tables of the same items'
            )
        order = [row[key] for key in keys]
        moved = {name: getattr(table, name)[order] for name in _FIELDS}
        known = (first.label >= 0) & (moved['label'] >= 0)
        clash = np.flatnonzero(known & (first.label != moved['label']))
        if len(clash):
            raise ValueError(
                f'table {number} and the first have different true labels in {len(clash)} rows: '
                f'{_some([keys[index] for index in clash])}; give tables of one truth'
            )
        result.append(Predictions(**moved, meta=table.meta))
    return result


def _list(value: Iterable[str] | str | None) -> str:
    return str(value) if value is None or isinstance(value, str) else ' '.join(value)


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Puts the file's name in front of what is wrong with it."""
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
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in _FIELDS}
            meta = json.loads(file['meta'].item())
    except Exception as error:  # zip, npy and JSON readers raise a dozen kinds on broken bytes
        raise ValueError(f'not a readable predictions table ({error}); write it again') from error
    return Predictions(**columns, meta=meta)


def _rows(path: pathlib.Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a tab or comma separated file with any line ends."""
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
    found = [index for index, name in enumerate(header) if name in _NAMES]
    if not found:
        raise ValueError(f'the columns are {" ".join(header)}; one must be of {" ".join(_NAMES)}')
    return found[0]


def _clip_id(name: str) -> str:
    """'audio/airport-lisbon-1175-44106.wav' -> 'airport-lisbon-1175-44106'."""
    name = pathlib.PurePosixPath(name.strip().replace('\\', '/'))
    return name.stem if name.suffix.lower() in _MEDIA else name.name


def _read_text(path: pathlib.Path, classes: list[str]) -> Predictions:
    """The DCASE file, or the course layout, whose scene_label is the truth beside scene_pred."""
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
        raise ValueError(f'true labels {_some(unknown)} are none of {" ".join(classes)}')
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
