"""A report as one self-contained HTML page: inline CSS and SVG, no script, no network."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from avsc_jax.report import plots
from avsc_jax.report.console import (
    interval,
    number,
    paper_level,
    paper_source,
    percent,
    published,
    spread,
    unscored,
)

CSS = """
:root { color-scheme: light dark; --ink: #1c2530; --dim: #5c6875; --line: #dde3e9;
  --page: #f4f6f8; --card: #ffffff; --blue: #0072b2; --orange: #e69f00; --green: #009e73;
  --warn: #fff3d1; --warn-ink: #5f4300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --dim: #9aa7b3; --line: #323b45;
  --page: #0f1419; --card: #182028; --blue: #2f86c9; --orange: #f0b132; --green: #1fae86;
  --warn: #3a2f10; --warn-ink: #ffe2a0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 28px 20px 48px; display: grid; gap: 18px;
  grid-template-columns: repeat(2, minmax(0, 1fr)); }
main > * { grid-column: 1 / -1; min-width: 0; overflow-wrap: anywhere; }
main > .half { grid-column: auto; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 10px; }
h2 { font-size: 16px; margin: 0 0 10px; }
p { margin: 0; }
.dim { color: var(--dim); }
dl { margin: 0; display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; }
dt { color: var(--dim); } dd { margin: 0; }
.warning { background: var(--warn); color: var(--warn-ink); border-left: 5px solid var(--orange);
  border-radius: 6px; padding: 12px 18px; font-weight: 600; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 19px; overflow-x: auto; }
.tiles { display: grid; gap: 18px; grid-template-columns: repeat(auto-fit, minmax(215px, 1fr)); }
.tile b { display: block; font-size: 32px; line-height: 1.25; font-weight: 650; }
.tile span { display: block; }
svg { display: block; width: 100%; font-family: inherit; }
.wide svg { min-width: 760px; }
.alone svg { max-width: 560px; margin: 0 auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--dim); font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
summary { cursor: pointer; font-weight: 650; }
@media (max-width: 800px) { main > .half { grid-column: 1 / -1; } }
@media print { .card { break-inside: avoid; } }
"""


def page(report: Mapping[str, Any]) -> str:
    """The whole page. Everything that comes from names, files or configs is escaped."""
    drawings = plots.draw(report)
    parts = [
        f'<header><h1>{escape(report["title"])}</h1>{facts(_about(report["about"]))}</header>',
        warning(report['about']['warnings']),
        *(_unscored if report['headline'] is None else _scored)(report, drawings),
        card(f'<h2>How it was made</h2>{facts(_made(report))}'),
    ]
    return document(report['title'], filter(None, parts))


def _unscored(report: Mapping[str, Any], drawings: Mapping[str, str]) -> list[str]:
    return [f'<p class="dim">{escape(unscored(report))}</p>', card(drawings['curves'], 'wide')]


def _scored(report: Mapping[str, Any], drawings: Mapping[str, str]) -> list[str]:
    headline = report['headline']
    score = report['scores'][headline]
    return [
        _tiles(report, score),
        card(drawings['classes'], 'wide'),
        card(drawings.get('curves'), 'wide'),
        card(drawings['reliability'], 'half' if 'cities' in drawings else 'alone'),
        card(drawings.get('cities'), 'half'),
        _members(report.get('members')),
        _granularities(report['scores']),
        _classes(report['classes'], score, headline),
        _confusion(report['classes'], score['confusion']),
        _cities(score['cities'], headline),
    ]


def document(title: str, parts: Iterable[str], css: str = '') -> str:
    """A page with this title and these parts, which are HTML, in the style of all reports."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{CSS}{css}</style>\n</head>\n<body>\n<main>\n'
        + '\n'.join(parts)
        + '\n</main>\n</body>\n</html>\n'
    )


def warning(lines: Iterable[str]) -> str:
    """What must be known first; nothing without lines."""
    shown = ''.join(f'<p>{escape(line)}</p>' for line in lines)
    return f'<div class="warning" role="alert">{shown}</div>' if shown else ''


def _tiles(report: Mapping[str, Any], score: Mapping[str, Any]) -> str:
    """The headline: at the paper's average, or micro, with the other average beside."""
    paper = report['paper']
    first = (paper or {}).get('average', 'micro')
    other = 'micro' if first == 'macro' else 'macro'
    shown = {name: published(paper, name) for name in ('accuracy', 'log_loss')}
    beside = {
        name: f'{paper_level(paper, report["headline"])} {line}' if line else ''
        for name, line in shown.items()
    }
    confidence = f'mean max. confidence {number(score["mean_confidence"])}'
    tiles = [
        (
            f'Accuracy, {first}',
            percent(score[f'accuracy_{first}']),
            interval(score[f'accuracy_{first}_interval'], 100, 1),
            beside['accuracy'],
        )
    ]
    tiles += [
        (
            f'Log loss, {average}',
            number(score[f'log_loss_{average}']),
            interval(score[f'log_loss_{average}_interval']),
            line,
        )
        for average, line in (
            (first, beside['log_loss']),
            (other, f'accuracy {percent(score[f"accuracy_{other}"])}'),
        )
    ]
    tiles.append(('Calibration error', number(score['calibration_error']), confidence, ''))
    cards = ''.join(
        f'<div class="card tile">{escape(name)}<b>{value}</b><span class="dim">{bounds or "&nbsp;"}'
        f'</span><span>{escape(line) or "&nbsp;"}</span></div>'
        for name, value, bounds, line in tiles
    )
    level = f'{report["headline"].capitalize()} level'
    note = f'{level}, {score["items"]:,} items; micro: mean of items, macro: mean of classes. '
    note += f'{spread(score).capitalize()}.'
    if paper:
        note += f' Paper: {paper_source(paper)}; in parentheses ours minus the paper’s.'
    return f'<div class="tiles">{cards}</div><p class="dim">{escape(note)}</p>'


