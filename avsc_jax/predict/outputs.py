"""The files that predict writes: tables of files and windows, and names in them."""

import argparse
import contextlib
import csv
import hashlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avsc_jax import tables
from avsc_jax.data import folder_walk
from avsc_jax.runs import familiarity
from avsc_jax.runtime.files import locked, printable, write_texts
from avsc_jax.tables import parts
from avsc_jax.tables.parts import Part
from avsc_jax.tables.predictions import LABEL_COLUMNS
from avsc_jax.types import Kind

# Flags that name a file to write -> the endings that it may have.
WRITTEN = {
    'csv': tables.SUFFIXES,
    'timeline': ('.csv', '.tsv', '.txt'),
    'jsonl': ('.jsonl',),
    'embeddings': ('.npz',),
}


def check(args: argparse.Namespace) -> None:
    """Raises an error for an output file of a wrong ending, or in a folder that does not exist."""
    for name, suffixes in WRITTEN.items():
        out = getattr(args, name)
        if out and out.suffix not in suffixes:
            raise ValueError(f'--{name} {out} must end in {", ".join(suffixes)}')
        if out and not out.absolute().parent.is_dir():
            raise FileNotFoundError(f'{out.parent} is not a folder; make it first')


@contextlib.contextmanager
def alone(paths: Iterable[Path | None]) -> Iterator[None]:
    """Keeps other processes from writing the same files.

    Raises:
      ValueError: another process is writing one of them.
    """
    advice = 'wait until it has ended, or name another file'
    with contextlib.ExitStack() as stack:
        for path in sorted({path.resolve() for path in paths if path}):
            stack.enter_context(locked(path, busy=advice))
        yield


def separator(path: Path) -> str:
    """The separator of the text tables that predict writes: commas in .csv, tabs in others."""
    return ',' if path.suffix == '.csv' else '\t'


def write_table(
    path: Path,
    names: Sequence[str],
    lines: Sequence[Mapping],
    classes: Sequence[str],
    *,
    calibrated: bool,
    kind: Kind = 'exclusive',
    limits: Mapping | None = None,
) -> None:
    """Writes a predictions table with a row for each file; see tables.write.

    Tags of a sense that no file has get no columns; where only some have it, others have NaN there.
    With thresholds (`limits`) the column labels has those that are true.
    """
    if kind == 'independent':
        classes = [name for name in classes if any(name in line['probs'] for line in lines)]
    unknown = np.full(len(lines), -1, np.int32)
    meta = {'classes': list(classes), 'granularity': 'clip', 'pooled': True}
    meta |= {'calibrated': calibrated} | ({'kind': kind} if kind == 'independent' else {})
    meta |= {'thresholds': dict(limits)} if limits else {}
    probs = np.array([[line['probs'].get(name, np.nan) for name in classes] for line in lines])
    table = tables.Predictions(np.array(names, str), unknown, unknown, probs, meta)
    tables.write(table, path, separator(path))


def write_timeline(
    path: Path,
    names: Sequence[str],
    lines: Sequence[Mapping],
    classes: Sequence[str],
    *,
    kind: Kind = 'exclusive',
) -> None:
    """Writes a row for each window: file, start and end in s, scene, probabilities.

    Tags of a sense that the window does not have are nan.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator(path), lineterminator='\n')
    has_labels = any('labels' in w for line in lines for w in line['timeline'])
    named = [LABEL_COLUMNS[kind], *['labels'] * has_labels]
    writer.writerow(['filename', 'start_s', 'end_s', *named, *classes])
    for name, line in zip(names, lines, strict=True):
        for w in line['timeline']:
            times = (f'{w[key]:.3f}' for key in ('start_s', 'end_s'))
            probs = ('nan' if p is None else repr(p) for p in w['probs'])
            true = [parts.joined(w['labels'])] if has_labels else []
            writer.writerow([name, *times, w['scene'], *true, *probs])
    write_texts(path.parent, {path.name: text.getvalue()})


def row_names(files: Sequence[Path], arguments: Iterable[Path]) -> dict[str, str]:
    """Names the row of each file in tables: its path below the folder that was given, or its name.

    A name does not depend on the other files, so that the tables of shards fit together.

    Args:
      files: paths as `media_files.find` gives them.
      arguments: the files and folders that it was given.

    Returns:
      Path of the file -> name with folders and ending, '/' between folders.

    Raises:
      ValueError: two files have the same name.
    """
    folders = [path for path in arguments if path.is_dir()]
    names: dict[str, str] = {}
    first: dict[str, Path] = {}
    for file in files:
        folder = next((f for f in folders if file.is_relative_to(f)), file.parent)
        name = printable(file.relative_to(folder).as_posix())
        if (other := first.setdefault(name, file)) != file:
            raise ValueError(
                f'{other} and {file} would both be called {name} in tables; give the folder that '
                'holds both, or classify them apart'
            )
        names[str(file)] = name
    return names


def page_name(file: Path) -> str:
    """A name without folders that is unique to the file: '/a/b c.mp4' -> 'b c-1f0c2d3e'."""
    digest = hashlib.sha256(os.fsencode(file.absolute())).hexdigest()[:8]
    return f'{printable(file.stem)}-{digest}'


def end(
    notes: Mapping[str, Sequence],
    errors: Sequence[str],
    total: int,
    verb: str,
    left_out: Mapping[str, Sequence[Path]] | None = None,
) -> int:
    """Prints notes (with their files), what was left out, and errors; returns the exit code.

    Args:
      left_out: reason -> the files of folders that were passed over; see `folder_walk.taken`.
    """
    for note, files in notes.items():
        more = f' and {len(files) - 1} more' if files[1:] else ''
        print(printable(f'note: {note}: {files[0]}{more}'), file=sys.stderr)
    for line in folder_walk.counted(left_out or {}):
        print(printable(line), file=sys.stderr)
    for error in errors:
        print(printable(f'error: {error}'), file=sys.stderr)
    if errors:
        print(f'{total - len(errors)} of {total} files {verb}', file=sys.stderr)
    return 1 if errors else 0


def clock(seconds: float) -> str:
    """Formats a time: 83.0 -> '1:23'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'


