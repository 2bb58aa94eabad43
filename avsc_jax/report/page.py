"""Renders a report as one self-contained HTML page: inline CSS and SVG, no script, no network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avsc_jax.report import html, label_plots, paired, plots
from avsc_jax.report.console import DECISION, figure, interval, number, words
from avsc_jax.report.scores import METRICS
from avsc_jax.runtime.files import write_texts

Table = tuple[list[str], list[list[str]]]  # head and rows


def page(report: Mapping[str, Any]) -> str:
    """Renders the page; names and texts from files and configs are escaped."""
    if report.get('kind') == 'independent' and report['headline'] is not None:
        drawings = plots.draw(report) | label_plots.draw(report)
        return html.render('labels.html', report=report, drawings=drawings)
    return html.render(
        'report.html',
        report=report,
        drawings=plots.draw(report),
        member_table=_members(report.get('members') or ()),
        decision_table=paired.table(DECISION, report.get('decision') or ()),
        level_table=_levels(report['scores']),
    )


def _members(members: Sequence[Mapping[str, Any]]) -> Table:
    """Returns the table of an ensemble's members, the ensemble last."""
    level = members[0]['level'] if members else ''
    head = [f'member ({level})']
    head += [text for name in METRICS for text in (words(name), 'macro')]
    rows = [
        [
            member['name'],
            *(figure(n, member[f'{n}_{of}']) for n in METRICS for of in ('micro', 'macro')),
            number(member['mean_confidence']),
        ]
        for member in members
    ]
    return [*head, 'mean maximum confidence'], rows


def _levels(scores: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns the table of every metric at every level, with its interval."""
    head, rows = ['level and average', 'items'], []
    for name in METRICS:
        head += [words(name), '95 %', *(['not renormalised'] if name == 'log_loss' else [])]
    for level, score in scores.items():
        for average in ('micro', 'macro'):
            cells = [f'{level}, {average}', f'{score["items"]:,}']
            for name, metric in METRICS.items():
                key, scale = f'{name}_{average}', (100, 1) if metric.percents else (1, 3)
                bounds = interval(score[f'{key}_interval'], score['groups'], *scale)
                cells += [figure(name, score[key]), bounds]
                cells += [number(score[f'{key}_raw'])] if name == 'log_loss' else []
            rows.append(cells)
    return head, rows


def write(report: Mapping[str, Any], folder: str | Path) -> Path:
    """Writes report.json and report.html into a folder, each beside and then renamed."""
    write_texts(
        folder,
        {
            'report.json': json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + '\n',
            'report.html': page(report),
        },
    )
    return Path(folder) / 'report.html'
