"""Every network by name: `create_model('clip_rn101', width=8)` and what can be asked about it.

Each network's file ends with `MODELS`, name -> constructor; they are gathered on first use.
A network takes one array or a dict of named arrays, and returns `(logits, out)`: `out` is a flat
dict of intermediates, always with `embedding`. `num_classes=0` leaves out the head, and then the
first of the two is the embedding.
"""

import dataclasses
import difflib
import functools
import importlib
import math
import pkgutil
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from avsc_jax.models.fold_batchnorm import fold_batchnorm as fold_batchnorm


def list_models() -> list[str]:
    """Every name that `create_model` takes, sorted."""
    return sorted(_constructors())


def create_model(name: str, **options: Any) -> nn.Module:
    """The network of this name; options are the fields of its Linen module."""
    constructors = _constructors()
    if name not in constructors:
        nearest = difflib.get_close_matches(name, constructors, n=3, cutoff=0.3)
        raise ValueError(f'no model is called {name!r}; the nearest names are {", ".join(nearest)}')
    constructor = constructors[name]
    fields = dataclasses.fields(constructor.func)
    allowed = sorted(field.name for field in fields if field.name not in ('parent', 'name'))
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ValueError(
            f'{name} has no option {", ".join(unknown)}; its options are {", ".join(allowed)}'
        )
    # what a config.json holds as a list is a tuple in a network
    return constructor(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})


def input_spec(name: str, **options: Any) -> Any:
    """Shape and type of the input, or a dict of them, for a batch of one."""
    return create_model(name, **options).input_spec


def init(model: str | nn.Module, key: int | jax.Array = 0) -> dict:
    """Fresh variables of a network, or of the one of this name, from a seed or a PRNG key."""
    model = create_model(model) if isinstance(model, str) else model
    key = jax.random.key(key) if isinstance(key, int) else key
    return model.lazy_init(key, model.input_spec)


def variable_shapes(model: nn.Module) -> dict:
    """The variables' tree with a `jax.ShapeDtypeStruct` at each leaf; computes nothing."""
    return jax.eval_shape(lambda spec: model.init(jax.random.key(0), spec), model.input_spec)


def count_parameters(name: str, **options: Any) -> int:
    """Number of trainable values, found without allocating or compiling anything."""
    shapes = variable_shapes(create_model(name, **options))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))


@functools.cache
def _constructors() -> dict[str, Callable[..., nn.Module]]:
    gathered = {}
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f'{__name__}.{file.name}')
        gathered |= getattr(module, 'MODELS', {})
    return gathered
