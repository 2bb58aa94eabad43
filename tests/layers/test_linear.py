import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.linear import Linear


def test_initial_values_are_uniform_as_in_torch():
    params = Linear(3000).init(jax.random.key(0), jnp.zeros((1, 25)))['params']
    for values in params.values():
        assert abs(values).max() <= 0.2
        assert abs(values).max() > 0.199
        assert abs(values.std() - 0.2 / np.sqrt(3)) < 0.005


def test_output_is_the_product_plus_bias():
    x = jnp.arange(12.0).reshape(2, 2, 3)
    params = {'kernel': jnp.arange(6.0).reshape(3, 2), 'bias': jnp.array([10.0, 20.0])}
    y = Linear(2).apply({'params': params}, x)
    np.testing.assert_array_equal(y[0, 1], [4 * 2 + 5 * 4 + 10, 3 + 4 * 3 + 5 * 5 + 20])
    params.pop('bias')
    without = Linear(2, use_bias=False).apply({'params': params}, x)
    np.testing.assert_array_equal(y - without, np.broadcast_to([10.0, 20.0], y.shape))


def test_half_precision_arithmetic_keeps_float32_parameters():
    x = jnp.ones((2, 3), jnp.float32)
    y, variables = Linear(4, dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert variables['params']['kernel'].dtype == jnp.float32
