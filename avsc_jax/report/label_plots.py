"""Draws the plot of a report on labels: average precision, precision and recall of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avsc_jax.report.plots import (
    BLUE,
    CARD,
    GREEN,
    INK,
    ORANGE,
    WIDE,
    _array,
    _cut,
    _panels,
    _style,
    _svg,
)
from avsc_jax.report.scores import FEWEST_GROUPS


def draw(report: Mapping[str, Any]) -> dict[str, str]:
    """Draws the labels of the headline; name -> inline SVG."""
    score = report['scores'][report['headline']]
    with _style():
        return {'labels': _labels(report['classes'], score['per_class'], score['groups'])}


def _labels(names: Sequence[str], table: Mapping[str, Any], groups: int) -> str:
    rows = len(names)
    step = 34 if rows <= 24 else max(800 // rows, 9)
    left = 110 + 7 * max(len(_cut(name)) for name in names)
    figure, panels = _panels(
        (WIDE, 90 + step * rows),
        (48, 42),
        ((left, left + 0.5 * (1020 - left)), (left + 0.5 * (1020 - left) + 50, 1050)),
    )
    precisions, pointed = panels
    for axes in panels:
        axes.set(ylim=(rows - 0.5, -0.5), xlim=(0, 1.03), yticks=(), xticks=(0, 0.25, 0.5, 0.75, 1))
        axes.tick_params(length=0)
        axes.grid(axis='x')
        axes.spines['left'].set_visible(False)
    values, bounds = _array(table['average_precision']), _array(table['average_precision_interval'])
    shows = groups >= FEWEST_GROUPS
    precisions.set_title(
        f'Average precision (bar){", its 95 % interval" * shows}, and chance (tick)'
    )
    precisions.barh(range(rows), np.nan_to_num(values), 0.62, color=BLUE)
    if shows:
        precisions.hlines(range(rows), *bounds.T, color=INK, lw=1.5)
    chance = _array(table['chance'])
    precisions.vlines(chance, np.arange(rows) - 0.42, np.arange(rows) + 0.42, color=ORANGE, lw=2)
    size = min(12.5, 0.9 * step)
    shown = [f'{_cut(n)} ({k:,})' for n, k in zip(names, table['support'], strict=True)]
    precisions.set_yticks(range(rows), shown, size=size)
    pointed.set_title('At the thresholds')
    both = {name: _array(table[name]) for name in ('precision', 'recall')}
    pointed.hlines(range(rows), both['precision'], both['recall'], color=INK, lw=1, alpha=0.4)
    for (name, color), mark in zip((('precision', ORANGE), ('recall', GREEN)), 'os', strict=True):
        dots = dict(color=color, mec=CARD, ms=min(9, step / 3), label=name)
        pointed.plot(both[name], range(rows), mark, **dots)
    pointed.legend(loc='lower right', bbox_to_anchor=(1.02, 1.0), ncols=2, columnspacing=1.2)
    return _svg(figure, 'Average precision of every label, and precision and recall')
