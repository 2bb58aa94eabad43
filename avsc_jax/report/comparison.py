"""Compares systems on the same clips: where they differ, and whether by more than chance.

`common` selects the clips that all tables have, `make` compares, `text` gives the text for a
console, `write` writes a page and the numbers. Each system is compared with the first.
"""

import json
import textwrap
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from avsc_jax import metrics, tables
from avsc_jax.report.console import COLUMNS, columns, cut, figure, interval, number, words
from avsc_jax.report.scores import (
    FEW_GROUPS,
    FEWEST_GROUPS,
    METRICS,
    caution,
    cautions,
    groups,
    labelled,
    plain,
)
from avsc_jax.runtime.files import printable, write_texts

LEVEL = 0.05  # a difference with a larger p value is reported as chance
FEW = 10  # clips, and settings, that a console shows
TERMS = {name: metric.terms for name, metric in METRICS.items()}
CELL = 28  # characters of a setting on a console

Members = Mapping[str, tables.Predictions]


def common(members: Members) -> tuple[dict[str, tables.Predictions], list[str]]:
    """Pools tables to clips and keeps the clips that all of them have, by the first one's names.

    Returns:
      The tables, and a warning if clips were left out.

    Raises:
      ValueError: no clip is in all tables.
    """
    pooled = {name: tables.pool(table) for name, table in members.items()}
    first = next(iter(pooled.values())).clip_id.tolist()
    pooled = {name: tables.renamed(table, first) for name, table in pooled.items()}
    clips = [{*table.clip_id} for table in pooled.values()]
    shared, every = set.intersection(*clips), set.union(*clips)
    if shared == every:
        return pooled, []
    counts = ', '.join(f'{name} on {len(of):,}' for name, of in zip(pooled, clips, strict=True))
    if not shared:
        raise ValueError(
            f'no clip is in all tables: they report on different ones ({counts}); give systems '
            'that were scored on the same clips'
        )
    kept = {name: tables.rows(t, np.isin(t.clip_id, [*shared])) for name, t in pooled.items()}
    return kept, [f'reported on different clips ({counts}): only the {len(shared):,} in all count']


def make(
    members: Members,
    systems: Mapping[str, Mapping[str, str]] | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    warned: Iterable[str] = (),
) -> dict[str, Any]:
    """Scores tables of the same clips and tests how the first differs from each other one.

    Args:
      members: name to table, rows in one order; the others are subtracted from the first. Clips of
        unknown scene are left out.
      systems: name to a description, as text by title.
      settings: a setting that differs -> its value, as text, by member.
      warned: warnings besides those of the tables' own reports.

    Returns:
      `scores` of each; `tests` of the first against each other one: `metrics.paired_test`,
      McNemar's, and `per_class` the paired test again (None: no clips); `apart`, the clips that
      they answer most differently; and `systems` and `settings` as given.
    """
    members = labelled(members)
    ours, *_ = members.values()
    labels, (group, over) = ours.label, groups(ours)
    with warnings.catch_warnings():  # clamped rows do not sum to one
        warnings.simplefilter('ignore', UserWarning)
        scores = {name: _scores(table) for name, table in members.items()}
    return {
        'clips': len(labels),
        'over': f'{len(set(group)):,} {over}',
        'interval_caution': caution(len(set(group)), over) or None,
        'class_groups': [len(set(group[labels == i])) for i in range(len(ours.meta['classes']))],
        'classes': [printable(name) for name in ours.meta['classes']],
        'systems': {name: dict(facts) for name, facts in (systems or {}).items() if facts},
        'scores': scores,
        'tests': {name: _test(ours, members[name], group) for name in [*members][1:]},
        'apart': _apart(members),
        'settings': plain(settings or {}),
        'warnings': [*dict.fromkeys([*map(printable, warned), *cautions(members)])],
    }


def text(comparison: Mapping[str, Any]) -> str:
    """Returns the comparison for a console; it ends with one sentence for each pair."""
    lines = [part for line in comparison['warnings'] for part in _wrapped(f'! {line}')]
    for name, facts in comparison['systems'].items():
        lines.append(name)
        for title, fact in facts.items():
            indents = {'initial_indent': f'  {title:<12}', 'subsequent_indent': ' ' * 14}
            lines += textwrap.wrap(fact, COLUMNS, **indents)
    overall, *tables = _tables(comparison)
    lines += [*columns(*overall[1:]), *_wrapped(_method(comparison))]
    for title, head, cells in tables:
        shown = cells if head[0] == 'class' else cells[:FEW]
        lines += ['', *_wrapped(title)]
        lines += columns(head, [[cut(cell, CELL) for cell in row] for row in shown])
        if more := len(cells) - len(shown):
            lines.append(f'and {more:,} more, on the page that --out writes')
    return '\n'.join([*lines, '', *_sentences(comparison)])


