"""Draws the plots of a report as inline SVG.

The colours below are replaced by CSS variables of the page, so that the plots follow the reader's
light or dark theme.
"""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from avsc_jax.report import html
from avsc_jax.report.scores import FEWEST_GROUPS

# Okabe and Ito's colours, which colour-blind readers can distinguish. The first three stand for
# the page's ink, lines and card.
INK, LINE, CARD = '#010101', '#020202', '#030303'
BLUE, ORANGE, GREEN = '#0072b2', '#e69f00', '#009e73'
VARIABLES = {
    INK: 'var(--ink)',
    LINE: 'var(--line)',
    CARD: 'var(--card)',
    BLUE: 'var(--blue)',
    ORANGE: 'var(--orange)',
    GREEN: 'var(--green)',
}
STYLE = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'avsc',
    'text.parse_math': False,
    'font.size': 12.5,
    'text.color': INK,
    'axes.labelcolor': INK,
    'axes.edgecolor': LINE,
    'axes.linewidth': 1,
    'axes.titlesize': 13.5,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.titlepad': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.axisbelow': True,
    'grid.color': LINE,
    'xtick.color': LINE,
    'ytick.color': LINE,
    'xtick.labelcolor': INK,
    'ytick.labelcolor': INK,
    'lines.linewidth': 2,
    'legend.frameon': False,
}
WIDE, HALF = 1080, 510  # units of the drawings: CSS pixels in a card at full width


# For clips that both, sound, picture or neither get right: colour, opacity, colour of numbers.
CASES = ((GREEN, 1, '#ffffff'), (BLUE, 1, '#ffffff'), (ORANGE, 1, '#1c2530'), (INK, 0.5, INK))


def draw(report: Mapping[str, Any]) -> dict[str, str]:
    """Draws every plot that the report has numbers for; name -> inline SVG."""
    drawings = {}
    with _style():
        if report['history']:
            drawings['curves'] = _curves(report['history'], report['best_epoch'])
        if report['headline'] is not None and report.get('kind') != 'independent':
            score = report['scores'][report['headline']]
            drawings['classes'] = _classes(report['classes'], score)
            drawings['reliability'] = _reliability(score['reliability'], report['headline'])
            if score['cities']:
                drawings['cities'] = _cities(score['cities'])
    return drawings


def outcomes(
    classes: Sequence[str], cases: Mapping[str, Sequence[tuple[Sequence[int], Sequence[int]]]]
) -> str:
    """Draws the clips of every class, stacked by case; pale where fusion is wrong.

    Args:
      cases: case -> numbers of clips, by class, that fusion gets right and gets wrong.
    """
    support = np.maximum(np.sum([pair for pair in cases.values()], axis=(0, 1)), 1)
    left, start = 50 + 7 * max(len(_cut(name)) for name in classes), np.zeros(len(classes))
    with _style():
        figure, (axes,) = _panels((WIDE, 80 + 32 * len(classes)), (48, 32), ((left, 1050),))
        for (case, pair), (color, alpha, ink) in zip(cases.items(), CASES, strict=True):
            for counts, pale, label in zip(pair, (1, 0.3), (case, None), strict=True):
                share = np.array(counts) / support
                bars = axes.barh(
                    range(len(classes)),
                    share,
                    0.7,
                    start,
                    color=color,
                    alpha=alpha * pale,
                    label=label,
                )
                shown = [
                    f'{n:,}' if part >= 0.03 else '' for n, part in zip(counts, share, strict=True)
                ]
                axes.bar_label(bars, shown, label_type='center', color=ink if pale == 1 else INK)
                start += share
        axes.set_title('Right alone, % of clips; where pale, fusion is wrong')
        axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=4, columnspacing=1.2)
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=('0', '50', '100'))
        axes.set(ylim=(len(classes) - 0.5, -0.5))
        axes.set_yticks(range(len(classes)), [_cut(name) for name in classes])
        axes.tick_params(length=0)
        axes.spines['left'].set_visible(False)
        return _svg(figure, 'Clips by who is right')


