"""Strict conversion of a source network's parameters to Flax variables."""

import collections
import re
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from avsc_jax import models
from avsc_jax.models.rules import Rule, Rules
from avsc_jax.runtime import compiler
from avsc_jax.weights import lazy
from avsc_jax.weights.checks import as_float32

NAMES_PER_LIST = 8  # in an error message
HEAD = 'params/head/'
VARIANCE = '/var'  # of a norm
SEPARATORS = ('.', '/')
MAX_PREFIX_PARTS, MAX_PREFIXES = 4, 8  # that are tried for a hint
# for files that `weight_files.write` wrote, whose names are Flax paths
CONVERTED = Rules((Rule('.*', r'\g<0>'),))


def convert(
    name: str,
    state: Mapping[str, Any],
    *,
    head: str = 'keep',
    key: int | jax.Array = 0,
    prefix: str = '',
    entry: str | None = None,
    **options,
) -> dict:
    """Converts a source network's parameters to Flax variables.

    Args:
      name: one of `models.list_models()`.
      state: arrays by the source network's own parameter names, or by Flax paths (`params/...`),
        which must fit just as strictly.
      head: `drop` ignores the source's last layer, and draws ours (if any) from `key`.
      key: a PRNG key or a seed.
      prefix: what the names begin with, such as 'module.', to be taken off; names that do not are
        left out.
      entry: which dict of arrays, where `state` is a dict of several, such as 'state_dict_ema'.
      options: options of `models.create_model`, such as another size.

    Returns:
      A nested dict of float32 arrays, with `params` and perhaps `batch_stats`.

    Raises:
      ValueError: parameters are missing, unexpected or of the wrong shape; the message lists them.
        Or one is not finite, or of numbers that are no floats.

    Example:
      >>> from avsc_jax import models
      >>> from flax import traverse_util
      >>> variables = random_variables(models.create_model('clip_late_fusion'), seed=0)
      >>> state = traverse_util.flatten_dict(variables, sep='/')  # 'params/head/bias' and so on
      >>> convert('clip_late_fusion', state)['params']['head']['bias'].shape
      (10,)
    """
    model = models.create_model(name, **options)
    return convert_for(model, selected(state, entry), head=head, key=key, prefix=prefix)


def convert_for(
    model: nn.Module,
    state: Mapping[str, np.ndarray],
    *,
    head: str = 'keep',
    key: int | jax.Array = 0,
    prefix: str = '',
) -> dict:
    """Converts a source network's parameters for a network that is already made; see `convert`."""
    if head not in ('keep', 'drop'):
        raise ValueError(f"head is {head!r}, it must be 'keep' or 'drop'")
    given = state = stripped(state, prefix)
    rules, ignore, renamed = _rules_for(model, state)
    state = renamed(state)
    shapes = traverse_util.flatten_dict(models.variable_shapes(model), sep='/')
    expected = {path: leaf.shape for path, leaf in shapes.items()}
    new = {}
    if head == 'drop':
        new = _new_head(model, key) if any(path.startswith(HEAD) for path in expected) else {}
        expected = {path: shape for path, shape in expected.items() if path not in new}
        state = lazy.without(state, lambda name: _is_of_head(name, rules))
    try:
        leaves = apply(rules, ignore, state, expected)
    except ValueError as error:
        hint = _prefix_hint(model, given, expected) or _width_hint(rules, state, expected)
        raise ValueError(f'{error}{hint}') from error
    return traverse_util.unflatten_dict(leaves | new, sep='/')


def convert_known(model: nn.Module, state: Mapping[str, np.ndarray]) -> dict:
    """Converts a state that is known to be that of this very network, all of it.

    The network's shapes, which take half a second to trace, are not compared.
    """
    rules, ignore, renamed = _rules_for(model, state)
    return traverse_util.unflatten_dict(apply(rules, ignore, renamed(state), None), sep='/')


def apply(
    rules: Iterable[Rule],
    ignore: Iterable[str],
    state: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]] | None,
) -> dict[str, np.ndarray]:
    """Renames and reshapes a state by rules; returns path -> float32 array for all expected paths.

    Args:
      expected: path -> shape; None: names and shapes are not compared with a network's.

    Raises:
      ValueError: a name meets neither one pattern of `ignore` nor exactly one rule, or paths are
        missing or of the wrong shape; one message lists all. Or a value is no finite float.
    """
    leaves, names, unexpected, misshaped, broken = {}, {}, [], [], []
    for name in state:
        if any(re.fullmatch(pattern, name) for pattern in ignore):
            continue
        matches = [(rule, paths) for rule in rules if (paths := rule.match(name))]
        paths = matches[0][1] if len(matches) == 1 else ()
        is_known = expected is None or all(path in expected for path in paths)
        if not paths or not is_known or any(path in leaves for path in paths):
            unexpected.append(name)
            continue
        ((rule, _),) = matches
        value = state[name]  # perhaps read from the file now
        parts = [value] if len(paths) == 1 else np.array_split(np.atleast_1d(value), len(paths))
        for path, part in zip(paths, parts, strict=True):
            leaves[path], names[path] = rule.layout(part), name
            if expected is not None and leaves[path].shape != expected[path]:
                misshaped.append(f'{name} {value.shape} for {path} {expected[path]}')
                continue
            try:  # at once: the file's own array need not stay in memory
                leaves[path] = as_float32(name, leaves[path])
            except ValueError as error:  # told after names and shapes, of which it may come
                broken.append(error)
    missing = [path for path in expected or () if path not in leaves]
    if missing or unexpected or misshaped:
        lists = {'missing': missing, 'unexpected': unexpected, 'wrong shape': misshaped}
        raise ValueError(
            'these are not the weights of this network: '
            + '; '.join(f'{kind}: {_some(each)}' for kind, each in lists.items())
        )
    if broken:
        raise broken[0]
    _check_variances(names, leaves)
    return leaves


