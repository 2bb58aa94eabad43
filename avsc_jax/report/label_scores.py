"""Scores a table of independent classes, such as labels of which a clip may have several."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from avsc_jax import label_metrics, tables
from avsc_jax.tables import thresholds

# Metrics of which reports show a mean over labels, 'macro', and one over all pairs, 'micro'.
MEANS = ('average_precision', 'f1')
DRAWS = 1000  # of groups, for intervals
MOST_VALUES = 200_000_000  # of all draws; some ten seconds


def of(table: tables.Predictions, group: np.ndarray) -> dict[str, Any]:
    """Computes all scores of one granularity.

    Args:
      table: every row has its labels.
      group: of each row; intervals are drawn over groups.
    """
    probs, labels, classes = table.probs, table.label, table.meta['classes']
    limits = np.array(limits_of(table)['thresholds'])
    count = label_metrics.counts(labels)
    precisions = label_metrics.average_precision(probs, labels)
    called = label_metrics.at_thresholds(probs, labels, limits)
    draws = int(np.clip(MOST_VALUES // probs.size, 100, DRAWS))
    drawn = label_metrics.intervals(probs, labels, group, limits, samples=draws)
    losses, brier = label_metrics.log_loss(probs, labels), label_metrics.brier(probs, labels)
    areas = label_metrics.roc_auc(probs, labels)
    scores = {
        'average_precision_macro': label_metrics.macro(precisions),
        'average_precision_micro': label_metrics.micro_average_precision(probs, labels),
        **{f'f1_{average}': called[average]['f1'] for average in ('macro', 'micro')},
        'log_loss': float(losses.mean()),
        **{f'{name}_interval': bounds for name, bounds in drawn.items() if name in _INTERVALS},
    }
    return scores | {
        'roc_auc_macro': label_metrics.macro(areas),
        'brier': float(brier.mean()),
        'precision_recall': {average: called[average] for average in ('macro', 'micro')},
        'labels_per_item': float(labels.sum(axis=1).mean()),
        'without_positives': [classes[c] for c in np.flatnonzero(count == 0)],
        'draws': draws,
        'per_class': {
            'support': count,
            'threshold': limits,
            'average_precision': precisions,
            'average_precision_interval': drawn['average_precision'],
            'chance': count / len(labels),
            'roc_auc': areas,
            **{name: called[name] for name in ('precision', 'recall', 'f1', 'called')},
            'log_loss': losses,
            'brier': brier,
        },
    }


_INTERVALS = (
    *(f'{name}_{average}' for name in MEANS for average in ('macro', 'micro')),
    'log_loss',
)


def limits_of(table: tables.Predictions) -> Mapping:
    """Returns a table's thresholds; 0.5 each where it has none."""
    return table.meta.get('thresholds') or thresholds.default(table.meta['classes'])


def cautions(scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a warning about the labels that are true of no item, and are left out."""
    score = next(iter(scores.values()))
    names = score['without_positives']
    if not names:
        return []
    total = len(score['per_class']['support'])
    listed = ', '.join(names[:5]) + ', ...' * (len(names) > 5)
    return [
        f'{len(names)} of {total} labels are true of no item, and are left out of every mean over '
        f'labels: {listed}'
    ]