def differences(
    title: str, classes: Sequence[str], tests: Sequence[Mapping[str, Any] | None]
) -> str:
    """Draws how two systems differ in each class: dots with bars of one paired standard error.

    Args:
      title: names the two.
      classes: names of the classes.
      tests: `metrics.paired_test` of each class as dictionaries; None: no clips.
    """
    left = 50 + 7 * max(len(_cut(name)) for name in classes)
    spans = ((left, (left + 1010) / 2), ((left + 1110) / 2, 1060))
    with _style():
        figure, panels = _panels((WIDE, 84 + 30 * len(classes)), (30, 44), spans)
        for axes, key, scale, what in zip(
            panels, ('log_loss', 'accuracy'), (1, 100), ('log loss', 'accuracy, %'), strict=True
        ):
            by_class = [test and test[key] for test in tests]
            gaps, errors = (
                scale * _array([each and each[part] for each in by_class])
                for part in ('difference', 'standard_error')
            )
            axes.axvline(0, color=INK, ls=(0, (4, 3)), lw=1)
            errors[[not each or each['groups'] < FEWEST_GROUPS for each in by_class]] = math.nan
            axes.errorbar(gaps, range(len(classes)), xerr=errors, fmt='none', ecolor=ORANGE, lw=3)
            axes.plot(gaps, range(len(classes)), 'o', color=BLUE, ms=8, mec=CARD)
            axes.set(ylim=(len(classes) - 0.5, -0.5), yticks=range(len(classes)))
            axes.set_xlabel(f'{what}, ± one paired standard error')
            axes.tick_params(length=0)
            axes.grid(axis='x')
        panels[0].set_title(title)
        panels[0].set_yticklabels([_cut(name) for name in classes])
        panels[1].set_yticklabels(())
        return _svg(figure, f'{title}, class by class')


def _classes(names: Sequence[str], score: Mapping[str, Any]) -> str:
    """Draws confusion matrix, recall and precision, and log loss: one row for each class."""
    counts, rows = np.array(score['confusion']), len(names)
    table = {key: _array(score['per_class'][key]) for key in ('recall', 'precision', 'log_loss')}
    step = 40 if rows <= 12 else max(400 // rows, 9)
    labels = [_cut(name) for name in names]
    longest = max(map(len, labels))
    size, turn = (12.5, 38) if rows <= 12 else (min(12, 0.9 * step), 90)
    left, bottom = 50 + 7 * longest, 12 + (4.6 if turn == 38 else 0.62 * size) * longest
    figure, panels = _panels(
        (WIDE, 30 + step * rows + bottom), (30, bottom), ((left, 636), (678, 920), (968, 1060))
    )
    for axes in panels:
        axes.set(ylim=(rows - 0.5, -0.5), xticks=(), yticks=())
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    matrix, hits, losses = panels

    matrix.set_title('Where the true items of each class go, %')
    matrix.set(xlim=(-0.5, rows - 0.5), xticks=range(rows), yticks=range(rows))
    support = [f'{name} ({n:,})' for name, n in zip(labels, counts.sum(axis=1), strict=True)]
    matrix.set_yticklabels(support, size=size)
    matrix.set_xticklabels(
        labels, size=size, rotation=turn, ha='right', va='center', rotation_mode='anchor'
    )
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for (i, j), value in np.ndenumerate(share):
        if rows > 16 and not counts[i, j]:  # 365 classes have 133,225 pairs
            continue
        matrix.add_patch(
            Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, color=BLUE, alpha=0.05 + 0.95 * value, lw=0)
        )
        if counts[i, j] and rows <= 16:
            _number(matrix, j, i, f'{100 * value:.0f}' if value >= 0.005 else '·', value > 0.5)

    hits.set_title('Recall (bar) and precision (dot), %')
    hits.set(xlim=(0, 1.03), xticks=(0, 0.5, 1), xticklabels=('0', '50', '100'))
    hits.barh(range(rows), np.nan_to_num(table['recall']), 0.66, color=BLUE)
    hits.plot(table['precision'], range(rows), 'o', color=ORANGE, ms=min(9, step / 3), mec=CARD)
    losses.set_title('Log loss')
    losses.set(xlim=(0, 1.45 * max(np.nanmax(table['log_loss']), 1e-3)))
    losses.barh(range(rows), np.nan_to_num(table['log_loss']), 0.66, color=GREEN)
    for i in range(rows if rows <= 16 else 0):
        recall, loss = table['recall'][i], table['log_loss'][i]
        if np.isnan(recall):
            hits.text(0.02, i, 'no items', va='center_baseline')
            continue
        inside = recall > 0.2
        _number(hits, 0.1 if inside else recall + 0.1, i, f'{100 * recall:.1f}', inside)
        losses.annotate(
            f'{loss:.2f}', (loss, i), (4, 0), textcoords='offset points', va='center_baseline'
        )
    return _svg(figure, 'Confusion matrix, and recall, precision and log loss of every class')