def card(content: str | None, kind: str = '') -> str:
    """HTML on a card of its own; `kind`: wide, half or alone."""
    return f'<section class="card {kind}">{content}</section>' if content else ''


def facts(told: Mapping[str, object]) -> str:
    """Titles and what is told under each; nothing of what is empty."""
    rows = (f'<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>' for k, v in told.items() if v)
    return f'<dl>{"".join(rows)}</dl>'


def _about(about: Mapping[str, Any]) -> dict[str, str]:
    weights = ', '.join(f'{name} {origin}' for name, origin in about['weights'].items())
    return {'data': about['data'], 'protocol': about['protocol'], 'weights': weights}


def _made(report: Mapping[str, Any]) -> dict[str, Any]:
    versions = ', '.join(f'{name} {version}' for name, version in report['versions'].items())
    best = report['best_epoch']
    learned = {
        title: ', '.join(f'{name} {number(value)}' for name, value in values.items())
        for title, values in report.get('learned', {}).items()
    }
    return learned | {
        'kept epoch': None if best is None else f'{best} (of {len(report["history"])})',
        'calibrated': 'yes' if report['calibrated'] else 'no',
        'split': report['split'],
        'step': report['step'],
        'config hash': report['config_hash'],
        'versions': versions,
    }


def _members(members: Sequence[Mapping[str, Any]] | None) -> str:
    level = members[0]['level'] if members else ''
    head = (
        f'member ({level})',
        'log loss',
        'macro',
        'accuracy',
        'macro',
        'mean maximum confidence',
    )
    rows = [
        (
            member['name'],
            number(member['log_loss_micro']),
            number(member['log_loss_macro']),
            percent(member['accuracy_micro']),
            percent(member['accuracy_macro']),
            number(member['mean_confidence']),
        )
        for member in members or ()
    ]
    return card(f'<h2>Members and their mix</h2>{html_table(head, rows)}') if rows else ''


def _granularities(scores: Mapping[str, Mapping[str, Any]]) -> str:
    head = (
        'level and average',
        'items',
        'log loss',
        '95 %',
        'not renormalised',
        'accuracy',
        '95 %',
    )
    rows = [
        (
            f'{granularity}, {average}',
            f'{score["items"]:,}',
            number(score[f'log_loss_{average}']),
            interval(score[f'log_loss_{average}_interval']),
            number(score[f'log_loss_{average}_raw']),
            percent(score[f'accuracy_{average}']),
            interval(score[f'accuracy_{average}_interval'], 100, 1),
        )
        for granularity, score in scores.items()
        for average in ('micro', 'macro')
    ]
    return card(f'<h2>Scores at every level</h2>{html_table(head, rows)}')


def _classes(names: Sequence[str], score: Mapping[str, Any], headline: str) -> str:
    table = score['per_class']
    keys = ('precision', 'recall', 'f1', 'accuracy')
    rows = [
        (
            name,
            f'{table["support"][i]:,}',
            *(percent(table[key][i]) for key in keys),
            number(table['log_loss'][i]),
        )
        for i, name in enumerate(names)
    ]
    rows += [
        (
            f'{average} average',
            '',
            *(percent(table[average][key]) for key in keys),
            number(table[average]['log_loss']),
        )
        for average in ('macro', 'weighted')
    ]
    head = ('class', 'support', 'precision', 'recall', 'F1', 'accuracy', 'log loss')
    return folded(f'Scores of every class, {headline} level', html_table(head, rows))


def _confusion(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    rows = [(name, *(f'{n:,}' for n in row)) for name, row in zip(names, counts, strict=True)]
    table = html_table(('true \\ predicted', *names), rows)
    return folded('Confusion matrix, counts: a row is a true class', table)


def _cities(cities: Mapping[str, Mapping[str, Any]], headline: str) -> str:
    rows = [
        (name, f'{city["items"]:,}', percent(city['accuracy']), number(city['log_loss']))
        for name, city in cities.items()
    ]
    table = html_table(('city', 'items', 'accuracy', 'log loss'), rows)
    return folded(f'Scores of every city, {headline} level', table) if rows else ''


def folded(title: str, content: str) -> str:
    """HTML on a card that a click on its title opens."""
    return card(f'<details><summary>{escape(title)}</summary>{content}</details>')


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are text and are escaped."""
    names = ''.join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = ''.join(
        f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>\n' for row in rows
    )
    return f'<table><thead><tr>{names}</tr></thead><tbody>\n{body}</tbody></table>'
