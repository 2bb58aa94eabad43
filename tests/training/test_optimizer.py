import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avsc_jax.training.optimizer import make_optimizer

SETTINGS = {
    'learning_rate': 0.1,
    'drop_at': (1,),
    'factor': 0.1,
    'momentum': 0.9,
    'weight_decay': 0.01,
}


def test_decay_joins_the_gradient_before_the_momentum_as_in_pytorch():
    optimizer, _ = make_optimizer(SETTINGS, steps_per_epoch=2)
    params, gradient = jnp.array([2.0, -1.0]), jnp.array([0.5, 0.25])
    state = optimizer.init(params)
    expected, velocity = np.array([2.0, -1.0]), np.zeros(2)
    for rate in (0.1, 0.1, 0.01):  # entering epoch 1 at step 2
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        velocity = 0.9 * velocity + np.array([0.5, 0.25]) + 0.01 * expected
        expected = expected - rate * velocity
        np.testing.assert_allclose(params, expected, rtol=1e-6)


def test_the_rate_drops_on_entering_an_epoch():
    _, schedule = make_optimizer(SETTINGS, steps_per_epoch=5)
    assert [float(schedule(step)) for step in (0, 4, 5, 99)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01]
    )
