"""The lines of a console's report on labels of which a clip may have several."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from avsc_jax.report import console
from avsc_jax.report.label_scores import MEANS


def headline(level: str, score: Mapping[str, Any]) -> list[str]:
    """Returns the lines of the headline: average precision and F1 with intervals, and losses."""
    rows = [(f'{level}, {score["items"]:,} items', 'macro', 'micro')]
    for name in MEANS:
        keys = (f'{name}_{average}' for average in ('macro', 'micro'))
        shown = (
            f'{console.number(score[key])} '
            f'{console.interval(score[f"{key}_interval"], score["groups"])}'
            for key in keys
        )
        rows.append((f'  {_title(name)}', *shown))
    lines = [f'{a:<30}{b:<26}{c}'.rstrip() for a, b, c in rows]
    return [
        *lines,
        f'  log loss {console.number(score["log_loss"])}, Brier score '
        f'{console.number(score["brier"])}, ROC AUC {console.number(score["roc_auc_macro"])} '
        f'(macro); {score["labels_per_item"]:.2f} labels an item',
        f'  {console.spread(score)}',
    ]


def other(level: str, score: Mapping[str, Any]) -> list[str]:
    """Returns the lines of another granularity."""
    shown = ', '.join(
        f'{_title(name)} {console.number(score[f"{name}_macro"])} '
        f'(micro {console.number(score[f"{name}_micro"])})'
        for name in MEANS
    )
    line = f'{level}, {score["items"]:,} items: {shown}'
    return textwrap.wrap(line, console.COLUMNS, subsequent_indent='  ')


def labels(report: Mapping[str, Any]) -> list[str]:
    """Returns the table of labels; of many, those with the lowest average precision."""
    table = report['scores'][report['headline']]['per_class']
    rows = [
        (name, {key: values[index] for key, values in table.items()})
        for index, name in enumerate(report['classes'])
    ]
    left_out = len(rows) - console.CLASS_LINES
    if left_out > 0:
        rows.sort(key=lambda row: _first(row[1]['average_precision']))
        rows = rows[: console.CLASS_LINES]
    head = ['label', 'items', 'AP', 'precision', 'recall', 'F1', 'threshold']
    lines = console.columns(
        head,
        [
            [
                console.cut(name, 27),
                f'{values["support"]:,}',
                console.number(values['average_precision']),
                console.percent(values['precision']),
                console.percent(values['recall']),
                console.percent(values['f1']),
                console.number(values['threshold']),
            ]
            for name, values in rows
        ],
    )
    if left_out > 0:
        lines.append(f'and {left_out} labels with higher average precision, in report.json')
    return [*lines, *textwrap.wrap(report['thresholds'], console.COLUMNS, subsequent_indent='  ')]


def members(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of a mix: one for each member, the mix last."""
    keys = [f'{name}_{average}' for name in MEANS for average in ('macro', 'micro')]
    head = [f'member ({rows[0]["level"]})', *(_title(*key.rsplit('_', 1)) for key in keys)]
    cells = [
        [console.cut(row['name'], 32), *(console.number(row[key]) for key in keys)] for row in rows
    ]
    return console.columns(head, cells)


def _title(name: str, average: str = '') -> str:
    words = {'average_precision': 'average precision', 'f1': 'F1'}[name]
    return f'{words}, {average}' if average else words


def _first(value: float | None) -> float:
    return math.inf if value is None else value
