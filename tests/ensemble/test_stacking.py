"""Stacking, and calibrations one after the other, on made-up members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from avsc_jax import ensemble, metrics
from avsc_jax.ensemble import calibrations, recipes

RIDGE = 1e-2


def drawn(key, rows=120, members=2, classes=3):
    """Members that lean to the truth, their mean, and the labels."""
    rng = np.random.default_rng(key)
    labels = rng.integers(classes, size=rows)
    logits = rng.normal(size=(members, rows, classes)) + 1.5 * np.eye(classes)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return probs.mean(axis=0), probs, labels


def objective(x, mix, members, labels):
    """The loss of fit_stacking, by its formula, of kernel and bias in one vector."""
    count, _, classes = members.shape
    kernel, bias = x[:-classes].reshape(count, classes, classes), x[-classes:]
    probs = ensemble.stack(mix, members, kernel, bias)
    return metrics.log_loss(probs, labels) + RIDGE * x @ x


def test_zeros_leave_the_mix_as_it_is():
    mix, members, _ = drawn(0)
    stacked = ensemble.stack(mix, members, np.zeros((2, 3, 3)), np.zeros(3))
    np.testing.assert_allclose(stacked, mix, atol=1e-15)


def test_the_gradient_of_a_stacking_is_zero_at_its_optimum():
    mix, members, labels = drawn(1)
    kernel, bias = ensemble.fit_stacking(mix, members, labels, RIDGE)
    best, step = np.concatenate([kernel.ravel(), bias]), 1e-5
    for axis in np.eye(len(best)):
        up, down = (objective(best + s * axis, mix, members, labels) for s in (step, -step))
        assert abs(up - down) / (2 * step) < 1e-6  # central differences
    assert objective(best, mix, members, labels) < objective(0 * best, mix, members, labels)


def test_stacking_a_uniform_mix_is_the_logistic_regression_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    _, members, labels = drawn(2)
    uniform = np.full((len(labels), 3), 1 / 3)
    kernel, bias = ensemble.fit_stacking(uniform, members, labels, RIDGE)
    logs = np.log(members) - np.log(members).mean(axis=-1, keepdims=True)
    columns = np.hstack([*logs, np.ones((len(labels), 1))])  # the ridge is on the bias, too
    strength = 1 / (2 * RIDGE * len(labels))
    model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
    expected = model.fit(columns, labels).predict_proba(columns)
    made = ensemble.stack(uniform, members, kernel, bias)
    np.testing.assert_allclose(made, expected, atol=1e-6)  # both stop at a gradient near 1e-8


def test_a_class_without_items_keeps_finite_numbers():
    mix, members, labels = drawn(3)
    kernel, bias = ensemble.fit_stacking(mix, members, np.minimum(labels, 1))
    assert np.isfinite(kernel).all() and np.isfinite(bias).all() and bias[2] < 0


def test_stacking_is_the_same_under_jit():
    mix, members, labels = drawn(4)
    numbers = ensemble.fit_stacking(mix, members, labels)
    made = jax.jit(ensemble.stack)(*map(jnp.asarray, (mix, members, *numbers)))
    np.testing.assert_allclose(made, ensemble.stack(mix, members, *numbers), atol=1e-5)


def test_steps_are_fitted_to_what_the_earlier_ones_make():
    mix, members, labels = drawn(5)
    first, second = ensemble.fit_steps(['vector', 'temperature'], mix, members, labels)
    scaled = ensemble.vector_scale(mix, *first.numbers)
    found = minimize_scalar(
        lambda t: metrics.log_loss(ensemble.temperature_scale(scaled, t), labels),
        bounds=(0.05, 20), method='bounded', options={'xatol': 1e-9},
    ).x  # fmt: skip
    assert second.numbers[0] == pytest.approx(found, rel=1e-4)
    stages = ensemble.apply_steps([first, second], mix, members)
    np.testing.assert_allclose(stages[2], ensemble.temperature_scale(scaled, found), atol=1e-5)


def test_no_row_is_scored_by_a_fit_that_saw_its_group():
    mix, members, labels = drawn(6)
    half = np.arange(len(labels)) % 2 == 0
    rows = np.flatnonzero(half), np.flatnonzero(~half)
    steps = [*recipes.CALIBRATIONS]
    before = ensemble.cross_fit(steps, mix, members, labels, [rows, rows[::-1]])
    wrong = np.where(half, (labels + 1) % 3, labels)
    after = ensemble.cross_fit(steps, mix, members, wrong, [rows, rows[::-1]])
    np.testing.assert_array_equal(after[:, half], before[:, half])  # own labels do nothing
    assert not np.allclose(after[1:, ~half], before[1:, ~half])


def test_fitted_steps_are_the_same_after_a_file():
    mix, members, labels = drawn(7)
    fitted = ensemble.fit_steps([*recipes.CALIBRATIONS], mix, members, labels)
    read = ensemble.from_lists(ensemble.as_lists(fitted), members=2, classes=3)
    expected = ensemble.apply_steps(fitted, mix, members)
    np.testing.assert_array_equal(ensemble.apply_steps(read, mix, members), expected)


@pytest.mark.parametrize(
    'step',
    [
        {'step': 'temperature', 'numbers': [None]},
        {'step': 'temperature', 'numbers': [[1.0]]},
        {'step': 'vector', 'numbers': [[1.0, 1.0], [0.0, 0.0]]},
        {'step': 'stacking', 'numbers': ['x']},
        {'step': 'shrinking', 'numbers': []},
    ],
)
def test_damaged_steps_are_one_sentence(step):
    with pytest.raises(ValueError, match='step'):
        calibrations.from_lists([step], members=2, classes=3)
