"""The state of training."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from avsc_jax.runtime import compiler


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
