"""Writes a report as text for a console; formats numbers for all reports."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from avsc_jax.report.scores import FEWEST_GROUPS, METRICS, caution

COLUMNS, CLASS_LINES = 100, 12  # width of the console, and classes shown
DECISION = 'step, fitted on other places'


def text(report: Mapping[str, Any]) -> str:
    """Returns a report for a console: warnings, headline beside the paper's, and classes."""
    from avsc_jax.report import label_text  # which formats numbers as this file does

    about, paper = report['about'], report['paper']
    lines = [f'! {line}' for line in about['warnings']]
    weights = ', '.join(f'{name} {origin}' for name, origin in about['weights'].items())
    lines += [report['title'], f'data: {about["data"]}', f'protocol: {about["protocol"]}']
    lines += [f'weights: {weights}'] if weights else []
    lines += [f'training: {about["training"]}'] if about.get('training') else []
    lines = [
        part for line in lines for part in textwrap.wrap(line, COLUMNS, subsequent_indent='  ')
    ]
    headline = report['headline']
    is_several = report.get('kind') == 'independent'
    if headline is None:
        lines.append(unscored(report))
    elif is_several:
        lines += label_text.headline(headline, report['scores'][headline])
    else:
        lines += _score_lines(headline, report['scores'][headline], paper)
    if paper:
        source = f'  paper: {paper_source(paper)}'
        lines += textwrap.wrap(source, COLUMNS, subsequent_indent='    ')
    for granularity, score in report['scores'].items():
        if granularity != headline and is_several:
            lines += label_text.other(granularity, score)
        elif granularity != headline:
            shown = ', '.join(
                f'{words(name)} {figure(name, score[f"{name}_micro"])} '
                f'(macro {figure(name, score[f"{name}_macro"])})'
                for name in METRICS
            )
            line = f'{granularity}, {score["items"]:,} items: {shown}'
            lines += textwrap.wrap(line, COLUMNS, subsequent_indent='  ')
    if report['best_epoch'] is not None:
        lines.append(f'epoch {report["best_epoch"]} kept, of {len(report["history"])}')
    for title, values in report.get('learned', {}).items():
        shown = ', '.join(f'{name} {value:.3f}' for name, value in values.items())
        lines += textwrap.wrap(f'{title}: {shown}', COLUMNS, subsequent_indent='  ')
    if report.get('members'):
        lines += (label_text.members if is_several else _member_lines)(report['members'])
    if report.get('decision'):
        from avsc_jax.report import paired  # which imports this module

        lines += columns(*paired.table(DECISION, report['decision']))
    if headline:
        lines += (label_text.labels if is_several else _class_lines)(report)
    return '\n'.join(lines)


def unscored(report: Mapping[str, Any]) -> str:
    """Explains why a run has no scores."""
    sentence = 'no score: all labelled clips were trained on'
    if not report['history']:  # fitted, not trained
        return sentence
    return f'{sentence}; training loss {number(report["history"][-1]["train_loss"])} at the end'


def number(value: float | None, digits: int = 3, scale: float = 1) -> str:
    """Formats a number; an undefined one becomes a dash."""
    return '–' if value is None else f'{scale * value:.{digits}f}'


def percent(value: float | None) -> str:
    """Formats a share: 0.909 -> '90.9 %'."""
    return '–' if value is None else f'{100 * value:.1f} %'


def words(name: str) -> str:
    """Turns a metric's name into words: 'log_loss' -> 'log loss'."""
    return name.replace('_', ' ')


def figure(name: str, value: float | None) -> str:
    """Formats the value of a metric of METRICS."""
    return percent(value) if METRICS[name].percents else number(value)


def interval(bounds: Sequence[float | None], groups: int, scale: float = 1, digits: int = 3) -> str:
    """Formats an interval: (0.25, 0.31) -> '[0.250, 0.310]'; '' if it rests on too few groups."""
    if bounds[0] is None or groups < FEWEST_GROUPS:
        return ''
    return f'[{scale * bounds[0]:.{digits}f}, {scale * bounds[1]:.{digits}f}]'


def spread(score: Mapping[str, Any]) -> str:
    """Says what the intervals of one granularity are and which groups they are drawn over."""
    groups, over = score['groups'], score['over']
    names = ' (no locations or groups are known)' if over == 'clips' else ''
    few = caution(groups, over)
    if groups < FEWEST_GROUPS:
        return few + names
    return f'in brackets: 95 % intervals; {few or f"bootstrap over {groups:,} {over}"}{names}'


def published(paper: Mapping[str, Any] | None, name: str) -> str:
    """Formats the paper's `log_loss` or `accuracy`, and ours minus it: '0.273 (+0.008)'."""
    if not paper or paper.get(name) is None:
        return ''
    percents = METRICS[name].percents
    value = percent(paper[name]) if percents else number(paper[name])
    gap = paper['difference'][name]
    if gap is None:
        return value
    return f'{value} ({100 * gap:+.1f})' if percents else f'{value} ({gap:+.3f})'


