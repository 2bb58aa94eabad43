"""Schedules and optimizers, by the settings of a config."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import jax
import optax
from optax import tree_utils

from avsc_jax.training.schedules import cosine_restarts, warmup_cosine

COSINES = {'cosine_restarts': cosine_restarts, 'warmup_cosine': warmup_cosine}


class Schedule(Protocol):
    """Learning rate at a step, after epochs of these `losses`: what selects, lower is better."""

    def __call__(self, step: int, losses: Sequence[float] = ()) -> float: ...


def make_schedule(settings: Mapping, steps_per_epoch: int) -> Schedule:
    """`learning_rate` and what becomes of it: its `schedule`, which is 'steps' where it is absent.

    steps: times `factor` on entering each epoch of `drop_at`. Epochs count from 0: entering epoch
      5 is step 5 * steps_per_epoch.
    constant: nothing.
    cosine_restarts, warmup_cosine: see `schedules`.
    plateau: times `factor` where the losses fall no more; see `plateau`.
    """
    name, rate = settings.get('schedule', 'steps'), settings['learning_rate']
    if name in COSINES:
        by_step = COSINES[name](settings, steps_per_epoch)
        return lambda step, losses=(): by_step(step)
    if name not in ('steps', 'constant', 'plateau'):
        known = ', '.join(('steps', 'constant', 'plateau', *COSINES))
        raise ValueError(f'schedule is {name!r}, it must be one of {known}')
    drop_at = settings['drop_at'] if name == 'steps' else ()
    by_step = optax.piecewise_constant_schedule(
        rate, {epoch * steps_per_epoch: settings['factor'] for epoch in drop_at}
    )

    def schedule(step: int, losses: Sequence[float] = ()) -> float:
        if name != 'plateau':
            return by_step(step)
        patience = settings['plateau_patience']
        return plateau(losses, learning_rate=rate, factor=settings['factor'], patience=patience)

    return schedule


def plateau(
    losses: Sequence[float], *, learning_rate: float, factor: float, patience: int
) -> float:
    """The rate after these epochs: times `factor` whenever more than `patience` were no better.

    Better is lower than the best so far by more than 1e-4 of it.

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau, whose other settings are its defaults.
    """
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best * (1 - math.copysign(1e-4, best)):  # below zero are accuracies
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            waited, lower = 0, learning_rate * factor
            if learning_rate - lower > 1e-8:
                learning_rate = lower
    return learning_rate


def make_optimizer(
    settings: Mapping, steps_per_epoch: int
) -> tuple[optax.GradientTransformation, Schedule]:
    """SGD with momentum, or Adam where `optimizer` says so, as PyTorch's.

    Decay is coupled: it is added to the gradient before the momentum, or before Adam's moments.
    On plateaus the rate is a part of the state; see `with_rate`.
    """
    schedule = make_schedule(settings, steps_per_epoch)
    name = settings.get('optimizer', 'sgd')
    if name == 'sgd':
        direction = optax.trace(settings['momentum'])
    elif name == 'adam':
        direction = optax.scale_by_adam()
    else:
        raise ValueError(f"optimizer is {name!r}, it must be 'sgd' or 'adam'")
    if settings.get('schedule') == 'plateau':  # no function of the step
        scale = optax.inject_hyperparams(optax.scale_by_learning_rate)(schedule(0))
    else:
        scale = optax.scale_by_learning_rate(schedule)
    decay = optax.add_decayed_weights(settings['weight_decay'])
    return optax.chain(decay, direction, scale), schedule


def with_rate(state: optax.OptState, learning_rate: jax.Array) -> optax.OptState:
    """The state with this rate, if the rate is a part of it: of an optimizer on plateaus."""
    if tree_utils.tree_get(state, 'learning_rate') is None:
        return state
    return tree_utils.tree_set(state, learning_rate=learning_rate)
