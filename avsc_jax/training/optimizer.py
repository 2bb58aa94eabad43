"""Learning rate schedules and optimizers, made from the settings of a config."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import optax
from optax import tree_utils

from avsc_jax.runs.state import Averaged
from avsc_jax.runtime import nearest
from avsc_jax.training.schedules import cosine_restarts, warmup_cosine

COSINES = {'cosine_restarts': cosine_restarts, 'warmup_cosine': warmup_cosine}


class Schedule(Protocol):
    """The learning rate at a step, after epochs with these `losses`.

    `losses` are the scores that select the epoch, negated if higher is better.
    """

    def __call__(self, step: int, losses: Sequence[float] = ()) -> float: ...


def make_schedule(settings: Mapping, steps_per_epoch: int) -> Schedule:
    """Makes the schedule that a config's `schedule` names ('steps' if absent).

    steps: `learning_rate` is multiplied by `factor` on entering each epoch of `drop_at`. Epochs
      count from 0: entering epoch 5 is step 5 * steps_per_epoch.
    constant: the rate stays `learning_rate`.
    cosine_restarts, warmup_cosine: see `schedules`.
    plateau: the rate is multiplied by `factor` when the losses stop falling; see `plateau`.
    """
    name, rate = settings.get('schedule', 'steps'), settings['learning_rate']
    if name in COSINES:
        by_step = COSINES[name](settings, steps_per_epoch)
        return lambda step, losses=(): by_step(step)
    nearest.check('schedule', name, ('steps', 'constant', 'plateau', *COSINES))
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
    """Returns the rate after these epochs, lowered each time more than `patience` were no better.

    A better loss is below the best so far by more than 1e-4 of it.

    Source: torch.optim.lr_scheduler.ReduceLROnPlateau, whose other settings are its defaults.
    """
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best * (1 - math.copysign(1e-4, best)):  # negated accuracies are below zero
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            waited, lower = 0, learning_rate * factor
            if learning_rate - lower > 1e-8:
                learning_rate = lower
    return learning_rate


def make_optimizer(
    settings: Mapping, steps_per_epoch: int, factors: Mapping | None = None
) -> tuple[optax.GradientTransformation, Schedule]:
    """Makes PyTorch's SGD with momentum, or its Adam, and the schedule of its learning rate.

    Decay is coupled: it is added to the gradient before the momentum, or before Adam's moments.
    With the schedule plateau, the rate is a part of the state; see `with_rate`. `clip_norm` bounds
    the norm of the whole gradient before all else; `ema` keeps an average, see `averaged`.

    Args:
      factors: factor of each parameter's learning rate, 0 for one that is not trained; None: 1.
    """
    schedule = make_schedule(settings, steps_per_epoch)
    name = settings.get('optimizer', 'sgd')
    if name == 'sgd':
        direction = optax.trace(settings['momentum'])
    elif name == 'adam':
        direction = optax.scale_by_adam()
    else:
        raise ValueError(f"optimizer is {name!r}, it must be 'sgd' or 'adam'")
    if settings.get('schedule') == 'plateau':  # not a function of the step alone
        scale = optax.inject_hyperparams(optax.scale_by_learning_rate)(schedule(0))
    else:
        scale = optax.scale_by_learning_rate(schedule)
    parts = [optax.add_decayed_weights(settings['weight_decay']), direction, scale]
    if settings.get('clip_norm'):
        parts.insert(0, optax.clip_by_global_norm(settings['clip_norm']))
    if factors is not None:
        parts.append(
            optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors))
        )
    made = optax.chain(*parts)
    return (averaged(made, settings['ema']) if settings.get('ema') else made), schedule


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Makes an optimizer that also keeps an average of the parameters, `Averaged.average`.

    After each step: average = decay · average + (1 − decay) · parameters.

    Source: timm.utils.ModelEmaV2; Polyak and Juditsky 1992 for the idea.
    """

    def init(params):
        return Averaged(optimizer.init(params), jax.tree.map(jnp.copy, params))

    def update(gradient, state, params):
        updates, inner = optimizer.update(gradient, state.inner, params)
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, x: a + (1 - decay) * (x - a), state.average, new)
        return updates, Averaged(inner, average)

    return optax.GradientTransformation(init, update)


def with_rate(state: optax.OptState, learning_rate: jax.Array) -> optax.OptState:
    """Sets the rate in the state of an optimizer on plateaus; returns other states as they are."""
    if tree_utils.tree_get(state, 'learning_rate') is None:
        return state
    return tree_utils.tree_set(state, learning_rate=learning_rate)
