"""Cosine schedules, made from the settings of a config."""

from collections.abc import Mapping

import optax


def cosine_restarts(settings: Mapping, steps_per_epoch: int) -> optax.Schedule:
    """Makes a rate that falls along half a cosine in each of the `periods`, restarting in each.

    It falls from `learning_rate` to `lowest_rate`. `periods` are numbers of epochs; after the last
    one the rate stays the lowest.

    Source: Loshchilov and Hutter 2017 (SGDR), Eq. (5); Wang et al. 2021 (IOA-CAS), Sec. 3.1.2.
    """
    periods = tuple(settings['periods'])
    if not periods or min(periods) < 1:
        raise ValueError(f'periods is {periods}, it must hold numbers of epochs, each at least 1')
    cosine = dict(
        init_value=settings['learning_rate'],
        peak_value=settings['learning_rate'],
        end_value=settings['lowest_rate'],
        warmup_steps=0,
    )
    return optax.sgdr_schedule([cosine | {'decay_steps': n * steps_per_epoch} for n in periods])


def warmup_cosine(settings: Mapping, steps_per_epoch: int) -> optax.Schedule:
    """Makes a rate that rises linearly from 0 to `learning_rate`, then falls along half a cosine.

    `warmup` is the rise's share of all steps of `epochs`; the rate ends at 0.

    Source: Goyal et al. 2017, Sec. 2.2; Wang et al. 2021 (IOA-CAS), Sec. 3.2, gives no numbers.
    """
    steps, share = settings['epochs'] * steps_per_epoch, settings['warmup']
    if not 0 <= share < 1:
        raise ValueError(f'warmup is {share}, it must be a share of all steps, in [0, 1)')
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings['learning_rate'],
        warmup_steps=round(share * steps),
        decay_steps=steps,
    )
