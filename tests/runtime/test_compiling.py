"""When JAX compiles, and when it does not."""

import jax

from avsc_jax.runtime import compiling


def test_a_program_is_told_at_its_first_call_only():
    told = []
    compiling.watch(lambda: told.append('began'), lambda: told.append('ended'))
    program = jax.jit(lambda x: 3.25 * x)
    assert program(1.0) == 3.25
    assert told and told == ['began', 'ended'] * (len(told) // 2)
    told.clear()
    program(2.0)
    assert told == []
