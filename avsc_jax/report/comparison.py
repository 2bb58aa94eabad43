"""Systems side by side: what tells them apart, and whether it is more than chance.

`common` finds the clips that all answer, `make` compares, `text` says it on a console, `write`
leaves a page and the numbers. All others are compared with the first.
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
from avsc_jax.report.scores import METRICS, cautions, groups, labelled, plain, rows
from avsc_jax.runtime.files import printable, write_texts

LEVEL = 0.05  # p values above it are told as chance
FEW = 10  # clips, and settings, that a console shows
TERMS = {name: metric.terms for name, metric in METRICS.items()}
CELL = 28  # characters of a setting there

Members = Mapping[str, tables.Predictions]


def common(members: Members) -> tuple[dict[str, tables.Predictions], list[str]]:
    """Tables of those clips that all have, and a warning where some have others too."""
    found = {name: tables.pool(table) for name, table in members.items()}
    clips = [{*table.clip_id} for table in found.values()]
    shared, every = set.intersection(*clips), set.union(*clips)
    if shared == every:
        return found, []
    told = ', '.join(f'{name} on {len(of):,}' for name, of in zip(found, clips, strict=True))
    if not shared:
        raise ValueError(
            f'no clip is in all tables: they report on different ones ({told}); give systems that '
            'were scored on the same clips'
        )
    found = {name: rows(t, np.isin(t.clip_id, [*shared])) for name, t in found.items()}
    return found, [f'reported on different clips ({told}): only the {len(shared):,} in all count']


def make(
    members: Members,
    systems: Mapping[str, Mapping[str, str]] | None = None,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    warned: Iterable[str] = (),
) -> dict[str, Any]:
    """Log loss and accuracy of tables of the same clips, and how the first differs from the others.

    Args:
      members: name to table, in the order of the subtraction, rows in one order; clips of unknown
        scene are left out.
      systems: what each is, as text by title.
      settings: that differ -> the value of each member that has it, as text.
      warned: what is to be said beside what the tables' own reports warn of.

    Returns:
      `scores` of each; `tests`, of the first and each other: `metrics.paired_test`, McNemar's, and
      `per_class` the paired test again (None: no clips); `apart`, the clips from those that they
      answer most differently; and `systems` and `settings` as given.
    """
    members = labelled(members)
    ours, *_ = members.values()
    labels, (group, over) = ours.label, groups(ours.clip_id)
    with warnings.catch_warnings():  # clamped rows do not sum to one
        warnings.simplefilter('ignore', UserWarning)
        scores = {name: _scores(table) for name, table in members.items()}
    return {
        'clips': len(labels),
        'over': f'{len(set(group)):,} {over}',
        'classes': [printable(name) for name in ours.meta['classes']],
        'systems': {name: dict(facts) for name, facts in (systems or {}).items() if facts},
        'scores': scores,
        'tests': {name: _test(ours, members[name], group) for name in [*members][1:]},
        'apart': _apart(members),
        'settings': plain(settings or {}),
        'warnings': list(dict.fromkeys([*map(printable, warned), *cautions(members)])),
    }


def text(comparison: Mapping[str, Any]) -> str:
    """The comparison for a console; its last lines are one plain sentence for each pair."""
    lines = [part for line in comparison['warnings'] for part in _wrapped(f'! {line}')]
    for name, facts in comparison['systems'].items():
        lines.append(name)
        for title, told in facts.items():
            indents = {'initial_indent': f'  {title:<12}', 'subsequent_indent': ' ' * 14}
            lines += textwrap.wrap(told, COLUMNS, **indents)
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

    told = plain(comparison)
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
                f'{first} minus {name}', told['classes'], told['tests'][name]['per_class']
            )
            for name in others
        ],
        systems=comparison['systems'],
    )
    contents = {
        'comparison.html': page,
        'comparison.json': json.dumps(told, indent=1, allow_nan=False, ensure_ascii=False) + '\n',
    }
    write_texts(folder, contents)
    return Path(folder) / 'comparison.html'


def _scores(table: tables.Predictions) -> dict[str, Any]:
    return {
        name: metrics.average_of(metric.terms, table.probs, table.label)
        for name, metric in METRICS.items()
    } | {'per_class': metrics.per_class(table.probs, table.label)}


def _test(ours: tables.Predictions, theirs: tables.Predictions, group: np.ndarray) -> dict:
    """The first against another, in all and class by class."""
    labels, probs = ours.label, (ours.probs, theirs.probs)
    mine, other = (each.argmax(axis=1) == labels for each in probs)
    alone = int((mine & ~other).sum()), int((other & ~mine).sum())
    per_class = []
    for scene in range(len(ours.meta['classes'])):
        of = labels == scene
        of_scene = (*(each[of] for each in probs), labels[of], group[of])
        per_class.append(metrics.paired_test(*of_scene, terms=TERMS) if of.any() else None)
    # Source: McNemar 1947; exact: heads and tails among the clips that only one gets right.
    p_value = float(binomtest(alone[0], sum(alone)).pvalue) if sum(alone) else 1.0
    return {
        **metrics.paired_test(*probs, labels, group, terms=TERMS),
        'right_alone': alone,
        'mcnemar_p': p_value,
        'per_class': per_class,
    }


def _apart(members: Members) -> list[dict[str, Any]]:
    """The clips, those first whose true scene the systems give the most different chances."""
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
    """Title, head and rows of what console and page show."""
    names = list(comparison['scores'])
    numbers = [str(n + 1) for n in range(len(names))]
    told = ', '.join(f'{n}: {name}' for n, name in zip(numbers, names, strict=True))
    found = [
        ('', [f'clip, {comparison["clips"]:,} items', *map(words, METRICS)], _overall(comparison))
    ]
    gaps = [f'1-{n} ± s.e.' for n in numbers[1:]]
    losses, shares = ([f'{kind} {n}' for n in numbers] for kind in ('log loss', 'acc. %'))
    head = ['class', 'items', *losses, *gaps, *shares, *gaps]
    found.append((f'Every class; {told}', head, _by_class(comparison)))
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
        found.append((title, ['clip', 'scene', *numbers], apart))
    if comparison['settings']:
        cells = [
            [key, *(values.get(name, '–') for name in names)]
            for key, values in comparison['settings'].items()
        ]
        found.append(('Settings that differ', ['setting', *numbers], cells))
    return found


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
                *(_gap(metric, of['standard_error']) for metric, of in paired.items()),
            ],
            [
                '  95 % interval',
                *(interval(of['interval'], *scales[metric]) for metric, of in paired.items()),
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
                *(number(score['log_loss'][i]) for score in scores),
                *(loss for loss, _ in gaps),
                *(number(score['accuracy'][i], 1, 100) for score in scores),
                *(share for _, share in gaps),
            ]
        )
    return cells


def _class_gap(test: Mapping[str, Any] | None) -> tuple[str, str]:
    """'-0.310 ± 0.020' of the log loss, and of the accuracy in percent."""
    if test is None:
        return '–', '–'
    return tuple(
        f'{_gap(name, test[name]["difference"], "+")} ± {_gap(name, test[name]["standard_error"])}'
        for name in ('log_loss', 'accuracy')
    )


def _gap(metric: str, difference: float | None, sign: str = '') -> str:
    """A difference of a metric; '–' where there is one location only."""
    if difference is None:
        return '–'
    return (
        f'{100 * difference:{sign}.1f}' if METRICS[metric].percents else f'{difference:{sign}.3f}'
    )


def _method(comparison: Mapping[str, Any]) -> str:
    return (
        f'interval, s.e.: bootstrap over {comparison["over"]}; p: sign flips of their sums; right '
        'alone: clips that only the one or only the other gets right, of which McNemar’s exact '
        'test is'
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
        return f'{gap}, but chance alone gives as much {chance}: they are not told apart.'
    return f'{gap}; chance alone gives as much {chance}.'
