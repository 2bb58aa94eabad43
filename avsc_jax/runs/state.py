"""The state of training."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from avsc_jax.runtime import compiler


class Averaged(NamedTuple):
    """The state of an optimizer that also keeps the average of parameters over the steps.

    Attributes:
      inner: the optimizer's own state.
      average: an exponential moving average, in a tree like that of the parameters.
    """

    inner: optax.OptState
    average: dict


class TrainState(struct.PyTreeNode):
    """Variables, optimizer state, step and random key of training, as a pytree.

    It has no device axis, so it can be saved and restored as it is. `key` never changes: every
    step folds in its own number, so that a resumed run draws the same as an uninterrupted one.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    key: jax.Array

    @property
    def variables(self) -> dict:
        return {'params': self.params, 'batch_stats': self.batch_stats}

    @property
    def scored(self) -> dict:
        """The variables that are scored and kept: averaged parameters, if the optimizer has some.

        The statistics are those of the last step, never averaged.
        """
        averaged = isinstance(self.opt_state, Averaged)
        return self.variables | ({'params': self.opt_state.average} if averaged else {})

    def begun(self) -> 'TrainState':
        """Returns the state with an average, if it keeps one, that begins at its parameters."""
        if not isinstance(self.opt_state, Averaged):
            return self
        average = jax.tree.map(jnp.copy, self.params)  # a step takes the memory of both
        return self.replace(opt_state=self.opt_state._replace(average=average))

    @classmethod
    def create(
        cls, model: nn.Module, optimizer: optax.GradientTransformation, *, seed: int
    ) -> 'TrainState':
        """Returns a freshly initialised state, for inputs of the model's `input_spec`."""
        init_key, key = jax.random.split(jax.random.key(seed))

        @partial(jax.jit, compiler_options=compiler.once())
        def init(init_key, key):
            inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), model.input_spec)
            variables = model.init(init_key, inputs)
            params = variables['params']
            return cls(
                step=jnp.int32(0),
                params=params,
                batch_stats=variables.get('batch_stats', {}),
                opt_state=optimizer.init(params),
                key=key,
            )

        return init(init_key, key)
