"""A context that hands a training step's mask and device axis to the layers of a network."""

import contextlib

import flax.linen as nn

from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.types import Array, Bool


def global_batch(
    mask: Bool[Array, 'B'] | None, axis_name: str | None
) -> contextlib.AbstractContextManager[None]:
    """A context in which every BatchNorm gets `mask` and `axis_name`, every Dropout `axis_name`.

    Networks only write `BatchNorm(name='bn1')(x, train=train)`; the step adds the rest:

        with global_batch(batch['mask'], 'batch'):
            logits, out = model.apply(variables, inputs, train=True, mutable=['batch_stats'], ...)

    Args:
      mask: True for this device's rows that count; None: all do.
      axis_name: the pmapped axis; None outside pmap.
    """

    def hand_over(method, args, kwargs, context):
        if context.method_name == '__call__':
            if isinstance(context.module, BatchNorm):
                kwargs = {'mask': mask, 'axis_name': axis_name, **kwargs}
            elif isinstance(context.module, Dropout):
                kwargs = {'axis_name': axis_name, **kwargs}
        return method(*args, **kwargs)

    return nn.intercept_methods(hand_over)
