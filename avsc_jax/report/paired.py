"""The table of systems that differ by a part or a step, with paired intervals over locations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avsc_jax import metrics
from avsc_jax.report.console import figure, interval, words
from avsc_jax.report.scores import FEWEST_GROUPS, plain

METRICS = ('log_loss', 'accuracy')


def row(
    name: str,
    probs: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    against: np.ndarray | None = None,
) -> dict[str, Any]:
    """Scores a system, and tests how it differs from another one on the same rows.

    Args:
      name: of the system.
      probs: its probabilities `[N, C]`.
      labels: the true classes.
      groups: the place of each row, over which intervals are drawn.
      against: probabilities of the system that is subtracted; None: no test.

    Example:
      >>> probs, labels = np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([0, 1])
      >>> made = row('ours', probs, labels, np.array(['a', 'b']), against=probs)
      >>> made['tests']['log_loss']['difference'], made['accuracy']
      (0.0, 1.0)
    """
    made = {
        'name': name,
        'log_loss': float(metrics.log_loss(probs, labels)),
        'accuracy': float(metrics.accuracy(probs, labels)),
    }
    if against is not None:
        tests = metrics.paired_test(probs, against, labels, groups)
        made['tests'] = {metric: plain(test) for metric, test in tests.items()}
    return made


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns head and cells of the table of `row`s: scores, differences, intervals and p."""
    head = [title]
    for metric in METRICS:
        head += [words(metric), 'difference', '95 % interval', 'p']
    return head, [
        [of['name'], *(cell for metric in METRICS for cell in _cells(metric, of))] for of in rows
    ]


def _cells(metric: str, of: Mapping[str, Any]) -> list[str]:
    score = figure(metric, of[metric])
    if 'tests' not in of:
        return [score, '', '', '']
    test = of['tests'][metric]
    scale, digits = (100, 1) if metric == 'accuracy' else (1, 3)
    shown = '–'
    if test['groups'] >= FEWEST_GROUPS:
        shown = interval(test['interval'], test['groups'], scale, digits)
    gap = f'{scale * test["difference"]:+.{digits}f}'
    return [score, gap, shown, f'{test["p_value"]:.2g}']
