"""Creates and describes every network by name: `create_model('clip_rn101', width=8)`.

Each network's file ends with `MODELS`, name -> constructor, and `SOURCES`, name -> published
weights, which are gathered on first use; and with `RULES` and `IGNORE`, by which weights are
converted. If a weight's name depends on the other names in its file, a function `renamed` is
applied first. When a file cannot be imported, only its own networks are missing.

A network takes one array or a dict of named arrays, and returns `(logits, out)`: `out` is a flat
dict of intermediates, always with `embedding`. `num_classes=0` leaves out the head, and then the
first of the two is the embedding.
"""

import dataclasses
import difflib
import functools
import importlib
import importlib.util
import math
import pkgutil
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import flax.linen as nn
import jax

from avsc_jax.models.fold_batchnorm import fold_batchnorm as fold_batchnorm
from avsc_jax.models.rules import Rules
from avsc_jax.models.sources import Source


class _Gathered(NamedTuple):
    constructors: dict[str, Callable[..., nn.Module]]
    sources: dict[str, Source]
    failures: dict[str, Exception]  # path of a file -> why it cannot be imported


def list_models() -> list[str]:
    """Every name that `create_model` takes, sorted; a file that cannot be imported is warned of."""
    return sorted(_constructors())


def create_model(name: str, **options: Any) -> nn.Module:
    """The network of this name; options are the fields of its Linen module.

    Raises:
      ValueError: there is no such network, or it has no such option.
      ImportError: there is none, but a file cannot be imported; that file's error is the cause.
    """
    constructors = _constructors()
    if name not in constructors:
        nearest = difflib.get_close_matches(name, constructors, n=3, cutoff=0.3)
        _raise_unknown(f'no model is called {name!r}; the nearest names are {", ".join(nearest)}')
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


def published_sources() -> dict[str, Source]:
    """Every network of which weights are published -> where they come from."""
    return _gathered().sources


def source_of(name: str) -> Source:
    """The published weights of a network; an error that lists the networks which have some."""
    sources = published_sources()
    if name not in sources:
        _raise_unknown(f'no weights are published for {name}; there are {", ".join(sources)}')
    return sources[name]


def rules_of(model: nn.Module) -> Rules:
    """How published weights are converted for a network, as its file says."""
    file = sys.modules.get(type(model).__module__)
    if not hasattr(file, 'RULES'):
        family = type(model).__module__.rpartition('.')[2]
        raise ValueError(f'no weights are published for {family}: nothing to convert')
    return Rules(file.RULES, getattr(file, 'IGNORE', ()), getattr(file, 'renamed', dict))


def _constructors() -> dict[str, Callable[..., nn.Module]]:
    return _gathered().constructors


def _raise_unknown(sentence: str) -> NoReturn:
    """Raises the error of an unknown name, which may be in a file that cannot be imported."""
    failures = _gathered().failures
    if not failures:
        raise ValueError(sentence)
    first, *more = failures.values()
    cause = ExceptionGroup('files of networks', [first, *more]) if more else first
    raise ImportError(f'{sentence}; {_not_imported(failures)}') from cause


def _not_imported(failures: Mapping[str, Exception]) -> str:
    files = (f'{path} ({type(e).__name__}: {e})' for path, e in failures.items())
    return f'not imported: {", ".join(files)}'


@functools.cache
def _gathered() -> _Gathered:
    gathered = _Gathered({}, {}, {})
    for file in pkgutil.iter_modules(__path__):
        name = f'{__name__}.{file.name}'
        try:
            module = importlib.import_module(name)
        except Exception as error:  # of any kind: the other files are not affected
            gathered.failures[importlib.util.find_spec(name).origin] = error
            continue
        gathered.constructors.update(getattr(module, 'MODELS', {}))
        gathered.sources.update(getattr(module, 'SOURCES', {}))
    if gathered.failures:
        message = f'some networks are left out; {_not_imported(gathered.failures)}'
        warnings.warn(message, RuntimeWarning, stacklevel=4)  # whoever called a public function
    return gathered
