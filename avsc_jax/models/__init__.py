"""Creates and describes every network by name: `create_model('clip_rn101', width=8)`.

Each network's file ends with `MODELS`, name -> constructor, and `SOURCES`, name -> published
weights, which are gathered on first use; and with `RULES` and `IGNORE`, by which weights are
converted. If a weight's name depends on the other names in its file, a function `renamed` is
applied first. When a file cannot be imported, only its own networks are missing.

A network with several published weights has further names for them, as timm writes them:
`hrnet_w18.ms_in1k` is the network `hrnet_w18` with weights of another training.

A network takes one array or a dict of named arrays, and returns `(logits, out)`: `out` is a flat
dict of intermediates, always with `embedding`. `num_classes=0` leaves out the head, and then the
first of the two is the embedding.
"""

import dataclasses
import functools
import importlib
import importlib.util
import itertools
import math
import pkgutil
import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, NoReturn

import flax.linen as nn
import jax

from avsc_jax.models.fold_batchnorm import fold_batchnorm as fold_batchnorm
from avsc_jax.models.rules import Rules, same
from avsc_jax.models.sources import Source
from avsc_jax.runtime import nearest
from avsc_jax.runtime.options import check_names, check_numbers

MAX_LAYERS = 5000  # modules of a network; HRNet-W18 has 1,232
MAX_INPUT_VALUES = 1 << 22  # of one item of a network; pictures of 1182 x 1182
MAX_BLOCKS = 1000  # of a stage
BLOCKS = ('layers', 'depths', 'blocks', 'first_blocks', 'modules', 'depth_multiplier')


class _Gathered(NamedTuple):
    constructors: dict[str, Callable[..., nn.Module]]
    sources: dict[str, Source]
    failures: dict[str, Exception]  # path of a file -> why it cannot be imported


def list_models() -> list[str]:
    """Lists every name that `create_model` takes, sorted; warns of files it cannot import.

    Example:
      >>> 'resnest50d' in list_models()
      True
    """
    return sorted(_constructors())


def create_model(name: str, **options: Any) -> nn.Module:
    """Creates the network of this name.

    Args:
      name: one of `list_models()`, or of `published_sources()`.
      options: fields of its Linen module, in place of their defaults.

    Raises:
      ValueError: there is no such network, or it has no such option, or not with such a number.
      ImportError: there is none with a name like it either, but a file cannot be imported; that
        file's error is the cause.

    Example:
      >>> model = create_model('resnet50', num_classes=10)
      >>> out = jax.eval_shape(model.init_with_output, jax.random.key(0), model.input_spec)
      >>> (logits, intermediates), variables = out
      >>> logits.shape, intermediates['embedding'].shape
      ((1, 10), (1, 2048))
    """
    return _constructor(name, options)()


def create_part(
    name: str, *, parent: nn.Module | None, part: str | None = None, **options: Any
) -> nn.Module:
    """Creates a network for use inside another network's code; see `create_model`.

    Args:
      parent: the network that it is a part of; None: it is on its own.
      part: its name there.

    Example:
      >>> create_part('resnet50', parent=None, num_classes=0).num_classes
      0
    """
    return _constructor(name, options)(parent=parent, name=part)


def _constructor(name: str, options: Mapping[str, Any]) -> Callable[..., nn.Module]:
    """Returns what makes a network of this name with checked options."""
    constructors, asked = _constructors(), name
    name = name.partition('.')[0] if name in published_sources() else name
    if name not in constructors:
        like = ', '.join(nearest.names(name, constructors, most=3, cutoff=0.3))
        sentence = f'no model is called {asked!r}; ' + (
            f'the nearest names are {like}' if like else f'{len(constructors)} others are known'
        )
        _raise_unknown(sentence, name, constructors)
    constructor = constructors[name]
    fields = dataclasses.fields(constructor.func)
    allowed = [field.name for field in fields if field.name not in ('parent', 'name')]
    check_names(name, allowed, options)
    check_numbers(name, {k: v for k, v in options.items() if k in BLOCKS}, MAX_BLOCKS)
    check_numbers(name, options)
    # what a config.json holds as a list is a tuple in a network
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return functools.partial(constructor, **given)


def input_spec(name: str, **options: Any) -> Any:
    """Returns shape and type of a network's input, or a dict of them, for a batch of one.

    Example:
      >>> input_spec('resnet50').shape
      (1, 224, 224, 3)
    """
    return create_model(name, **options).input_spec


