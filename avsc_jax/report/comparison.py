"""Two systems side by side: what tells them apart, and whether it is more than chance.

`make` compares, `text` says it on a console.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from avsc_jax import metrics, tables
from avsc_jax.report.console import interval, number, percent
from avsc_jax.report.scores import cautions, groups, labelled

LEVEL = 0.05  # p values above it are told as chance


def make(members: Mapping[str, tables.Predictions]) -> dict[str, Any]:
    """Log loss and accuracy of two tables of the same clips, and `metrics.paired_test` of them.

    Args:
      members: name to table, in the order of the subtraction, rows in one order; clips of unknown
        scene are left out.
    """
    members = labelled(members)
    table = next(iter(members.values()))
    labels, (group, over) = table.label, groups(table.clip_id)
    with warnings.catch_warnings():  # clamped rows do not sum to one
        warnings.simplefilter('ignore', UserWarning)
        scores = {
            name: {
                'log_loss': metrics.log_loss(table.probs, labels),
                'accuracy': metrics.accuracy(table.probs, labels),
            }
            for name, table in members.items()
        }
    return {
        'clips': len(labels),
        'over': f'{len(set(group)):,} {over}',
        'scores': scores,
        'test': metrics.paired_test(*(t.probs for t in members.values()), labels, group),
        'warnings': cautions(members),
    }


def text(comparison: Mapping[str, Any]) -> str:
    """The comparison for a console; its last line is one plain sentence."""
    loss, accuracy = (comparison['test'][name] for name in ('log_loss', 'accuracy'))
    first, second = comparison['scores']
    rows = [(f'clip, {comparison["clips"]:,} items', 'log loss', 'accuracy')]
    rows += [
        (f'  {name}', number(score['log_loss']), percent(score['accuracy']))
        for name, score in comparison['scores'].items()
    ]
    rows += [
        (f'{first} minus {second}', f'{loss.difference:+.3f}', f'{100 * accuracy.difference:+.1f}'),
        (
            '  standard error',
            f'{loss.standard_error:.3f}',
            f'{100 * accuracy.standard_error:.1f}',
        ),
        ('  95 % interval', interval(loss.interval), interval(accuracy.interval, 100, 1)),
        ('  p, two-sided', f'{loss.p_value:.2g}', f'{accuracy.p_value:.2g}'),
    ]
    return '\n'.join(
        [
            *(f'! {line}' for line in comparison['warnings']),
            *(f'{a:<34}{b:>18}{c:>18}'.rstrip() for a, b, c in rows),
            f'interval: bootstrap over {comparison["over"]}; p: sign flips of their sums',
            _sentence(first, second, loss, comparison['over']),
        ]
    )


def _sentence(first: str, second: str, loss: metrics.Paired, over: str) -> str:
    if loss.difference == 0:
        return f'{first} and {second} have the same log loss.'
    better, worse = (first, second) if loss.difference < 0 else (second, first)
    gap = f'{better} has a lower log loss than {worse}, by {abs(loss.difference):.3f}'
    chance = f'with probability {loss.p_value:.2g}, over {over}'
    if loss.p_value > LEVEL:
        return f'{gap}, but chance alone gives as much {chance}: they are not told apart.'
    return f'{gap}; chance alone gives as much {chance}.'
