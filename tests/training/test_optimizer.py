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


def test_decay_joins_the_gradient_before_adam_s_moments_as_in_pytorch():
    settings = {'optimizer': 'adam', 'learning_rate': 0.1, 'drop_at': (), 'weight_decay': 0.5}
    optimizer, _ = make_optimizer(settings, steps_per_epoch=2)
    params = jnp.array([2.0, -1.0])
    state = optimizer.init(params)
    expected, first, second = np.array([2.0, -1.0]), np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(([0.5, 0.25], [-2.0, 0.1], [0.0, 3.0]), start=1):
        updates, state = optimizer.update(jnp.array(gradient), state, params)
        params = optax.apply_updates(params, updates)
        decayed = np.array(gradient) + 0.5 * expected
        first, second = 0.9 * first + 0.1 * decayed, 0.999 * second + 0.001 * decayed**2
        root = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        expected = expected - 0.1 * first / (1 - 0.9**step) / root
        np.testing.assert_allclose(params, expected, rtol=1e-5)


def test_an_unknown_optimizer_is_an_error():
    with pytest.raises(ValueError, match="optimizer is 'lion', it must be 'sgd' or 'adam'"):
        make_optimizer({**SETTINGS, 'optimizer': 'lion'}, steps_per_epoch=2)


def test_the_rate_drops_on_entering_an_epoch():
    _, schedule = make_optimizer(SETTINGS, steps_per_epoch=5)
    assert [float(schedule(step)) for step in (0, 4, 5, 99)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01]
    )
