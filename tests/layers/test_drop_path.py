import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.drop_path import DropPath
from avsc_jax.layers.sync import global_batch

KEYS = {'dropout': jax.random.key(3)}


def dropped(x, rate=0.2):
    return DropPath(rate).apply({}, x, train=True, rngs=KEYS)


def test_whole_rows_are_zero_and_the_others_are_scaled_up():
    y = np.asarray(dropped(jnp.ones((20_000, 2, 1, 3)))).reshape(20_000, 6)
    np.testing.assert_array_equal(y, y[:, :1].repeat(6, axis=1))
    np.testing.assert_allclose(np.unique(y), [0, 1.25])
    assert abs((y[:, 0] == 0).mean() - 0.2) < 6 * 0.4 / np.sqrt(20_000)  # six standard deviations


def test_evaluation_and_rate_zero_leave_values_alone():
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(DropPath(0.5).apply({}, x, train=False), x)
    np.testing.assert_array_equal(DropPath(0.0).apply({}, x, train=True), x)


def test_the_type_stays():
    assert dropped(jnp.ones((4, 3), jnp.bfloat16)).dtype == jnp.bfloat16


def test_two_devices_draw_what_one_draws():
    x = jnp.ones((8, 5))

    def on_a_device(x):
        with global_batch(None, 'batch'):
            return dropped(x, 0.5)

    spread = jax.pmap(on_a_device, axis_name='batch', devices=jax.devices()[:2])
    whole = dropped(x, 0.5)
    np.testing.assert_array_equal(spread(x.reshape(2, 4, 5)).reshape(8, 5), whole)
    assert not np.array_equal(whole[:4], whole[4:])
