"""From a source network's parameters to Flax variables: every name accounted for, or an error."""

import re
from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from avsc_jax import models
from avsc_jax.models.rules import Rule, Rules

NAMES_PER_LIST = 8  # of an error
HEAD = 'params/head/'
# for names that are Flax paths: what `files.write` has written
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

    Raises:
      ValueError: parameters are missing, unexpected or of the wrong shape; it lists them all.

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
    """As `convert`, for a network that is already made."""
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
    """Path -> float32 array for every expected path, or one error with everything that is amiss.

    Each name of the state must meet exactly one rule or be passed over by one of `ignore`.
    """
    leaves, unexpected, misshaped = {}, [], []
    for name, value in state.items():
        if any(re.fullmatch(pattern, name) for pattern in ignore):
            continue
        met = [(rule, paths) for rule in rules if (paths := rule.match(name))]
        if len(met) != 1 or any(path in leaves or path not in expected for path in met[0][1]):
            unexpected.append(name)
            continue
        ((rule, paths),) = met
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
    """Path -> initial value; the rest of what `models.init` draws is compiled away."""

    def draw(key):
        leaves = traverse_util.flatten_dict(models.init(model, key), sep='/')
        return {path: value for path, value in leaves.items() if path.startswith(HEAD)}

    key = jax.random.key(key) if isinstance(key, int) else key
    return jax.tree.map(np.asarray, jax.jit(draw)(key))


def _some(names):
    more = f' and {len(names) - NAMES_PER_LIST} more' if len(names) > NAMES_PER_LIST else ''
    return (', '.join(names[:NAMES_PER_LIST]) or 'none') + more