def write(comparison: Mapping[str, Any], folder: str | Path) -> Path:
    """Writes comparison.html and comparison.json; returns the page's path."""
    from avsc_jax.report import html, plots  # matplotlib takes a second, and only writing needs it

    values = plain(comparison)
    first, *others = comparison['scores']
    page = html.render(
        'comparison.html',
        title=' and '.join(comparison['scores']),
        sentences=_sentences(comparison),
        warnings=comparison['warnings'],
        tables=_tables(comparison),
        method=_method(comparison),
        drawings=[
            plots.differences(
                f'{first} minus {name}', values['classes'], values['tests'][name]['per_class']
            )
            for name in others
        ],
        systems=comparison['systems'],
    )
    contents = {
        'comparison.html': page,
        'comparison.json': json.dumps(values, indent=1, allow_nan=False, ensure_ascii=False) + '\n',
    }
    write_texts(folder, contents)
    return Path(folder) / 'comparison.html'


def _scores(table: tables.Predictions) -> dict[str, Any]:
    return {
        name: metrics.average_of(metric.terms, table.probs, table.label)
        for name, metric in METRICS.items()
    } | {'per_class': metrics.per_class(table.probs, table.label)}


def _test(ours: tables.Predictions, theirs: tables.Predictions, group: np.ndarray) -> dict:
    """Tests a system against another, over all clips and class by class."""
    labels, probs = ours.label, (ours.probs, theirs.probs)
    mine, other = (each.argmax(axis=1) == labels for each in probs)
    alone = int((mine & ~other).sum()), int((other & ~mine).sum())
    per_class = []
    for scene in range(len(ours.meta['classes'])):
        inside = labels == scene
        of_scene = (*(each[inside] for each in probs), labels[inside], group[inside])
        per_class.append(metrics.paired_test(*of_scene, terms=TERMS) if inside.any() else None)
    # Source: McNemar 1947, exact: a binomial test of the clips that only one system gets right.
    p_value = float(binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0
    return {
        **metrics.paired_test(*probs, labels, group, terms=TERMS),
        'right_alone': alone,
        'mcnemar_p': p_value,
        'per_class': per_class,
    }


def _apart(members: Members) -> list[dict[str, Any]]:
    """Lists clips by how differently the systems rate the true scene, the largest gap first."""
    first, *_ = members.values()
    places, classes = np.arange(len(first.label)), first.meta['classes']
    chances = np.stack([t.probs[places, t.label] / t.probs.sum(axis=1) for t in members.values()])
    spread = np.ptp(np.log(np.maximum(chances, 1e-15)), axis=0)
    order = np.argsort(-spread, kind='stable')
    return [
        {
            'clip': printable(first.clip_id[i]),
            'scene': printable(classes[first.label[i]]),
            'answers': {
                name: (printable(classes[table.probs[i].argmax()]), float(chance))
                for (name, table), chance in zip(members.items(), chances[:, i], strict=True)
            },
        }
        for i in order[: 10 * FEW]
        if spread[i] > 0
    ]


def _tables(comparison: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Returns title, head and rows of the tables that console and page show."""
    names = list(comparison['scores'])
    numbers = [str(n + 1) for n in range(len(names))]
    legend = ', '.join(f'{n}: {name}' for n, name in zip(numbers, names, strict=True))
    shown = [
        ('', [f'clip, {comparison["clips"]:,} items', *map(words, METRICS)], _overall(comparison))
    ]
    _, unit = comparison['over'].split(' ', 1)
    gaps = [f'1-{n} ± s.e.' for n in numbers[1:]]
    losses, shares = ([f'{kind} {n}' for n in numbers] for kind in ('loss', 'acc. %'))
    head = ['class', 'items', unit, *losses, *gaps, *shares, *gaps]
    shown.append((f'Every class; loss: log loss; {legend}', head, _by_class(comparison)))
    if comparison['apart']:
        apart = [
            [
                clip['clip'],
                clip['scene'],
                *(f'{answer} {chance:.3f}' for answer, chance in clip['answers'].values()),
            ]
            for clip in comparison['apart']
        ]
        title = 'Clips answered most differently: answer, chance of the true scene'
        shown.append((title, ['clip', 'scene', *numbers], apart))
    if comparison['settings']:
        cells = [
            [key, *(values.get(name, '–') for name in names)]
            for key, values in comparison['settings'].items()
        ]
        shown.append(('Settings that differ', ['setting', *numbers], cells))
    return shown


def _overall(comparison: Mapping[str, Any]) -> list[list[str]]:
    first, *_ = comparison['scores']
    cells = [
        [f'  {name}', *(figure(metric, score[metric]) for metric in METRICS)]
        for name, score in comparison['scores'].items()
    ]
    for name, test in comparison['tests'].items():
        paired = {metric: plain(test[metric]) for metric in METRICS}
        scales = {metric: (100, 1) if of.percents else (1, 3) for metric, of in METRICS.items()}
        alone = {'accuracy': '{:,}, {:,}'.format(*test['right_alone'])}
        chance = {'accuracy': f'{test["mcnemar_p"]:.2g}'}
        cells += [
            [
                f'{first} minus {name}',
                *(_gap(metric, of['difference'], '+') for metric, of in paired.items()),
            ],
            [
                '  standard error',
                *(_error(metric, of) for metric, of in paired.items()),
            ],
            [
                '  95 % interval',
                *(
                    interval(of['interval'], of['groups'], *scales[metric])
                    for metric, of in paired.items()
                ),
            ],
            ['  p, two-sided', *(f'{of["p_value"]:.2g}' for of in paired.values())],
            ['  right alone', *(alone.get(metric, '') for metric in METRICS)],
            ['  p, McNemar', *(chance.get(metric, '') for metric in METRICS)],
        ]
    return cells


def _by_class(comparison: Mapping[str, Any]) -> list[list[str]]:
    scores = [plain(score['per_class']) for score in comparison['scores'].values()]
    tests = [plain(test['per_class']) for test in comparison['tests'].values()]
    cells = []
    for i, name in enumerate(comparison['classes']):
        gaps = [_class_gap(test[i]) for test in tests]
        cells.append(
            [
                name,
                f'{scores[0]["support"][i]:,}',
                f'{comparison["class_groups"][i]:,}',
                *(number(score['log_loss'][i]) for score in scores),
                *(loss for loss, _ in gaps),
                *(number(score['accuracy'][i], 1, 100) for score in scores),
                *(share for _, share in gaps),
            ]
        )
    return cells


def _class_gap(test: Mapping[str, Any] | None) -> tuple[str, str]:
    """Formats the differences of log loss and accuracy, each as '-0.310 ± 0.020'."""
    if test is None:
        return '–', '–'
    return tuple(
        f'{_gap(name, test[name]["difference"], "+")} ± {_error(name, test[name])}'
        for name in ('log_loss', 'accuracy')
    )


def _error(metric: str, paired: Mapping[str, Any]) -> str:
    """Formats a standard error: '0.020', '0.020!' with few groups, '–' with too few for one."""
    if paired['groups'] < FEWEST_GROUPS:
        return '–'
    return _gap(metric, paired['standard_error']) + '!' * (paired['groups'] < FEW_GROUPS)


def _gap(metric: str, difference: float | None, sign: str = '') -> str:
    """Formats the difference of a metric; '–' if it is undefined."""
    if difference is None:
        return '–'
    return (
        f'{100 * difference:{sign}.1f}' if METRICS[metric].percents else f'{difference:{sign}.3f}'
    )


def _method(comparison: Mapping[str, Any]) -> str:
    few = comparison['interval_caution']
    first = f'{few}; ' if few else ''
    return (
        f'{first}interval, s.e.: bootstrap over {comparison["over"]}, – where there are fewer than '
        f'{FEWEST_GROUPS} and ! where fewer than {FEW_GROUPS}, which makes them too small; p: sign '
        'flips of their sums; right '
        'alone: clips that only the first or only the second gets right, which McNemar’s exact '
        'test compares'
    )


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, COLUMNS, subsequent_indent='  ')


def _sentences(comparison: Mapping[str, Any]) -> list[str]:
    first, *_ = comparison['scores']
    return [
        _sentence(first, name, test['log_loss'], comparison['over'])
        for name, test in comparison['tests'].items()
    ]


def _sentence(first: str, second: str, loss: metrics.Paired, over: str) -> str:
    if loss.difference == 0:
        return f'{first} and {second} have the same log loss.'
    better, worse = (first, second) if loss.difference < 0 else (second, first)
    gap = f'{better} has a lower log loss than {worse}, by {abs(loss.difference):.3f}'
    chance = f'with probability {loss.p_value:.2g}, over {over}'
    if loss.p_value > LEVEL:
        return f'{gap}, but chance alone gives as much {chance}: the difference is not significant.'
    return f'{gap}; chance alone gives as much {chance}.'
