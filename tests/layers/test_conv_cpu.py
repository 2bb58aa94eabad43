import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.runtime import compiler


def compiled(training: bool) -> str:
    def f(x):
        for _ in range(2):
            x = materialize(jnp.sin(x) + x)
        return x.sum()

    options = compiler.options(training=training)
    return jax.jit(f, compiler_options=options).lower(jnp.ones((4, 4))).compile().as_text()


def test_what_is_materialized_stays_apart_in_what_is_compiled():
    """Else XLA would fuse across, without any other sign than its slowness."""
    for training in (False, True):
        assert compiled(training).count('opt-barrier') >= 2


def test_values_and_gradients_pass():
    x = jnp.arange(3.0)
    y, pull = jax.vjp(lambda x: materialize(x) * 2, x)
    np.testing.assert_array_equal(y, 2 * x)
    np.testing.assert_array_equal(pull(jnp.ones(3))[0], 2 * np.ones(3))
