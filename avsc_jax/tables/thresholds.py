"""The threshold from which on a label is called true, fitted on clips that are not reported on."""

from collections.abc import Mapping, Sequence

import numpy as np

from avsc_jax import label_metrics
from avsc_jax.runtime import json_files
from avsc_jax.runtime.files import some

FILE = 'thresholds.json'  # of a run folder
SHAPE = {  # of the file, and of `meta.thresholds` of a table; see runtime.json_files
    'thresholds': [float], 'beta': float, 'fitted_on': str, 'not_fitted': [str],
}  # fmt: skip


def fit(
    probs: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    beta: float,
    fitted_on: str,
) -> dict:
    """Fits the thresholds of a run on clips that it was not trained on.

    Args:
      probs, labels: of clips `[N, C]`.
      classes: the C names.
      beta: see `label_metrics.best_thresholds`.
      fitted_on: the clips, in words, such as 'validation'.

    Returns:
      `thresholds`, the list of C numbers; `beta`; `fitted_on`; and `not_fitted`, the labels that
      are true of none of the clips, whose threshold is 0.5.
    """
    found = label_metrics.best_thresholds(probs, labels, beta=beta)
    unknown = np.isnan(found)
    return {
        'thresholds': np.where(unknown, label_metrics.DEFAULT, found).tolist(),
        'beta': beta,
        'fitted_on': fitted_on,
        'not_fitted': [name for name, none in zip(classes, unknown, strict=True) if none],
    }


def checked(fitted: Mapping, num_classes: int) -> dict:
    """Returns thresholds that come from a file; raises ValueError if they cannot be."""
    json_files.check(fitted, SHAPE, 'thresholds')
    values = fitted['thresholds']
    if len(values) != num_classes or not all(0 <= value <= 1 for value in values):
        raise ValueError(
            f'there are {len(values)} thresholds for {num_classes} labels, such as '
            f'{some(values)}; there must be one each, in [0, 1]'
        )
    return dict(fitted)


def moved(meta: Mapping, columns: Sequence[int]) -> dict[str, dict]:
    """Returns `thresholds` of a table's meta in another order of the classes, if it has them."""
    if 'thresholds' not in meta:
        return {}
    values = meta['thresholds']['thresholds']
    return {'thresholds': {**meta['thresholds'], 'thresholds': [values[c] for c in columns]}}


def default(classes: Sequence[str]) -> dict:
    """Returns thresholds of 0.5, where there are no clips to fit others on."""
    nothing = np.zeros((1, len(classes)))
    return fit(nothing, nothing, classes, beta=1.0, fitted_on='nothing')


def sentence(fitted: Mapping) -> str:
    """Says on what thresholds were fitted, and which were not."""
    most = 'F1' if fitted['beta'] == 1 else f'F{fitted["beta"]:g}'
    if fitted['fitted_on'] == 'nothing':
        return f'a threshold of {label_metrics.DEFAULT} each, as none was fitted'
    text = f'thresholds of the largest {most} on {fitted["fitted_on"]}'
    if names := fitted['not_fitted']:
        text += (
            f'; {len(names)} labels are true of no clip there and have {label_metrics.DEFAULT}: '
            f'{some(names)}'
        )
    return text
