"""How training steps differ from plain ones: precision, parts, class weights, frozen layers."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from avsc_jax import losses, models
from avsc_jax.augment import mix
from avsc_jax.layers.sync import HEAD
from avsc_jax.models import depth
from avsc_jax.runtime import nearest

PRECISIONS = ('float32', 'bfloat16')
PARTS = ('all', 'last_stage', 'head')


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the steps of `Steps` train; the defaults change nothing.

    Attributes:
      accumulate: number of equal parts of a batch whose gradients are summed.
      is_half: whether convolutions and linear layers but the head compute in bfloat16.
      class_weights: weight of each class in the loss `[C]`; None: 1.
      label_smoothing: see `losses.targets`.
      frozen: paths of the parameters that are not trained, such as ('layer1_0', 'bn1', 'scale').
    """

    accumulate: int = 1
    is_half: bool = False
    class_weights: np.ndarray | None = None
    label_smoothing: float = 0.0
    frozen: frozenset[tuple[str, ...]] = frozenset()

    @property
    def of_layers(self) -> dict[str, Any]:
        """The arguments of `global_batch` that do not depend on the batch."""
        frozen = frozenset(path[:-1] for path in self.frozen)
        return {'compute': jnp.bfloat16 if self.is_half else None, 'frozen': frozen}

    def trained(self, params: Mapping) -> Mapping:
        """Returns the parameters, so that no gradient is computed for the frozen ones."""
        if not self.frozen:
            return params

        def stopped(path, x):
            names = tuple(entry.key for entry in path)
            return jax.lax.stop_gradient(x) if names in self.frozen else x

        return jax.tree_util.tree_map_with_path(stopped, params)


PLAIN = Recipe()


def make(config: ConfigDict, model: nn.Module, labels: np.ndarray) -> Recipe:
    """Makes the recipe of a config.

    Args:
      labels: of the rows that an epoch trains on.
    """
    return Recipe(
        accumulate=config.get('accumulate', 1),
        is_half=config.get('precision', 'float32') == 'bfloat16',
        class_weights=class_weights(config.get('class_weights'), model.num_classes, labels),
        label_smoothing=config.get('label_smoothing', 0.0),
        frozen=frozen(config, model),
    )


def check(config: ConfigDict, model: nn.Module) -> None:
    """Raises ValueError for settings that do not suit the network, before anything is trained."""
    rate_factors(config, model)
    if config.get('cutmix_alpha', 0.0):
        mix.check_cutmix(model.input_spec)
    given = config.get('class_weights')
    if given is not None and not isinstance(given, str):
        class_weights(given, model.num_classes, np.zeros(0, np.int32))


def class_weights(
    given: str | Sequence[float] | None, num_classes: int, labels: np.ndarray
) -> np.ndarray | None:
    """Returns the weights `[C]` that a config's `class_weights` asks for; None for none."""
    if given is None:
        return None
    if isinstance(given, str):
        return losses.balanced(labels, num_classes)
    is_numbers = all(isinstance(each, int | float) for each in given)
    weights = np.asarray([*given] if is_numbers else [], np.float32)
    if len(weights) != num_classes or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(
            f'config.class_weights is {list(given)}; it must be {num_classes} numbers of 0 or '
            "more, one for each class, or 'balanced'"
        )
    if not weights.any():
        raise ValueError('config.class_weights is 0 for every class, so that nothing is trained')
    return weights


def rate_factors(config: ConfigDict, model: nn.Module) -> dict | None:
    """Returns the factor of each parameter's learning rate, 0 for frozen ones; None: 1 for all.

    With `layer_decay` each group of layers has that many times the rate of the next one, and the
    head the whole rate. `rate_scale` multiplies the rates of named parts of the network.
    """
    factors, scale = _by_depth(config, model), config.get('rate_scale')
    if not scale:
        return factors
    params = models.variable_shapes(model)['params']
    _check_scale(scale, params)
    if factors is None:
        factors = jax.tree.map(lambda _: 1.0, dict(params))
    return {
        name: jax.tree.map(lambda factor, name=name: factor * scale.get(name, 1.0), of)
        for name, of in factors.items()
    }


def _check_scale(scale: Mapping, params: Mapping) -> None:
    for name, factor in scale.items():
        if name not in params:
            raise ValueError(
                f'config.rate_scale names {name!r}, and the network has the parts '
                f'{", ".join(params)}{nearest.meant(name, params)}'
            )
        is_number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not is_number or not 0 <= factor < np.inf:
            raise ValueError(
                f'config.rate_scale.{name} is {factor!r}; it must be a finite number of 0 or more'
            )
    if not any(scale.get(name, 1.0) for name in params):
        raise ValueError('config.rate_scale is 0 for every part, so that nothing is trained')


def _by_depth(config: ConfigDict, model: nn.Module) -> dict | None:
    """Returns the factors by `layer_decay` and `train_part`; None: 1 for all."""
    decay, part = config.get('layer_decay', 1.0), config.get('train_part', 'all')
    if decay == 1 and part == 'all':
        return None
    params = models.variable_shapes(model)['params']
    if decay == 1 and part == 'head':  # of any network, whatever its layers are
        flat = traverse_util.flatten_dict(params)
        return traverse_util.unflatten_dict({path: float(path[0] == HEAD) for path in flat})
    groups, count, last_stage = depth.of(model, params)
    first = {'all': 0, 'last_stage': last_stage, 'head': count - 1}[part]
    return jax.tree.map(lambda n: decay ** (count - 1 - n) if n >= first else 0.0, groups)


def frozen(config: ConfigDict, model: nn.Module) -> frozenset[tuple[str, ...]]:
    """Returns the paths of the parameters that `train_part` leaves as they are."""
    factors = rate_factors(config, model) or {}
    flat = traverse_util.flatten_dict(factors)
    return frozenset(path for path, factor in flat.items() if factor == 0)


def mixing(config: ConfigDict):
    """Returns what mixes the rows of a batch, as the `mix` of `Steps`; None for nothing."""
    mixup, cutmix = config.get('mixup_alpha', 0.0), config.get('cutmix_alpha', 0.0)
    if mixup and cutmix:
        share = config.get('cutmix_share', 0.5)
        return partial(
            mix.mixup_or_cutmix, mixup_alpha=mixup, cutmix_alpha=cutmix, cutmix_share=share
        )
    if cutmix:
        return partial(mix.cutmix, alpha=cutmix)
    return partial(mix.mixup, alpha=mixup) if mixup else None
