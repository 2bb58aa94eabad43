"""Folds BatchNorms into the layers before them, for inference."""

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
    """A network for inference with BatchNorms folded into the layers before them.

    It is called like the network, `apply(variables, inputs) -> (logits, out)`, but cannot train.

    Attributes:
      layers: path of each BatchNorm that is folded -> path of the layer that it is folded into.
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
                'that was given to fold_batchnorm, and fold it afterwards'
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
    """Folds BatchNorms into the convolutions and linear layers whose output they take.

    What a BatchNorm does with running statistics is linear, so the layer before it can do it: its
    kernel is scaled, and its bias (a new one, where it has none) shifted. A BatchNorm that takes
    anything else, such as an activation or a sum, stays. A layer's output must go to its norm only.
    The given variables are not changed.
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
    """Maps a BatchNorm's path to the path of the layer whose output it takes, and its epsilon.

    The network is traced: a norm takes a layer's output if its input is the same tracer.
    """
    outputs, followed = [], {}  # tracers are kept, so that no later one can be taken for them
    leaves = traverse_util.flatten_dict(dict(variables))

    def look(method, args, kwargs, context):
        module = context.module
        if isinstance(module, BatchNorm):
            layers = [path for y, path in outputs if y is args[0]]
            if layers:
                followed[module.path] = layers[0], module.epsilon
        y = method(*args, **kwargs)
        if isinstance(module, Conv | Linear):
            outputs.append((y, module.path))
        return y

    with _intercepted(look):
        jax.eval_shape(model.apply, variables, model.input_spec)
    # a frozen part that a network applies by itself keeps its norms: they are not among `params`
    return {norm: layer for norm, layer in followed.items() if ('params', *norm, 'scale') in leaves}


def _last_axis(vector, like):
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)


def _intercepted(change: Callable) -> Any:
    """Returns a context in which `change` wraps every module's `__call__`."""

    def calls_only(method, args, kwargs, context):
        if context.method_name != '__call__':
            return method(*args, **kwargs)
        return change(method, args, kwargs, context)

    return nn.intercept_methods(calls_only)