def init(model: str | nn.Module, key: int | jax.Array = 0) -> dict:
    """Draws fresh variables for a network.

    Args:
      model: the network or its name.
      key: a PRNG key or a seed.

    Example:
      >>> variables = jax.eval_shape(lambda key: init('resnet50', key), jax.random.key(0))
      >>> sorted(variables)
      ['batch_stats', 'params']
    """
    model = create_model(model) if isinstance(model, str) else model
    key = jax.random.key(key) if isinstance(key, int) else key
    return model.lazy_init(key, model.input_spec)


def check_input(name: str, spec: Any) -> None:
    """Raises ValueError for a network whose input has more than MAX_INPUT_VALUES.

    Networks make masks and tables of the size of their input before anything is computed.

    Args:
      name: what the network is called in the sentence.
      spec: its `input_spec`.

    Example:
      >>> check_input('swin', jax.ShapeDtypeStruct((1, 9999, 9999, 3), 'float32'))
      Traceback (most recent call last):
      ValueError: swin has an input of (1, 9999, 9999, 3); at most 4,194,304 values are allowed
    """
    for leaf in jax.tree.leaves(spec):
        if math.prod(leaf.shape) > MAX_INPUT_VALUES:
            raise ValueError(
                f'{name} has an input of {leaf.shape}; at most {MAX_INPUT_VALUES:,} values are '
                'allowed'
            )


def variable_shapes(model: nn.Module) -> dict:
    """Returns the tree of variables with a `jax.ShapeDtypeStruct` at each leaf; computes nothing.

    Raises:
      ValueError: the network has more than MAX_LAYERS layers, or too large an input.

    Example:
      >>> variable_shapes(create_model('resnet50'))['params']['conv1']['kernel'].shape
      (7, 7, 3, 64)
    """
    check_input(type(model).__name__, model.input_spec)
    try:
        hash(model)
    except TypeError:  # dicts among its fields
        return _traced_shapes(model)
    # one command asks for the same network up to five times; the dicts are the caller's own
    return jax.tree.map(lambda leaf: leaf, _kept_shapes(model))


def _traced_shapes(model: nn.Module) -> dict:
    count = itertools.count(1)

    def counted(call: Callable[..., Any], args: tuple, kwargs: dict, _: Any) -> Any:
        if next(count) > MAX_LAYERS:
            raise ValueError(
                f'{type(model).__name__} has more than {MAX_LAYERS:,} layers; check its options'
            )
        return call(*args, **kwargs)

    with nn.intercept_methods(counted):
        return jax.eval_shape(lambda spec: model.init(jax.random.key(0), spec), model.input_spec)


_kept_shapes = functools.lru_cache(maxsize=64)(_traced_shapes)


def count_parameters(name: str, **options: Any) -> int:
    """Counts a network's trainable values; allocates and compiles nothing.

    Example:
      >>> count_parameters('resnest50d', num_classes=10)
      25454730
    """
    shapes = variable_shapes(create_model(name, **options))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))


def published_sources() -> dict[str, Source]:
    """Returns the published weights of every network that has some: name -> Source.

    Example:
      >>> published_sources()['openl3_audio'].publisher
      'marl/openl3'
    """
    return _gathered().sources


def source_of(name: str) -> Source:
    """Returns where the published weights of a network come from.

    Raises:
      ValueError: no weights are published for it; the message lists the networks with weights.

    Example:
      >>> source_of('clip_vit_b32').licence
      'MIT'
    """
    sources = published_sources()
    if name not in sources:
        meant = nearest.meant(name, sources)
        sentence = f'no weights are published for {name}; there are {", ".join(sources)}{meant}'
        _raise_unknown(sentence, name, sources)
    return sources[name]


def rules_of(model: nn.Module) -> Rules:
    """Returns the rules by which published weights are converted for a network.

    Raises:
      ValueError: no weights are published for networks of this kind.

    Example:
      >>> rules_of(create_model('resnet50')).rules[0].match('conv1.weight')
      ('params/conv1/kernel',)
    """
    file = sys.modules.get(type(model).__module__)
    if not hasattr(file, 'RULES'):
        family = type(model).__module__.rpartition('.')[2]
        raise ValueError(f'no weights are published for {family}: nothing to convert')
    return Rules(file.RULES, getattr(file, 'IGNORE', ()), getattr(file, 'renamed', same))


def _constructors() -> dict[str, Callable[..., nn.Module]]:
    return _gathered().constructors


def _raise_unknown(sentence: str, name: str, known: Collection[str]) -> NoReturn:
    """Raises the error of an unknown name, which may be in a file that cannot be imported.

    A name that is nearly a known one is mistyped: ValueError, as without such files.
    """
    failures = _gathered().failures
    if not failures:
        raise ValueError(sentence)
    if like := nearest.names(name, known, cutoff=0.8):
        raise ValueError(f'{sentence} (did you mean {like[0]}?); {_not_imported(failures)}')
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
