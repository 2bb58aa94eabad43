r"""The order of a network's layers in depth, by which they learn at other rates or not at all.

A network's class names its layers in `DEPTH`, patterns from the input to the last layer before the
head. Each is compared with the beginning of a parameter's path, such as `layer3_1/conv2/kernel`:

    DEPTH = (r'conv1\w*|bn1', r'layer(\d+)_(\d+)')

Each pair of numbers is a group of its own, in their order; the first of two numbers is the stage. A
path with fewer numbers than others of its pattern belongs to the stage's first group, and one
without any to the pattern's last. The head is the last group of every network.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

import flax.linen as nn
from flax import traverse_util

from avsc_jax.layers.sync import HEAD

Key = tuple[int, ...]


class Depth(NamedTuple):
    """The groups of a network's parameters, from the input's, 0, to the head's.

    Attributes:
      group: the number of each parameter's group, in a tree like that of the parameters.
      count: how many groups there are.
      last_stage: the first group of the last stage before the head.
    """

    group: dict
    count: int
    last_stage: int


def of(model: nn.Module, params: Mapping) -> Depth:
    """Numbers the groups of a network's parameters from input to head.

    Args:
      params: its parameters, or their shapes.

    Raises:
      ValueError: the network's class has no `DEPTH`, or none for a parameter.

    Example:
      >>> from avsc_jax import models
      >>> model = models.create_model('resnet18', num_classes=10)
      >>> depth = of(model, models.variable_shapes(model)['params'])
      >>> depth.count, depth.last_stage  # stem, eight blocks, head; the last two blocks
      (10, 7)
      >>> depth.group['layer1_0']['conv1'], depth.group['head']
      ({'kernel': 1}, {'bias': 9, 'kernel': 9})
    """
    patterns = getattr(model, 'DEPTH', None)
    if patterns is None:
        raise ValueError(
            f'the order of the layers of {type(model).__name__} is not known; add DEPTH to its '
            "class (see models/depth.py), or leave out layer_decay and train_part='last_stage'"
        )
    paths = traverse_util.flatten_dict(dict(params), sep='/')
    keys = {path: _key(path, patterns, type(model).__name__) for path in paths}
    known = {*keys.values()}
    keys = {path: _settled(key, known) for path, key in keys.items()}
    order = sorted({*keys.values()})
    last = _stage(order[-2] if len(order) > 1 else order[-1])
    group = {path: order.index(key) for path, key in keys.items()}
    tree = traverse_util.unflatten_dict(group, sep='/')
    return Depth(tree, len(order), [_stage(key) for key in order].index(last))


def _key(path: str, patterns: tuple[str, ...], network: str) -> Key:
    """Returns the place of a path's pattern and the numbers in the path."""
    if path.startswith(f'{HEAD}/'):
        return (len(patterns),)
    for place, pattern in enumerate(patterns):
        if match := re.match(rf'(?:{pattern})(?:/|$)', path):
            return (place, *(int(number) for number in match.groups() if number is not None))
    raise ValueError(f'{path} is in no group of the DEPTH of {network}; name it there')


def _settled(key: Key, keys: Collection[Key]) -> Key:
    """Gives a key with fewer numbers than others of its pattern the numbers of its group."""
    alike = sorted(other for other in keys if other[: len(key)] == key)
    longest = max(map(len, alike))
    if len(key) == longest:
        return key
    whole = [other for other in alike if len(other) == longest]
    return whole[-1] if len(key) == 1 else whole[0]


def _stage(key: Key) -> Key:
    return key[: max(1, len(key) - 1)]
