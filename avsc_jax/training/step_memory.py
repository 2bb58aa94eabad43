"""The memory that a training step takes, counted without a device from the shapes of its arrays."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from avsc_jax.layers.sync import global_batch
from avsc_jax.models import build
from avsc_jax.training import optimizer, recipe

CARDS_GB = (24, 80)  # of memory of GPUs that people have
SPARE = 0.2  # of a card, for the compiler's own arrays and what is not counted


class StepMemory(NamedTuple):
    """The bytes of a training step on one device.

    Attributes:
      state: parameters, statistics, and the optimizer's state, its average of parameters included.
      gradients: of the parameters.
      activations: what the forward pass of a part of the batch keeps for the backward pass.
      inputs: of the whole batch.
    """

    state: int
    gradients: int
    activations: int
    inputs: int

    def fits(self, card_gb: float) -> bool:
        """Whether a card of so many GB holds the step and leaves a fifth of its memory free."""
        return sum(self) <= (1 - SPARE) * card_gb * 1e9


def count(config: ConfigDict, model: nn.Module) -> StepMemory:
    """Counts the memory of a config's training step from shapes; nothing is compiled or run.

    On CPU, XLA's own count of the arrays of a compiled step is 0.7 to 1.1 times the activations
    (`benchmarks/costs.py --check`): it orders and joins operations so that some are not kept.
    Frozen networks inside a step, and arrays of a whole split on the device, are not counted.
    """
    transformation, _ = optimizer.make_optimizer(config, 1, recipe.rate_factors(config, model))
    variables = build.checkpoint_shapes(model)
    opt_state = jax.eval_shape(transformation.init, variables['params'])
    how = recipe.make(config, model, np.arange(model.num_classes))
    inputs = batch_of(config, model, config.batch_size)
    part = batch_of(config, model, -(-config.batch_size // how.accumulate))
    return StepMemory(
        state=_bytes((variables, opt_state)),
        gradients=_bytes(variables['params']),
        activations=_kept(model, how, variables, part),
        inputs=_bytes(inputs),
    )


def input_shapes(config: ConfigDict, model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Returns the shape of one row of each of the network's inputs, at the config's size."""
    if isinstance(model.input_spec, Mapping):
        return {name: spec.shape[1:] for name, spec in model.input_spec.items()}
    if 'size' in config:
        return {'image': (*config.size, model.in_chans)}
    return {'image': model.input_spec.shape[1:]}


def batch_of(config: ConfigDict, model: nn.Module, rows: int) -> Any:
    """Returns the shapes and types of a network's input, of so many rows."""
    named = {
        name: jax.ShapeDtypeStruct((rows, *shape), jnp.float32)
        for name, shape in input_shapes(config, model).items()
    }
    return named if isinstance(model.input_spec, Mapping) else named['image']


def _kept(model: nn.Module, how: recipe.Recipe, variables: Mapping, inputs: Any) -> int:
    """Returns the bytes of all that the backward pass takes from the forward pass."""
    rows = len(jax.tree.leaves(inputs)[0])

    def backward(variables, inputs):
        def loss(params):
            given = {**variables, 'params': how.trained(params)}
            with global_batch(jnp.ones(rows, bool), None, **how.of_layers):
                (logits, _), _ = model.apply(
                    given, inputs, train=True, mutable=['batch_stats'], rngs={'dropout': key}
                )
            return logits.sum()

        key = jax.random.key(0)
        return jax.vjp(loss, variables['params'])[1]  # a pytree of the arrays that it needs

    traced = jax.make_jaxpr(backward)(variables, inputs).jaxpr
    given = {id(variable) for variable in traced.invars}
    kept = {
        id(variable): variable.aval
        for variable in traced.outvars
        if id(variable) not in given and not isinstance(variable, jax.extend.core.Literal)
    }
    return _bytes([*kept.values()])


def _bytes(tree: Any) -> int:
    return sum(
        leaf.size * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )


def text(config: ConfigDict, model: nn.Module) -> str:
    """Returns a line for a dry run, which says what was counted and which cards hold it."""
    found = count(config, model)
    fitting = [f'{card}' for card in CARDS_GB if found.fits(card)]
    if fitting:
        should = f'should fit cards of {" and ".join(fitting)} GB'
    else:
        smaller = "a larger config.accumulate, or config.precision='bfloat16', makes it smaller"
        should = f'does not fit a card of {CARDS_GB[-1]} GB; {smaller}'
    return (
        f'a step on one device: {_amount(sum(found))}, of which activations '
        f'{_amount(found.activations)}; {should} (counted, not measured)'
    )


def _amount(num_bytes: int) -> str:
    return f'{num_bytes / 1e9:,.1f} GB' if num_bytes >= 1e9 else f'{num_bytes / 1e6:,.1f} MB'