def _curves(history: Sequence[Mapping[str, Any]], best: int | None) -> str:
    """Draws losses by epoch, and validation scores or, without them, the learning rate.

    A dashed line marks the epoch that was kept.
    """
    epochs = [record['epoch'] for record in history]
    shown = {
        'valid_accuracy': ('validation accuracy', 100, 'Validation accuracy, %'),
        'valid_mean_average_precision': (
            'mean average precision',
            1,
            'Validation: mean average precision',
        ),
        'learning_rate': ('learning rate', 1, 'Learning rate'),
    }
    known = {name for record in history for name in record}
    key_beside = next((key for key in shown if key in known), 'learning_rate')
    scored, (label_beside, scale_beside, title) = key_beside != 'learning_rate', shown[key_beside]
    figure, (losses, beside) = _panels((WIDE, 270), (34, 44), ((40, 520), (580, 1060)))
    lines = (
        (losses, 'train_loss', 'training loss', BLUE, 1),
        (losses, 'valid_loss', 'validation loss', ORANGE, 1),
        (losses, 'valid_log_loss', 'validation log loss', GREEN, 1),
        (beside, key_beside, label_beside, BLUE, scale_beside),
    )
    for axes, key, label, color, scale in lines:
        values = scale * _array([record.get(key) for record in history])
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=color, label=label, marker='o', ms=4)
    losses.set_title('Loss')
    losses.set_ylim(bottom=0)
    losses.legend(loc='lower right', bbox_to_anchor=(1.02, 0.98), ncols=3, columnspacing=1.2)
    beside.set_title(title)
    for axes in (losses, beside):
        axes.set(xlabel='epoch', xlim=(min(epochs) - 0.5, max(epochs) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis='y')
        if best is not None:
            axes.axvline(best, color=INK, ls=(0, (4, 3)), lw=1, zorder=0)
    if best is not None:
        right = best <= (min(epochs) + max(epochs)) / 2
        beside.annotate(
            f'epoch {best} was kept',
            (best, 0.06 if scored else 0.92),
            (8 if right else -8, 0),
            xycoords=('data', 'axes fraction'),
            textcoords='offset points',
            ha='left' if right else 'right',
        )
    return _svg(figure, 'Learning curves')


def _reliability(bins: Mapping[str, Any], items: str) -> str:
    """Draws accuracy against confidence, and the number of items in each bin."""
    count, confidence, right = (_array(bins[k]) for k in ('count', 'confidence', 'accuracy'))
    edges = np.linspace(0, 1, len(count) + 1)
    figure, (curve,) = _panels((HALF, 390), (30, 142), ((44, 496),))
    (below,) = _panels((HALF, 390), (284, 44), ((44, 496),), figure)[1]
    curve.set_title('Is the confidence earned? Accuracy by confidence, %')
    curve.plot((0, 1), (0, 1), color=INK, ls=(0, (4, 3)), lw=1)
    curve.vlines(confidence, confidence, right, color=ORANGE, lw=3, label='gap')
    curve.plot(confidence, right, 'o', color=BLUE, ms=8, mec=CARD, label='accuracy')
    curve.legend(loc='upper left')
    below.bar(edges[:-1], count, np.diff(edges) * 0.9, align='edge', color=BLUE)
    for edge, value in zip(edges, count, strict=False):
        if value:
            below.text(
                edge + 0.45 / len(count), value, f'{value:.0f}', ha='center', va='bottom', size=10
            )
    below.set(xlabel='confidence: the largest probability, %', ylabel=f'{items}s', yticks=())
    below.set_ylim(0, 1.25 * count.max())
    for axes in (curve, below):
        axes.set(xlim=(0, 1), xticks=np.linspace(0, 1, 6))
    curve.set(ylim=(0, 1.02), yticks=np.linspace(0, 1, 6))
    curve.set_yticklabels(range(0, 101, 20))
    curve.set_xticklabels(())
    below.set_xticklabels(range(0, 101, 20))
    curve.grid()
    return _svg(figure, 'Reliability diagram')


def _cities(cities: Mapping[str, Mapping[str, Any]]) -> str:
    """Draws the accuracy of every city, best first, with the number of items."""
    ranked = sorted(cities.items(), key=lambda item: -item[1]['accuracy'])
    step = max(324 / len(ranked), 22)
    left = 50 + 7 * max(len(_cut(city)) for city in cities)
    figure, (axes,) = _panels((HALF, 66 + step * len(ranked)), (30, 36), ((left, 496),))
    axes.set_title('Accuracy by city, %')
    axes.barh(range(len(ranked)), [city['accuracy'] for _, city in ranked], 0.66, color=BLUE)
    for row, (_, city) in enumerate(ranked):
        inside = city['accuracy'] > 0.2
        place = 0.06 if inside else city['accuracy'] + 0.06
        _number(axes, place, row, f'{100 * city["accuracy"]:.1f}', inside)
    axes.set(xlim=(0, 1), xticks=(0, 0.25, 0.5, 0.75, 1), ylim=(len(ranked) - 0.5, -0.5))
    axes.set_xticklabels(('0', '25', '50', '75', '100'))
    axes.set_yticks(
        range(len(ranked)), [f'{_cut(name)} ({city["items"]:,})' for name, city in ranked]
    )
    axes.tick_params(length=0)
    axes.spines['left'].set_visible(False)
    return _svg(figure, 'Accuracy by city')


@contextlib.contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # matplotlib's font lacks many scripts, such as Chinese; the browser shows the text.
        warnings.filterwarnings('ignore', message='Glyph .* missing')
        yield


def _panels(
    size: tuple[float, float],
    margins: tuple[float, float],
    spans: Sequence[tuple[float, float]],
    figure: Figure | None = None,
) -> tuple[Figure, list[Axes]]:
    """Makes axes side by side.

    Args:
      size: width and height of the drawing in its units.
      margins: margins above and below the axes.
      spans: left and right end of each of the axes.
      figure: the figure to add them to; None: a new one.
    """
    (width, height), (top, bottom) = size, margins
    figure = figure or Figure(figsize=(width / 72, height / 72), facecolor='none')
    tall = (height - top - bottom) / height
    boxes = [(a / width, bottom / height, (b - a) / width, tall) for a, b in spans]
    return figure, [figure.add_axes(box, facecolor='none') for box in boxes]


def _number(axes: Axes, x: float, y: float, shown: str, on_color: bool) -> None:
    ink = '#ffffff' if on_color else INK
    axes.text(x, y, shown, ha='center', va='center_baseline', color=ink, size=12)


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array(values, float)  # None becomes NaN


def _cut(name: str) -> str:
    return name if len(name) <= 20 else f'{name[:19]}…'


def _svg(figure: Figure, label: str, over: str = '') -> str:
    """Converts a figure to inline SVG in the page's theme and fonts; `over` is drawn on top."""
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file)
    head, body = file.getvalue().split('viewBox="', 1)[1].split('"', 1)
    body = body.split('>', 1)[1].rpartition('</svg>')[0]
    body = re.sub('<(metadata|style).*?</\\1>', '', body, flags=re.DOTALL)
    body = re.sub('font-family: [^;"]*;| id="[a-z0-9._]+_[0-9]+"', '', body)
    for color, variable in VARIABLES.items():
        body = body.replace(color, variable)
    svg = html.own('<svg viewBox="{}" role="img" aria-label="{}">{}{}</svg>')
    return svg.format(head, label, html.own(body), over)
