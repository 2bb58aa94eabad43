"""The form of a network for inference: norms that are no more than a part of the layer before."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm

Path = tuple[str, ...]
NORM_LEAVES = (
    ('params', 'scale'),
    ('params', 'bias'),
    ('batch_stats', 'mean'),
    ('batch_stats', 'var'),
)


@dataclasses.dataclass(frozen=True)
class Folded:
    """A network whose BatchNorms, where they follow a convolution or a matrix, lie in its values.

    It is called as the network is, `apply(variables, inputs) -> (logits, out)`, but not to train.

    Attributes:
      layers: path of each BatchNorm that is left out -> path of the layer in whose values it lies.
    """

    model: nn.Module
    layers: Mapping[Path, Path]

    @property
    def input_spec(self) -> Any:
        return self.model.input_spec

    def apply(self, variables: Mapping, inputs: Any, *, train: bool = False) -> tuple[Any, dict]:
        if train:
            raise ValueError(
                'a network with folded BatchNorms cannot be trained (train=True): train the one '
                'that was given to fold_batchnorm, and fold it then'
            )
        with_new_bias = set(self.layers.values())

        def without_norms(method, args, kwargs, context):
            module = context.module
            if isinstance(module, BatchNorm) and module.path in self.layers:
                return args[0]
            y = method(*args, **kwargs)
            if module.path in with_new_bias and not module.use_bias:
                y = y + _last_axis(module.get_variable('params', 'bias').astype(y.dtype), y)
            return y

        with _intercepted(without_norms):
            return self.model.apply(variables, inputs)


def fold_batchnorm(model: nn.Module, variables: Mapping) -> tuple[Folded, dict]:
    """The network for inference with BatchNorms folded into the layers whose output they take.

    What a BatchNorm does with running statistics is linear, so the layer before it can do it: its
    kernel is scaled, and its bias (a new one, where it has none) shifted. A BatchNorm that takes
    anything else, such as an activation or a sum, stays. A layer's output must go to its norm only.
    What is given stays as it is.
    """
    followed = _followed(model, variables)
    leaves = traverse_util.flatten_dict(dict(variables))
    for norm, (layer, epsilon) in followed.items():
        # in float64, so that the values are rounded once
        scale, shift, mean, var = (
            np.asarray(leaves.pop((collection, *norm, leaf)), np.float64)
            for collection, leaf in NORM_LEAVES
        )
        kernel, bias = ('params', *layer, 'kernel'), ('params', *layer, 'bias')
        factor = scale / np.sqrt(var + epsilon)
        shift = shift + (np.asarray(leaves.get(bias, 0)) - mean) * factor
        values = np.asarray(leaves[kernel])
        leaves[kernel] = (values * _last_axis(factor, values)).astype(np.float32)
        leaves[bias] = shift.astype(np.float32)
    layers = {norm: layer for norm, (layer, _) in followed.items()}
    return Folded(model, layers), traverse_util.unflatten_dict(leaves)


def _followed(model: nn.Module, variables: Mapping) -> dict[Path, tuple[Path, float]]:
    """Path of a BatchNorm -> path of the layer whose output it takes, and the norm's epsilon.

    The network is traced, and a norm's input is the same tracer as a layer's output, or it is not.
    """
    outputs, found = [], {}  # the tracers stay, so that no later one can be taken for them
    leaves = traverse_util.flatten_dict(dict(variables))

    def look(method, args, kwargs, context):
        module = context.module
        if isinstance(module, BatchNorm):
            layers = [path for y, path in outputs if y is args[0]]
            if layers:
                found[module.path] = layers[0], module.epsilon
        y = method(*args, **kwargs)
        if isinstance(module, Conv | Linear):
            outputs.append((y, module.path))
        return y

    with _intercepted(look):
        jax.eval_shape(model.apply, variables, model.input_spec)
    # a frozen part that a network applies for itself keeps its norms: it has no parameters here
    return {norm: layer for norm, layer in found.items() if ('params', *norm, 'scale') in leaves}


def _last_axis(vector, like):
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)


def _intercepted(change: Callable) -> Any:
    """A context in which `change` stands before every module's `__call__`."""

    def calls_only(method, args, kwargs, context):
        if context.method_name != '__call__':
            return method(*args, **kwargs)
        return change(method, args, kwargs, context)

    return nn.intercept_methods(calls_only)