def _check_variances(names: Mapping[str, str], leaves: Mapping[str, np.ndarray]) -> None:
    for path, leaf in leaves.items():
        if path.endswith(VARIANCE) and (leaf < 0).any():
            raise ValueError(
                f'{names[path]!r} has a variance of {leaf.min()}, and none is below 0; the file is '
                'broken: get it, or train it, again'
            )


def selected(state: Mapping[str, Any], entry: str | None) -> Mapping[str, np.ndarray]:
    """Returns the dict of arrays that `entry` names, or the state itself without one."""
    inner = [name for name, value in state.items() if isinstance(value, Mapping)]
    if entry is None and inner:
        raise ValueError(
            f'the state holds dicts, {_some(inner)}, not arrays; choose one by entry={inner[0]!r}'
        )
    if entry is None:
        return state
    if entry not in inner:
        raise ValueError(f'the state has no dict {entry!r}; it has {_some(inner)}')
    return state[entry]


def stripped(state: Mapping[str, np.ndarray], prefix: str) -> Mapping[str, np.ndarray]:
    """Returns the arrays whose names begin with a prefix, under the rest of their names."""
    if not prefix:
        return state
    kept = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    if not kept:
        raise ValueError(f'no name begins with {prefix!r}; the names are {_some([*state])}')
    if all(name[:1] in SEPARATORS for name in kept):  # the prefix was given without its end
        kept = {name[1:]: value for name, value in kept.items()}
    return kept


def _rules_for(model: nn.Module, state: Mapping[str, np.ndarray]) -> Rules:
    is_converted = any(name.startswith('params/') for name in state)
    return CONVERTED if is_converted else models.rules_of(model)


def _prefix_hint(
    model: nn.Module, state: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]
) -> str:
    """Names the option that takes a prefix off, if most of the network is then there; '' if not."""
    counts: collections.Counter[str] = collections.Counter()
    for name in state:
        ends = [match.end() for match in re.finditer(r'[./]', name)]
        counts.update(name[:end] for end in ends[:MAX_PREFIX_PARTS])
    fitting = {}
    for prefix in ['', *(prefix for prefix, _ in counts.most_common(MAX_PREFIXES))]:
        names = stripped(state, prefix)
        try:
            rules, _, renamed = _rules_for(model, names)
        except ValueError:  # no other file than a converted one fits this network
            continue
        paths = (path for name in renamed(names) for rule in rules for path in rule.match(name))
        fitting[prefix] = len({*paths} & {*expected})
    # the first of equals, '' before all
    best = max(fitting, key=lambda prefix: fitting[prefix], default='')
    if not best or 2 * fitting[best] < len(expected):
        return ''
    return (
        f"; names that begin with '{best}' fit without it: take it off by avsc_jax.convert "
        f"--strip_prefix={best}, in Python by prefix='{best}'"
    )


def _width_hint(
    rules: Iterable[Rule],
    state: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
) -> str:
    """Names the option that makes a head of the state's width, if it has another; '' if not."""
    for name, value in state.items():
        for rule in rules:
            for path in rule.match(name):
                if path == f'{HEAD}bias' and expected.get(path, value.shape) != value.shape:
                    return (
                        f'; its head has {value.size} classes: --num_classes={value.size} of '
                        'avsc_jax.convert keeps it, --head=drop leaves it out'
                    )
    return ''


def _is_of_head(name, rules):
    return any(path.startswith(HEAD) for rule in rules for path in rule.match(name))


def _new_head(model, key):
    """Draws the head's values, by path; the rest of what `models.init` draws is compiled away."""

    def draw(key):
        leaves = traverse_util.flatten_dict(models.init(model, key), sep='/')
        return {path: value for path, value in leaves.items() if path.startswith(HEAD)}

    key = jax.random.key(key) if isinstance(key, int) else key
    return jax.tree.map(np.asarray, jax.jit(draw, compiler_options=compiler.once())(key))


def _some(names):
    more = f' and {len(names) - NAMES_PER_LIST} more' if len(names) > NAMES_PER_LIST else ''
    return (', '.join(names[:NAMES_PER_LIST]) or 'none') + more