def top(probs: Sequence[float] | np.ndarray, part: Part, count: int) -> str:
    """The likeliest classes of a part with their probabilities: 'park 0.613  bus 0.201'."""
    ranked = parts.ranked(part.classes, np.asarray(probs))[:count]
    return '  '.join(f'{part.short(name)} {value:.3f}' for name, value in ranked)


def answered(system: Any, probs: np.ndarray, count: int) -> str:
    """The labels that are true of a record; without thresholds its `count` likeliest classes."""
    part, limits = parts.of(system)[0], parts.thresholds_of(system)
    if not limits:
        return top(probs, part, count)
    return true(parts.true_labels(part.classes, probs, limits), part, probs)


def true(labels: Sequence[str], part: Part, probs: np.ndarray) -> str:
    """The labels that are true with their probabilities, or the likeliest where none is."""
    if not labels:
        return f'none of {len(part.classes)} labels (likeliest: {top(probs, part, 1)})'
    of_name = dict(zip(part.classes, np.asarray(probs).tolist(), strict=True))
    return '  '.join(f'{name} {of_name[name]:.3f}' for name in labels)


def shown(line: Mapping, own: Sequence[Part], count: int) -> str:
    """The text printed for a file: its scenes and, if it has several windows, its timeline.

    Tags of sound and of pictures have a line each, which says what they are.
    """
    file = printable(line['file'])
    probs = np.array([line['probs'].get(name, np.nan) for part in own for name in part.classes])
    tops = [(part, top(each, part, count)) for part, each in parts.split(own, probs)]
    if len(own) == 1:
        marks = ''.join(f'  {mark}' for mark in familiarity.marks(line.get('familiarity')))
        text = true(line['labels'], own[0], probs) if 'labels' in line else tops[0][1]
        lines = [f'{file}  {text}{marks}']
    else:
        lines = [file, *(f'{part.title}: {text}' for part, text in tops if text)]
    timeline = line['timeline']
    if len(timeline) > 1:
        lines += stretches([{**window, 'scene': _of_window(window, own)} for window in timeline])
    return '\n  '.join(lines)


def _of_window(window: Mapping, own: Sequence[Part]) -> str:
    """The likeliest class of each part of a window, such as 'sound: Speech; picture: park'."""
    if 'labels' in window:
        return ', '.join(window['labels']) or 'none'
    if len(own) == 1:
        return window['scene']
    return '; '.join(name for _, name, _ in parts.best(own, np.array(window['probs'], float), 1))


def stretches(timeline: Sequence[Mapping]) -> list[str]:
    """One line for neighbouring windows of the same scene: '0:00 to 1:20  park'."""
    lines, first = [], 0
    for k in range(1, len(timeline) + 1):
        if k == len(timeline) or timeline[k]['scene'] != timeline[first]['scene']:
            start, end = timeline[first]['start_s'], timeline[k - 1]['end_s']
            lines.append(f'{clock(start)} to {clock(end)}  {timeline[first]["scene"]}')
            first = k
    return lines
