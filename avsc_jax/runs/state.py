"""What training carries from step to step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct


class TrainState(struct.PyTreeNode):
    """A pytree without a device axis: it is saved, restored and passed on as it is.

    `key` never changes; every step folds in its own number, so that a resumed run draws what an
    uninterrupted one would have drawn.
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
        """Freshly initialised; inputs are zeros of the model's own `input_spec`."""
        init_key, key = jax.random.split(jax.random.key(seed))

        @jax.jit
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
