import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avsc_jax.training.optimizer import make_optimizer, plateau, with_rate

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


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(ValueError, match="schedule is 'cosine'; it must be one of steps,"):
        make_optimizer({**SETTINGS, 'schedule': 'cosine'}, steps_per_epoch=2)


def test_a_constant_rate_needs_no_more_settings():
    settings = {'optimizer': 'adam', 'schedule': 'constant', 'learning_rate': 0.1}
    optimizer, schedule = make_optimizer({**settings, 'weight_decay': 0.0}, steps_per_epoch=5)
    assert schedule(0) == schedule(999, [3.0] * 99) == 0.1
    state = optimizer.init(jnp.ones(2))
    updates, state = optimizer.update(jnp.ones(2), state, jnp.ones(2))
    np.testing.assert_allclose(updates, [-0.1, -0.1], rtol=1e-4)
    assert with_rate(state, jnp.float32(0.5)) is state


def test_on_plateaus_the_rate_of_the_state_is_the_one_used():
    settings = {**SETTINGS, 'schedule': 'plateau', 'plateau_patience': 1, 'weight_decay': 0.0}
    optimizer, schedule = make_optimizer(settings, steps_per_epoch=2)
    assert schedule(0) == 0.1
    state = with_rate(optimizer.init(jnp.ones(2)), jnp.float32(schedule(6, [1.0, 2.0, 3.0])))
    updates, _ = optimizer.update(jnp.ones(2), state, jnp.ones(2))
    np.testing.assert_allclose(updates, [-0.01, -0.01], rtol=1e-6)


@pytest.mark.parametrize(
    ('losses', 'rate'),
    [
        ([], 1),
        ([5, 5, 5], 1),  # two epochs waited, which is the patience
        ([5, 5, 5, 5], 0.5),
        ([5, 5, 5, 4, 4, 4], 1),
        ([5, 4, 4.5, 4.5, 4.5], 0.5),
        ([5, 5, 5, 5, 5, 5, 5], 0.25),
        ([5, 4.9999, 4.9998, 4.9996], 0.5),  # by less than 1e-4 of the best
        ([5, 4.9997, 4.9994, 4.9993], 1),  # the third is lower than the best, not the second, by it
        ([-0.5, -0.6, -0.6, -0.6], 1),  # accuracies
        ([-0.5, -0.50001, -0.50002, -0.50003], 0.5),
    ],
)
def test_a_plateau_is_more_epochs_than_the_patience_without_a_lower_loss(losses, rate):
    assert plateau(losses, learning_rate=1.0, factor=0.5, patience=2) == rate


def test_a_plateau_lowers_no_rate_by_less_than_1e_8():
    assert plateau([1.0] * 99, learning_rate=1e-4, factor=0.1, patience=3) == pytest.approx(1e-8)


def test_the_rate_drops_on_entering_an_epoch():
    _, schedule = make_optimizer(SETTINGS, steps_per_epoch=5)
    assert [float(schedule(step)) for step in (0, 4, 5, 99)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01]
    )
