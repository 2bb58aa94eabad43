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
    """SGD with momentum as PyTorch's: decay is added to the gradient before the momentum."""
    schedule = make_schedule(settings, steps_per_epoch)
    return optax.chain(
        optax.add_decayed_weights(settings['weight_decay']),
        optax.sgd(schedule, momentum=settings['momentum']),
    ), schedule
