"""A context that tells a network's layers about the batch, precision and frozen parts of a step."""

import contextlib
from collections.abc import Collection
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.types import Array, Bool, Int

HEAD = 'head'  # the name of the last layer of every network


def global_batch(
    mask: Bool[Array, 'B'] | None,
    axis_name: str | None,
    *,
    place: Int[Array, 'B'] | None = None,
    compute: Any = None,
    frozen: Collection[tuple[str, ...]] = (),
) -> contextlib.AbstractContextManager[None]:
    """A context in which layers know the whole batch that their rows are a part of.

    Every BatchNorm gets `mask` and `axis_name`, every Dropout `place`. Networks only
    write `BatchNorm(name='bn1')(x, train=train)`; the step adds the rest:

        with global_batch(batch['mask'], 'batch'):
            logits, out = model.apply(variables, inputs, train=True, mutable=['batch_stats'], ...)

    Args:
      mask: True for this device's rows that count; None: all do.
      axis_name: the pmapped axis; None outside pmap.
      place: the index of each row in the global batch; None: this device's share of equal ones.
      compute: the type in which convolutions and linear layers but the head multiply, such as
        bfloat16; None: that of their inputs. Parameters, norms and softmaxes stay float32.
      frozen: paths of the modules whose parameters are not trained; a BatchNorm among them takes
        its running statistics, and leaves them alone.
    """

    def place_of(x):
        if place is not None or axis_name is None:
            return place
        return jnp.arange(x.shape[0]) + jax.lax.axis_index(axis_name) * x.shape[0]

    def hand_over(method, args, kwargs, context):
        if context.method_name == '__call__':
            module = context.module
            if isinstance(module, BatchNorm):
                kwargs = {'mask': mask, 'axis_name': axis_name, **kwargs}
                if module.path in frozen:
                    kwargs['train'] = False
            elif isinstance(module, Dropout):
                kwargs = {'place': place_of(args[0]), **kwargs}
            elif compute and isinstance(module, Conv | Linear) and HEAD not in module.path:
                args = (args[0].astype(compute), *args[1:])
        return method(*args, **kwargs)

    return nn.intercept_methods(hand_over)
