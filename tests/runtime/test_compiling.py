"""A long compilation is said on stderr, once for each shape; a short one is not."""

import time

import jax
import numpy as np
import pytest

from avsc_jax.runtime import compiling

SLOW_S = 0.3


@pytest.fixture
def calls(monkeypatch):
    """A function whose first call with each shape takes long, as a compiled one's."""
    monkeypatch.setattr(compiling, 'AFTER_S', 0.1)
    seen = set()

    def function(variables, batch):
        if batch['image'].shape not in seen:
            seen.add(batch['image'].shape)
            time.sleep(SLOW_S)
        return batch['image'].sum()

    return compiling.told(function, 'resnest50d for training')


def test_the_first_call_with_each_shape_says_what_is_compiled(calls, capsys):
    for size in (2, 2, 3, 2, 3):
        assert calls({}, {'image': np.ones((size, 4))}) == 4 * size
    out, err = capsys.readouterr()
    line = 'compiling resnest50d for training (once for each shape of a batch'
    assert not out and err.count(line) == 2 == err.count('\n')


def test_it_is_said_while_it_is_compiled(calls, capsys, monkeypatch):
    began, said = time.monotonic(), []
    say = compiling._say
    monkeypatch.setattr(compiling, '_say', lambda *of: said.append(time.monotonic()) or say(*of))
    calls({}, {'image': np.ones((2, 4))})
    assert 0.1 <= said[0] - began < SLOW_S


def test_a_quick_first_call_says_nothing(calls, capsys, monkeypatch):
    monkeypatch.setattr(compiling, 'AFTER_S', SLOW_S + 0.1)
    calls({}, {'image': np.ones((2, 4))})
    time.sleep(SLOW_S)
    assert capsys.readouterr() == ('', '')


def test_a_later_call_that_takes_long_compiles_nothing(calls, capsys):
    always_slow = compiling.told(lambda variables, batch: time.sleep(SLOW_S), 'a net')
    for _ in range(2):
        always_slow({}, np.ones(2))
    assert capsys.readouterr().err.count('compiling a net') == 1


def test_a_call_that_fails_is_told_again(calls, capsys):
    def fails(variables, batch):
        time.sleep(SLOW_S)
        raise ValueError('no memory')

    call = compiling.told(fails, 'a net')
    for _ in range(2):
        with pytest.raises(ValueError, match='no memory'):
            call({}, np.ones(2))
    assert capsys.readouterr().err.count('compiling a net') == 2


def test_a_program_is_told_at_its_first_call_only():
    told = []
    compiling.watch(lambda: told.append('began'), lambda: told.append('ended'))
    program = jax.jit(lambda x: 3.25 * x)
    assert program(1.0) == 3.25
    assert told and told == ['began', 'ended'] * (len(told) // 2)
    told.clear()
    program(2.0)
    assert told == []
