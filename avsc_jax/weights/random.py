"""Random variables that are the same on every machine; weights `random:<seed>` are these."""

import hashlib
import math
import re

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from avsc_jax import models

# Deep random networks forget their input: the part that all pictures have in common grows from
# layer to layer. Two things prevent it. Each kernel's values sum to zero over its inputs, which
# removes the positive mean that every ReLU leaves; its input's remaining variance is that of a
# rectified normal value, 1/2 - 1/(2 pi), and dividing by it keeps activations at one size.
RECTIFIED_VARIANCE = 0.5 - 0.5 / math.pi
# Second, each residual branch is small beside the value that it is added to. These norms end a
# branch (a bn2 only if no bn3 follows), or lie between one of HRNet's branches and another's sum.
LAST_NORM = re.compile(
    r'(layer\d+|branches_\d+|incre_modules_\d+)_\d+/bn[23]/scale'
    r'|s\d+_b\d+/conv3/bn/scale'
    r'|fuse_layers_\d+_\d+(_\d+)?_1/scale'
    r'|features_(3|[5689]|1[0245])/block_[23]_1/scale'
)
LAST_NORM_SCALE = 0.1
MAX_VALUES = 1 << 30  # four gigabytes; a ViT-L/14 has 3e8
EMBEDDING_DEVIATION = 0.02


def random_variables(model: nn.Module, seed: int) -> dict:
    """Draws a network's variables by numpy, from the seed and each leaf's path and shape.

    A kernel is normal with mean 0 over its inputs; biases and running means are 0, running
    variances 1, scales 1, or 0.1 at the end of a residual branch; all others (positions, class
    token) are normal and small. Nothing is compiled.

    Args:
      model: a network of `avsc_jax.models`.
      seed: the seed of all draws.

    Raises:
      ValueError: it has more than MAX_VALUES of them.

    Returns:
      A nested dict of float32 arrays, with `params` and perhaps `batch_stats`.

    Example:
      >>> from avsc_jax import models
      >>> variables = random_variables(models.create_model('clip_late_fusion'), seed=0)
      >>> bool(abs(variables['params']['head']['kernel'].sum()) < 1e-3)
      True
    """
    shapes = traverse_util.flatten_dict(models.variable_shapes(model), sep='/')
    check_size(model)
    leaves = {path: _values(path, leaf.shape, seed) for path, leaf in shapes.items()}
    for path in filter(LAST_NORM.search, shapes):
        if not path.endswith('bn2/scale') or path.replace('bn2/', 'bn3/') not in shapes:
            leaves[path] *= np.float32(LAST_NORM_SCALE)
    return traverse_util.unflatten_dict(leaves, sep='/')


def check_size(model: nn.Module) -> None:
    """Raises ValueError for a network that has more variables than are drawn, MAX_VALUES."""
    leaves = jax.tree.leaves(models.variable_shapes(model))
    if (count := sum(math.prod(leaf.shape) for leaf in leaves)) > MAX_VALUES:
        raise ValueError(
            f'{type(model).__name__} would have {count:,} random weights; at most {MAX_VALUES:,} '
            'are drawn, so make it narrower'
        )


def _values(path, shape, seed):
    leaf = path.rpartition('/')[2]
    if leaf in ('scale', 'var'):
        return np.ones(shape, np.float32)
    if leaf in ('bias', 'mean'):
        return np.zeros(shape, np.float32)
    digest = hashlib.sha256(f'{seed} {path} {shape}'.encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
    # In float64, so that processors which sum in another order still agree on the float32 values.
    values = generator.standard_normal(shape)
    if leaf == 'kernel':
        inputs = tuple(range(len(shape) - 1))
        values -= values.mean(axis=inputs, keepdims=True)
        values /= np.sqrt(RECTIFIED_VARIANCE * np.square(values).sum(axis=inputs, keepdims=True))
    else:
        values *= EMBEDDING_DEVIATION
    return values.astype(np.float32)
