"""Compares a fusion with its audio and video alone: which is right where, and what fusing changes.

`make` counts, `text` gives the text for a console, `write` writes a page, the numbers as JSON, and
all answers as a table.

Source: Feng, Sec. 3.2, which compares the classes and asks where modalities conflict.
"""

import csv
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avsc_jax import metrics, tables
from avsc_jax.report.console import columns, figure, words
from avsc_jax.report.scores import METRICS, cautions, labelled, plain
from avsc_jax.runtime.files import printable, write_texts

ROLES = ('fusion', 'audio', 'video')
SCORES = ('precision', 'recall', 'f1')
CASES = {  # which modalities are right by themselves: (audio, video)
    'both': (True, True),
    'audio only': (True, False),
    'video only': (False, True),
    'neither': (False, False),
}


def make(members: Mapping[str, tables.Predictions]) -> dict[str, Any]:
    """Counts clips by which of fusion, audio and video are right, for every class and overall.

    Args:
      members: a table for each of ROLES, of the same clips in the same order; clips of unknown
        scene are left out.

    Returns:
      Plain values: `scores` of each role, its `per_class` among them; `gain`, the F1 of fusion
      minus that of the better modality; `cells`, the eight combinations of right and wrong with
      their `clips` in all and `by_class`; names of the clips that are `rescued` (only fusion is
      right) and `lost` (fusion is wrong, a modality alone right); `answers`, a row a clip.

    Raises:
      ValueError: the tables have other names than ROLES.
    """
    if {*members} != {*ROLES}:
        raise ValueError(
            f'the tables are called {", ".join(members)}; name them fusion=table audio=table '
            'video=table'
        )
    members = labelled({role: members[role] for role in ROLES})
    first = members['fusion']
    labels, classes = first.label, np.array([printable(name) for name in first.meta['classes']])
    clips = np.array([printable(name) for name in first.clip_id])
    answers = {role: table.probs.argmax(axis=1) for role, table in members.items()}
    right = {role: answer == labels for role, answer in answers.items()}
    alone = right['audio'] | right['video']
    scores = {role: _scores(table) for role, table in members.items()}
    f1 = {role: score['per_class']['f1'] for role, score in scores.items()}
    return plain(
        {
            'clips': len(labels),
            'classes': classes,
            'scores': scores,
            'gain': f1['fusion'] - np.maximum(f1['audio'], f1['video']),
            'cells': _cells(right, labels, len(classes)),
            'rescued': clips[right['fusion'] & ~alone],
            'lost': clips[alone & ~right['fusion']],
            'answers': np.stack([clips, classes[labels], *map(classes.take, answers.values())], 1),
            'warnings': cautions(members),
        }
    )


def text(result: Mapping[str, Any]) -> str:
    """Returns the comparison for a console."""
    lines = [f'! {line}' for line in result['warnings']]
    items = f'clip, {result["clips"]:,} items'
    lines.append(f'{items:<24}' + ''.join(f'{words(name):>12}' for name in METRICS))
    for role, score in result['scores'].items():
        shown = (f'{figure(name, score[name]):>12}' for name in METRICS)
        lines.append(f'  {role:<22}' + ''.join(shown))
    for title, head, rows in _tables(result):
        lines += ['', title, *columns(head, rows)]
    return '\n'.join([*lines, '', *_sentences(result)])


def write(result: Mapping[str, Any], folder: str | Path) -> Path:
    """Writes modalities.html, .json and .tsv (every clip's answers); returns the page's path."""
    from avsc_jax.report import html, plots  # matplotlib takes a second, and only writing needs it

    answers = io.StringIO()
    writer = csv.writer(answers, delimiter='\t', lineterminator='\n')
    writer.writerows([('clip_id', 'scene_label', *ROLES), *result['answers']])
    counts = {key: value for key, value in result.items() if key != 'answers'}
    page = html.render(
        'modalities.html',
        sentences=_sentences(result),
        warnings=result['warnings'],
        drawing=plots.outcomes(result['classes'], _cases(result)),
        tables=_tables(result),
        listed={kind: result[kind] for kind in ('rescued', 'lost')},
    )
    contents = {
        'modalities.html': page,
        'modalities.json': json.dumps(counts, indent=1, allow_nan=False, ensure_ascii=False) + '\n',
        'modalities.tsv': answers.getvalue(),
    }
    write_texts(folder, contents)
    return Path(folder) / 'modalities.html'


