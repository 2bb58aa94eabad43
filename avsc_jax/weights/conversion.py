"""Strict conversion of a source network's parameters to Flax variables."""

import re
from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from avsc_jax import models
from avsc_jax.models.rules import Rule, Rules

NAMES_PER_LIST = 8  # in an error message
HEAD = 'params/head/'
# for files that `weight_files.write` wrote, whose names are Flax paths
CONVERTED = Rules((Rule('.*', r'\g<0>'),))


def convert(
    name: str,
    state: Mapping[str, np.ndarray],
    *,
    head: str = 'keep',
    key: int | jax.Array = 0,
    **options,
) -> dict:
    """Converts a source network's parameters to Flax variables.

    Args:
      name: one of `models.list_models()`.
      state: arrays by the source network's own parameter names, or by Flax paths (`params/...`),
        which must fit just as strictly.
      head: `drop` ignores the source's last layer, and draws ours (if any) from `key`.
      key: a PRNG key or a seed.
      options: options of `models.create_model`, such as another size.

    Returns:
      A nested dict of float32 arrays, with `params` and perhaps `batch_stats`.

    Raises:
      ValueError: parameters are missing, unexpected or of the wrong shape; the message lists them.

    Example:
      >>> from avsc_jax import models
      >>> from flax import traverse_util
      >>> variables = random_variables(models.create_model('clip_late_fusion'), seed=0)
      >>> state = traverse_util.flatten_dict(variables, sep='/')  # 'params/head/bias' and so on
      >>> convert('clip_late_fusion', state)['params']['head']['bias'].shape
      (10,)
    """
    return convert_for(models.create_model(name, **options), state, head=head, key=key)


def convert_for(
    model: nn.Module,
    state: Mapping[str, np.ndarray],
    *,
    head: str = 'keep',
    key: int | jax.Array = 0,
) -> dict:
    """Converts a source network's parameters for a network that is already made; see `convert`."""
    if head not in ('keep', 'drop'):
        raise ValueError(f"head is {head!r}, it must be 'keep' or 'drop'")
    if any(name.startswith('params/') for name in state):
        rules, ignore, renamed = CONVERTED
    else:
        rules, ignore, renamed = models.rules_of(model)
    state = renamed(state)
    shapes = traverse_util.flatten_dict(models.variable_shapes(model), sep='/')
    expected = {path: leaf.shape for path, leaf in shapes.items()}
    new = {}
    if head == 'drop':
        new = _new_head(model, key) if any(path.startswith(HEAD) for path in expected) else {}
        expected = {path: shape for path, shape in expected.items() if path not in new}
        state = {name: value for name, value in state.items() if not _is_of_head(name, rules)}
    leaves = apply(rules, ignore, state, expected)
    return traverse_util.unflatten_dict(leaves | new, sep='/')


def apply(
    rules: Iterable[Rule],
    ignore: Iterable[str],
    state: Mapping[str, np.ndarray],
    expected: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Renames and reshapes a state by rules; returns path -> float32 array for all expected paths.

    Raises:
      ValueError: a name meets neither one pattern of `ignore` nor exactly one rule, or paths are
        missing or of the wrong shape; one message lists all.
    """
    leaves, unexpected, misshaped = {}, [], []
    for name, value in state.items():
        if any(re.fullmatch(pattern, name) for pattern in ignore):
            continue
        matches = [(rule, paths) for rule in rules if (paths := rule.match(name))]
        if len(matches) != 1 or any(p in leaves or p not in expected for p in matches[0][1]):
            unexpected.append(name)
            continue
        ((rule, paths),) = matches
        parts = [value] if len(paths) == 1 else np.array_split(np.atleast_1d(value), len(paths))
        for path, part in zip(paths, parts, strict=True):
            leaves[path] = rule.layout(part).astype(np.float32)
            if leaves[path].shape != expected[path]:
                misshaped.append(f'{name} {value.shape} for {path} {expected[path]}')
    missing = [path for path in expected if path not in leaves]
    if missing or unexpected or misshaped:
        lists = {'missing': missing, 'unexpected': unexpected, 'wrong shape': misshaped}
        raise ValueError(
            'these are not the weights of this network: '
            + '; '.join(f'{kind}: {_some(names)}' for kind, names in lists.items())
        )
    return leaves


def _is_of_head(name, rules):
    return any(path.startswith(HEAD) for rule in rules for path in rule.match(name))


def _new_head(model, key):
    """Draws the head's values, by path; the rest of what `models.init` draws is compiled away."""

    def draw(key):
        leaves = traverse_util.flatten_dict(models.init(model, key), sep='/')
        return {path: value for path, value in leaves.items() if path.startswith(HEAD)}

    key = jax.random.key(key) if isinstance(key, int) else key
    return jax.tree.map(np.asarray, jax.jit(draw)(key))


def _some(names):
    more = f' and {len(names) - NAMES_PER_LIST} more' if len(names) > NAMES_PER_LIST else ''
    return (', '.join(names[:NAMES_PER_LIST]) or 'none') + more
