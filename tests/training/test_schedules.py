import itertools
import math

import numpy as np
import pytest

from avsc_jax.training.schedules import cosine_restarts, warmup_cosine

RESTARTS = {'learning_rate': 0.1, 'lowest_rate': 1e-5, 'periods': (3, 7, 15, 31)}
WARMUP = {'learning_rate': 0.01, 'warmup': 0.05, 'epochs': 10}


def half_cosine(share):
    return (1 + math.cos(math.pi * share)) / 2


def test_each_period_falls_from_the_highest_to_the_lowest_rate():
    schedule, starts = cosine_restarts(RESTARTS, steps_per_epoch=4), (0, 3, 10, 25, 56)
    expected = []
    for start, end in itertools.pairwise(starts):
        steps = 4 * (end - start)
        expected += [1e-5 + (0.1 - 1e-5) * half_cosine(k / steps) for k in range(steps)]
    found = np.asarray(schedule(np.arange(4 * 56 + 9)))
    expected += [1e-5] * 9
    # float32 rounds 1 + cos: of a rate of 0.1 by 1e-8
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert np.flatnonzero(np.isclose(found, 0.1, rtol=1e-6)).tolist() == [0, 12, 40, 100]


def test_the_rate_rises_for_a_share_of_the_steps_and_falls_for_the_rest():
    schedule = warmup_cosine(WARMUP, steps_per_epoch=20)
    expected = [0.01 * k / 10 for k in range(10)]
    expected += [0.01 * half_cosine(k / 190) for k in range(191)]
    found = schedule(np.arange(201))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_without_warmup_the_first_rate_is_the_highest():
    schedule = warmup_cosine({**WARMUP, 'warmup': 0.0}, steps_per_epoch=1)
    assert float(schedule(0)) == pytest.approx(0.01)
    assert float(schedule(5)) == pytest.approx(0.005)


@pytest.mark.parametrize('periods', [(), (3, 0)])
def test_periods_without_epochs_are_an_error(periods):
    with pytest.raises(ValueError, match=r'periods is \(.*\), it must hold numbers of epochs'):
        cosine_restarts({**RESTARTS, 'periods': periods}, steps_per_epoch=4)


@pytest.mark.parametrize('share', [-0.1, 1])
def test_a_warmup_that_is_no_share_is_an_error(share):
    with pytest.raises(ValueError, match=rf'warmup is {share}, it must be a share of all steps'):
        warmup_cosine({**WARMUP, 'warmup': share}, steps_per_epoch=4)
