"""Schedules and optimizers, by the settings of a config."""

from collections.abc import Mapping

import optax


def make_schedule(settings: Mapping, steps_per_epoch: int) -> optax.Schedule:
    """Learning rate by step: `learning_rate`, times `factor` on entering each epoch of `drop_at`.

    Epochs count from 0: entering epoch 5 is step 5 * steps_per_epoch.
    """
    return optax.piecewise_constant_schedule(
        settings['learning_rate'],
        {epoch * steps_per_epoch: settings['factor'] for epoch in settings['drop_at']},
    )


def make_optimizer(
    settings: Mapping, steps_per_epoch: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """SGD with momentum, or Adam where `optimizer` says so, as PyTorch's.

    Decay is coupled: it is added to the gradient before the momentum, or before Adam's moments.
    """
    schedule = make_schedule(settings, steps_per_epoch)
    name = settings.get('optimizer', 'sgd')
    if name == 'sgd':
        descent = optax.sgd(schedule, momentum=settings['momentum'])
    elif name == 'adam':
        descent = optax.adam(schedule)
    else:
        raise ValueError(f"optimizer is {name!r}, it must be 'sgd' or 'adam'")
    return optax.chain(optax.add_decayed_weights(settings['weight_decay']), descent), schedule
