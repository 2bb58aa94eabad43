"""The simulation of many machines keeps to what can be worked out by hand."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def growth():
    spec = importlib.util.spec_from_file_location('growth', ROOT / 'benchmarks/growth.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_equal_machines_divide_the_work_after_their_start(growth):
    for is_fixed in (False, True):
        hours = growth.simulated([16] * 100, 10, clip_s=2, startup_s=40, is_fixed=is_fixed)
        assert hours * 3600 == pytest.approx(40 + 10 * 32)


def test_a_slow_machine_delays_fixed_shares_by_its_factor_and_free_ones_by_a_task(growth):
    given = dict(clip_s=1, startup_s=0, slow_share=0.1, slow_factor=3)
    fixed = growth.simulated([10] * 1000, 10, **given, is_fixed=True) * 3600
    free = growth.simulated([10] * 1000, 10, **given) * 3600
    assert fixed == pytest.approx(3 * 1000)
    assert 10_000 / (9 + 1 / 3) <= free <= 10_000 / (9 + 1 / 3) + 30


def test_tasks_are_those_of_predict(growth):
    assert growth.task_sizes(1, 10, 1e6) == [16] * 22 + [8]
    assert growth.task_sizes(1, 600, 1e8) == [120] * 3  # two of 100 MB are below 256 MiB