def _scores(table: tables.Predictions) -> dict[str, Any]:
    with warnings.catch_warnings():  # clamped rows do not sum to one
        warnings.simplefilter('ignore', UserWarning)
        return {
            name: metrics.average_of(metric.terms, table.probs, table.label)
            for name, metric in METRICS.items()
        } | {'per_class': metrics.per_class(table.probs, table.label)}


def _cells(
    right: Mapping[str, np.ndarray], labels: np.ndarray, num_classes: int
) -> list[dict[str, Any]]:
    """Counts the clips of each case that fusion gets right, and then those it gets wrong."""
    cells = []
    for audio, video in CASES.values():
        for fusion in (True, False):
            cell = {'audio': audio, 'video': video, 'fusion': fusion}
            inside = np.all([right[role] == value for role, value in cell.items()], axis=0)
            by_class = np.bincount(labels[inside], minlength=num_classes)
            cells.append(cell | {'clips': by_class.sum(), 'by_class': by_class})
    return cells


def _tables(result: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Returns title, head and rows of the two tables that console and page show."""
    return [
        (
            'Precision, recall, F1, %; M: fusion, A: audio, V: video; gain of M-F over the better',
            ['class', 'items', *(f'{role}-{key}' for role in 'MAV' for key in 'PRF'), 'gain'],
            _by_class(result),
        ),
        (
            'Clips that fusion gets right, of those that a modality alone gets right',
            ['class', *CASES],
            _by_case(result),
        ),
    ]


def _by_class(result: Mapping[str, Any]) -> list[list[str]]:
    scores = [result['scores'][role]['per_class'] for role in ROLES]
    rows = [
        [
            name,
            f'{scores[0]["support"][i]:,}',
            *(_points(score[key][i]) for score in scores for key in SCORES),
            _points(result['gain'][i], '+'),
        ]
        for i, name in enumerate(result['classes'])
    ]
    return rows + [
        [f'{name} average', '', *(_points(s[name][key]) for s in scores for key in SCORES), '']
        for name in ('macro', 'weighted')
    ]


def _by_case(result: Mapping[str, Any]) -> list[list[str]]:
    cases = _cases(result).values()
    rows = [
        [name, *(_share(right[i], wrong[i]) for right, wrong in cases)]
        for i, name in enumerate(result['classes'])
    ]
    return [*rows, ['all', *(_share(sum(right), sum(wrong)) for right, wrong in cases)]]


def _cases(result: Mapping[str, Any]) -> dict[str, tuple[list[int], list[int]]]:
    """Returns case -> numbers of clips, by class, that fusion gets right and gets wrong."""
    counts = [cell['by_class'] for cell in result['cells']]
    return dict(zip(CASES, zip(counts[::2], counts[1::2], strict=True), strict=True))


def _share(right: int, wrong: int) -> str:
    return f'{right:,} of {right + wrong:,}' if right + wrong else '–'


def _points(value: float | None, sign: str = '') -> str:
    return '–' if value is None else f'{100 * value:{sign}.1f}'


def _sentences(result: Mapping[str, Any]) -> list[str]:
    total, rescued, lost = result['clips'], len(result['rescued']), len(result['lost'])
    return [
        f'rescued: {rescued:,} of {total:,} clips, which only fusion gets right',
        f'lost: {lost:,} of {total:,} clips, which fusion gets wrong and a modality alone right',
    ]