def paper_level(paper: Mapping[str, Any], headline: str) -> str:
    """Returns 'paper', or 'paper (second)' if its number has another level than the headline."""
    level = paper.get('granularity', 'clip')
    return 'paper' if level == headline else f'paper ({level})'


def paper_source(paper: Mapping[str, Any]) -> str:
    """Says where the published number stands, its level and average, and whether ours has them.

    A `note` about how the system differs from the paper's follows.
    """
    source = ', '.join(str(paper[key]) for key in ('row', 'source') if key in paper)
    kind = f'{paper.get("granularity", "clip")} level, {paper.get("average", "micro")}'
    gaps = paper['difference'].values()
    source = f'{source} ({kind}{"" if any(g is not None for g in gaps) else "; not scored here"})'
    return '; '.join(filter(None, [source, paper.get('note')]))


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Formats a table for a console: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        '  '.join([f'{name:<{widths[0]}}', *map(str.rjust, cells, widths[1:])]).rstrip()
        for name, *cells in [head, *rows]
    ]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Formats a table as Markdown, padded so that columns align in plain text too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ['-' * width for width in widths], *rows]
    return [f'| {" | ".join(map(str.ljust, line, widths))} |' for line in lines]


def cut(name: str, width: int) -> str:
    """Shortens a name to a width, ending in '…' if it was longer."""
    return name if len(name) <= width else f'{name[: width - 1]}…'


def _score_lines(granularity: str, score: Mapping[str, Any], paper: Mapping | None) -> list[str]:
    """Lines of the headline: ours, micro and macro with intervals, and the paper's."""
    theirs = paper_level(paper, granularity) if paper else ''
    rows = [(f'{granularity}, {score["items"]:,} items', 'micro', 'macro', theirs)]
    for name, metric in METRICS.items():
        scale = (100, 1) if metric.percents else (1, 3)
        ours = (
            f'{figure(name, score[f"{name}_{average}"])} '
            f'{interval(score[f"{name}_{average}_interval"], score["groups"], *scale)}'
            for average in ('micro', 'macro')
        )
        rows.append((f'  {words(name)}', *ours, published(paper, name)))
    lines = [f'{a:<24}{b:<26}{c:<26}{d}'.rstrip() for a, b, c, d in rows]
    return [
        *lines,
        f'  log loss not renormalised {number(score["log_loss_micro_raw"])}, macro '
        f'{number(score["log_loss_macro_raw"])}; calibration error '
        f'{number(score["calibration_error"])}, mean max. confidence '
        f'{number(score["mean_confidence"])}',
        *textwrap.wrap(f'  {spread(score)}', COLUMNS, subsequent_indent='    '),
    ]


def _member_lines(members: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of an ensemble: one for each member, the ensemble last."""
    first = f'member ({members[0]["level"]})'
    head = ''.join(f'{words(name):>11}{"macro":>9}' for name in METRICS)
    lines = [f'{first:<33}{head}{"max p":>8}']
    for member in members:
        shown = (
            f'{figure(name, member[f"{name}_micro"]):>11}{figure(name, member[f"{name}_macro"]):>9}'
            for name in METRICS
        )
        confidence = number(member['mean_confidence'])
        lines.append(f'{cut(member["name"], 32):<33}{"".join(shown)}{confidence:>8}')
    return lines


def _class_lines(report: Mapping[str, Any]) -> list[str]:
    """Lines of the per-class table; of many classes those with the lowest recall."""
    table = report['scores'][report['headline']]['per_class']
    rows = [
        (name, table['support'][index], {key: table[key][index] for key in table['macro']})
        for index, name in enumerate(report['classes'])
    ]
    left_out = len(rows) - CLASS_LINES
    if left_out > 0:
        rows.sort(key=lambda row: math.inf if row[2]['recall'] is None else row[2]['recall'])
        rows = rows[:CLASS_LINES]
    rows += [(f'{name} average', None, table[name]) for name in ('macro', 'weighted')]
    lines = [f'{"class":<28}{"items":>8}{"precision":>12}{"recall":>10}{"F1":>10}{"log loss":>11}']
    for name, support, values in rows:
        lines.append(
            f'{cut(name, 27):<28}{"" if support is None else f"{support:,}":>8}'
            f'{percent(values["precision"]):>12}{percent(values["recall"]):>10}'
            f'{percent(values["f1"]):>10}{number(values["log_loss"]):>11}'
        )
    if left_out > 0:
        lines.append(f'and {left_out} classes with higher recall, in report.json')
    return lines
