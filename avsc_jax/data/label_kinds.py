"""Labels of records: one class, or the several classes that are true; and both as arrays.

The field `data.labels` of a config says which: 'one' (also where it is absent) or 'several'. Of
exclusive classes a record's `label` is the number of its class, -1 where it is unknown. Of
independent ones it is the list of the numbers of those that are true, which may be empty.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from avsc_jax.types import Kind

KINDS: dict[str, Kind] = {'one': 'exclusive', 'several': 'independent'}
TOKEN = 'multi_label'  # of configs/own_data.py
# What an error says to a user whose table gives a file several labels.
ADVICE = f'add the token {TOKEN}, as in configs/own_data.py:clip_fusion,{TOKEN}'


def kind_of(data: Mapping) -> Kind:
    """Returns the kind of the classes that a config's `data` section asks for."""
    return KINDS[data.get('labels') or 'one']


def feature(classes: Sequence[str], kind: Kind) -> tfds.features.FeatureConnector:
    """Returns the feature `label` of a record of these classes."""
    label = tfds.features.ClassLabel(names=classes)
    return label if kind == 'exclusive' else tfds.features.Sequence(label)


def of_feature(label: tfds.features.FeatureConnector) -> tuple[tuple[str, ...], Kind]:
    """Returns the names of the classes of a feature `label`, and their kind.

    Raises:
      ValueError: the feature is neither a class nor a sequence of classes.
    """
    several = isinstance(label, tfds.features.Sequence)
    inner = label.feature if several else label
    if not isinstance(inner, tfds.features.ClassLabel):
        raise ValueError(f'{label} is no ClassLabel, and no Sequence of them')
    return tuple(inner.names), 'independent' if several else 'exclusive'


def plain(stored: Any) -> int | list[int]:
    """Returns a stored label as a number, or as the rising list of numbers."""
    return sorted({int(number) for number in stored}) if np.ndim(stored) else int(stored)


def stacked(labels: Sequence[int | Sequence[int]], num_classes: int, kind: Kind) -> np.ndarray:
    """Makes the array of the labels of records: int32 `[N]` or, of independent ones, `[N, C]`.

    The latter is float32, 1 where a class is true, as losses take it.

    Example:
      >>> stacked([[0, 2], []], 3, 'independent').tolist()
      [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    if kind == 'exclusive':
        return np.array(labels, np.int32)
    array = np.zeros((len(labels), num_classes), np.float32)
    for row, numbers in zip(array, labels, strict=True):
        row[list(numbers)] = 1
    return array
