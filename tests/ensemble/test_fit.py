"""Fits and searches: against brute force, by construction, and on tables made to have an answer."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import ensemble, metrics
from avsc_jax.ensemble import clamp_fit, fit

IOA_I = [0.5, 0, 0.25, 0.15, 0.1, 0]  # Wang 2021, Sec. 4
IOA_III = [0.4, 0, 0.15, 0.2, 0.15, 0, 0.1, 0, 0]

pytestmark = pytest.mark.filterwarnings('ignore:.*rows do not sum to 1')


def noisy(members, rows, classes=4, seed=0):
    """Members [M, N, C] that are right more often than not, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = 2 * np.eye(classes)[labels] + 1.5 * rng.normal(size=(members, rows, classes))
    probs = np.exp(logits)
    return probs / probs.sum(axis=-1, keepdims=True), labels


def brute_force(members, labels, steps):
    """The first best point of the grid, from [steps, 0, ...] down, by metrics.log_loss."""
    points = itertools.product(range(steps, -1, -1), repeat=len(members))
    points = [np.array(point) / steps for point in points if sum(point) == steps]
    losses = [
        metrics.log_loss(ensemble.mean(members, point), labels, renormalize=False)
        for point in points
    ]
    return points[int(np.argmin(losses))], min(losses)


@pytest.mark.parametrize(
    ('members', 'rows', 'step', 'seed'),
    [(2, 1, 0.1, 0), (3, 40, 0.05, 1), (4, 7, 0.2, 2), (3, 16, 0.25, 3), (2, 300, 0.01, 4)],
)
def test_the_search_finds_what_brute_force_finds(members, rows, step, seed):
    probs, labels = noisy(members, rows, seed=seed)
    weights, loss = ensemble.search_weights(probs, labels, step)
    expected, lowest = brute_force(probs, labels, round(1 / step))
    np.testing.assert_array_equal(weights, expected)
    assert loss == pytest.approx(lowest, rel=1e-12)


def test_the_bound_rules_out_no_better_point_and_most_others():
    probs, labels = noisy(5, 200)
    true = probs[:, np.arange(200), labels]
    losses = fit._losses(fit._grid(5, 20), true)
    for center in (fit._optimum(true), np.full(5, 0.2)):
        kept = fit._near(center, true, 20, np.quantile(losses, 0.01))
        assert set(map(tuple, kept)) >= set(
            map(tuple, fit._grid(5, 20)[losses <= np.quantile(losses, 0.01)])
        )
    assert len(fit._near(fit._optimum(true), true, 20, losses.min())) < 100


def optimal_for(weights, rows=4000):
    """Members whose best mixture has these weights, and labels drawn from that mixture.

    The expected log loss is lowest for the distribution that the labels come from; a member of
    weight 0 speaks of other rows.
    """
    weights = np.asarray(weights)
    rng = np.random.default_rng(0)
    members = rng.dirichlet(np.full(6, 0.4), size=(len(weights), rows))
    members[weights == 0] = members[weights == 0][:, ::-1]
    mixture = ensemble.mean(members, weights)
    labels = (mixture.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(0, 5)
    return members, labels


@pytest.mark.parametrize('weights', [IOA_I, IOA_III], ids=['I', 'III'])
def test_weights_of_the_ioa_report_are_found_where_they_are_best(weights):
    assert sum(weights) == pytest.approx(1, rel=1e-15)
    members, labels = optimal_for(weights, rows=40_000)
    found, loss = ensemble.search_weights(members, labels)
    np.testing.assert_array_equal(found, weights)
    direct = metrics.log_loss(ensemble.mean(members, found), labels, renormalize=False)
    assert loss == pytest.approx(direct, rel=1e-9)


@pytest.mark.parametrize(('members', 'points'), [(1, 1), (2, 21), (6, 53_130)])
def test_the_grid_holds_every_point_once_from_the_first_member_down(members, points):
    grid = fit._grid(members, 20)
    assert len(grid) == points == math.comb(20 + members - 1, members - 1)
    assert (grid.sum(axis=1) == 20).all()
    found = list(map(tuple, grid.tolist()))
    assert found == sorted(set(found), reverse=True)


def test_of_equal_weights_the_earlier_members_are_preferred():
    (one, other), labels = noisy(2, 50)
    weights, _ = ensemble.search_weights(np.stack([one] * 12), labels)
    np.testing.assert_array_equal(weights, [1] + [0] * 11)
    expected, _ = ensemble.search_weights(np.stack([one, other]), labels)
    assert (expected > 0.1).all()
    found, _ = ensemble.search_weights(np.stack([one, other, other]), labels)
    np.testing.assert_array_equal(found, [*expected, 0])
    # Two steps of the middle one are a step of each other: the first point takes one at most.
    found, _ = ensemble.search_weights(np.stack([one, (one + other) / 2, other]), labels)
    assert found[1] <= 0.05 and abs(found[0] - expected[0]) < 0.051


def test_the_order_of_members_and_rows_moves_nothing_else():
    probs, labels = noisy(4, 60)
    weights, loss = ensemble.search_weights(probs, labels)
    rows = np.random.default_rng(0).permutation(60)
    moved, same = ensemble.search_weights(probs[::-1][:, rows], labels[rows])
    np.testing.assert_array_equal(moved, weights[::-1])
    assert same == pytest.approx(loss, rel=1e-12)


def test_zeros_and_ones_have_a_finite_loss():
    members = np.array([[[1.0, 0], [1, 0]], [[0, 1], [0, 1]]])
    weights, loss = ensemble.search_weights(members, np.array([0, 1]))
    np.testing.assert_array_equal(weights, [0.5, 0.5])
    assert loss == pytest.approx(math.log(2))
    _, loss = ensemble.search_weights(members[:1], np.array([0, 1]))
    assert loss == pytest.approx(15 * math.log(10) / 2)


def test_twelve_members_take_the_coordinate_search(monkeypatch):
    probs, labels = noisy(12, 100)
    weights, loss = ensemble.search_weights(probs, labels)
    assert weights.sum() == pytest.approx(1) and np.allclose(weights * 20, np.round(weights * 20))
    probs = probs[:5]
    exact = ensemble.search_weights(probs, labels)
    monkeypatch.setattr(fit, 'EXACT_POINTS', 0)
    monkeypatch.setattr(fit, '_near', None)
    weights, loss = ensemble.search_weights(probs, labels)
    assert exact[1] <= loss < exact[1] + 1e-3
    trades = [weights + (np.eye(5)[i] - np.eye(5)[j]) / 20 for i in range(5) for j in range(5)]
    for trade in trades:  # no single trade is better
        if (trade >= 0).all():
            mixed = ensemble.mean(probs, trade)
            assert metrics.log_loss(mixed, labels, renormalize=False) >= loss - 1e-11


def test_trades_lead_from_any_point_to_the_best():
    probs, labels = noisy(3, 40)
    best, _ = ensemble.search_weights(probs, labels)
    true = probs[:, np.arange(40), labels]
    for start in ([20, 0, 0], [0, 20, 0], [0, 0, 20]):
        np.testing.assert_array_equal(fit._trade(np.array(start), true) / 20, best)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'step': 0.03}, 'step is 0.03; give 1 divided by a whole number'),
        ({'step': 0.0}, 'step is 0'),
        ({'labels': np.array([0, -1, 1])}, r'1 of 3 labels are outside \[0, 4\)'),
        ({'members': noisy(2, 3)[0] - 0.9}, r'rows hold values outside \[0, 1\]'),
        ({'members': noisy(2, 3)[0] * np.nan}, '3 of 3 rows hold NaN'),
        ({'members': noisy(2, 3)[0][:0]}, r'members have shape \(0, 3, 4\)'),
    ],
)
def test_a_search_of_bad_input_is_a_sentence(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        ensemble.search_weights(
            **{'members': noisy(2, 3)[0], 'labels': np.array([0, 1, 2]), **change}
        )


def sharpened(power, rows=300, classes=4):
    """Calibrated probabilities and labels drawn from them, then raised to a power."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(classes, 0.7), size=rows)
    labels = (probs.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1).clip(0, classes - 1)
    return ensemble.temperature_scale(probs, 1 / power), labels


@pytest.mark.parametrize('power', [0.4, 1, 3])
def test_the_temperature_undoes_a_power(power):
    probs, labels = sharpened(power, rows=20_000)
    assert ensemble.fit_temperature(probs, labels) == pytest.approx(power, rel=0.05)


def test_a_temperature_keeps_the_order_and_one_changes_nothing():
    probs, _ = sharpened(1)
    np.testing.assert_allclose(ensemble.temperature_scale(probs, 1.0), probs, atol=1e-12)
    hot = ensemble.temperature_scale(probs, 3.0)
    np.testing.assert_array_equal(hot.argsort(axis=1), probs.argsort(axis=1))
    assert (hot.max(axis=1) <= probs.max(axis=1)).all()
    np.testing.assert_allclose(hot, (powers := probs ** (1 / 3)) / powers.sum(1, keepdims=True))


def test_the_vector_scale_undoes_a_shift_and_is_never_worse_than_the_table():
    probs, labels = sharpened(2, rows=20_000)
    shifted = ensemble.vector_scale(probs, np.ones(4), np.array([0, 1.0, 0, -1]))
    scale, bias = ensemble.fit_vector_scale(shifted, labels)
    np.testing.assert_allclose(scale, 0.5, atol=0.06)
    np.testing.assert_allclose(bias - bias[0], [0, -0.5, 0, 0.5], atol=0.15)
    for table in (probs[:50], shifted[:50], np.eye(4)[labels[:50]]):
        numbers = ensemble.fit_vector_scale(table, labels[:50])
        assert np.isfinite(numbers).all()
        fitted = metrics.log_loss(ensemble.vector_scale(table, *numbers), labels[:50])
        assert fitted <= metrics.log_loss(table, labels[:50]) + 1e-9


@pytest.mark.parametrize('power', [0.3, 1, 4])
def test_the_fitted_clamp_is_at_least_as_good_as_equation_1_and_as_none(power):
    probs, labels = sharpened(power, rows=40)
    edges, values = ensemble.fit_clamp(probs, labels)
    fitted = metrics.log_loss(ensemble.piecewise_clamp(probs, edges, values), labels)
    assert fitted <= metrics.log_loss(ensemble.clamp(probs), labels) - 1e-3
    assert fitted <= metrics.log_loss(probs, labels) + 1e-12
    rising = ensemble.piecewise_clamp(np.linspace(0, 1, 10_001), edges, values)
    assert (np.diff(rising) >= 0).all()
    assert np.isnan(values[2]) and len(values) == len(edges) + 1 == 4


def loss_of_clamp(probs, labels, edges, values):
    clamped = ensemble.piecewise_clamp(probs, edges, values)
    true = np.maximum(clamped[np.arange(len(labels)), labels], 1e-15)
    return float(np.mean(np.log(clamped.sum(axis=1)) - np.log(true)))


def best_of_a_grid(probs, labels):
    """The lowest loss of clamps of a coarse grid, each as fit_clamp may return it."""
    edges = np.array([0, 0.01, 0.06, 0.2, 0.4, 0.5, 0.7, 0.9, 0.98, 1])
    values = np.array([1e-15, 1e-3, 0.03, 0.06, 0.2, 0.33, 0.5, 0.75, 0.9, 0.99, 1])
    low, middle, high, first, second, last = np.array(
        [
            (*e, *v)
            for e in itertools.combinations_with_replacement(edges, 3)
            if e[1] < e[2]
            for v in itertools.combinations_with_replacement(values, 3)
            if v[1] <= max(e[1], 1e-15) and v[2] >= e[2]
        ]
    ).T[..., None, None]
    x = probs.astype(np.float32)
    high_or_kept = np.where(x <= high.astype(np.float32), probs, last)
    clamped = np.where(x <= middle.astype(np.float32), second, high_or_kept)
    clamped = np.where(x <= low.astype(np.float32), first, clamped)
    true = np.maximum(clamped[:, np.arange(len(labels)), labels], 1e-15)
    return float((np.log(clamped.sum(axis=2)) - np.log(true)).mean(axis=1).min())


@pytest.mark.parametrize('seed', range(8))
def test_no_clamp_of_a_grid_is_better_than_the_fitted_one(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    rows, classes = int(rng.integers(1, 8)), int(rng.integers(2, 4))
    probs = rng.dirichlet(np.full(classes, 0.6), rows).round(3)
    labels = rng.integers(0, classes, rows)
    best = loss_of_clamp(probs, labels, *ensemble.fit_clamp(probs, labels))
    assert best <= best_of_a_grid(probs, labels) + 1e-9
    monkeypatch.setattr(clamp_fit, 'EXACT', 0)
    searched = loss_of_clamp(probs, labels, *ensemble.fit_clamp(probs, labels))
    assert best - 1e-9 <= searched <= best + 0.01


@pytest.mark.parametrize('exact', [0, clamp_fit.EXACT])
def test_the_fitted_clamp_makes_certain_answers_as_sure_as_they_are_right(monkeypatch, exact):
    monkeypatch.setattr(clamp_fit, 'EXACT', exact)
    probs, labels = np.array([[0.99, 0.01]] * 4), np.array([0, 0, 0, 1])
    loss = loss_of_clamp(probs, labels, *ensemble.fit_clamp(probs, labels))
    assert loss == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_the_piecewise_clamp_closes_intervals_above_and_keeps_where_nan_says_so():
    probs = np.array([[0.0, 0.3, 0.3001, 0.9, np.nan]])
    clamped = ensemble.piecewise_clamp(probs, (0.3, 0.6), (0.1, math.nan, 0.8))
    np.testing.assert_array_equal(clamped, [[0.1, 0.1, 0.3001, 0.8, np.nan]])
    np.testing.assert_array_equal(ensemble.piecewise_clamp(probs, (), (math.nan,)), probs)


def test_calibrations_are_the_same_numbers_under_jit():
    probs = sharpened(1)[0].astype(np.float32)
    for function, numbers in (
        (ensemble.temperature_scale, (np.array(1.7),)),
        (ensemble.vector_scale, (np.arange(1.0, 5), np.array([0, 0.5, 1, -1]))),
        (ensemble.piecewise_clamp, (np.array([0.1, 0.6]), np.array([0.01, math.nan, 0.9]))),
        (ensemble.renormalize, ()),
    ):
        host = function(probs, *numbers)
        device = jax.jit(function)(jnp.asarray(probs), *numbers)
        assert host.dtype == device.dtype == np.float32
        np.testing.assert_allclose(host, device, atol=1e-6)


def test_a_row_of_zeros_becomes_uniform_and_no_nan():
    rows = np.array([[0.0, 0], [1, 0], [0.2, 0.6], [np.nan, 1]])
    expected = [[0.5, 0.5], [1, 0], [0.25, 0.75], [np.nan, np.nan]]
    np.testing.assert_allclose(ensemble.renormalize(rows), expected)
    np.testing.assert_allclose(ensemble.temperature_scale(rows[:2], 0.5), expected[:2], atol=1e-9)


def test_the_geometric_mean_is_the_root_of_the_product():
    members = np.array([[[0.5, 0.5]], [[0.8, 0.2]]])
    np.testing.assert_allclose(ensemble.geometric_mean(members), [[2 / 3, 1 / 3]])
    np.testing.assert_allclose(
        ensemble.geometric_mean(members, np.array([3.0, 1])),
        [(roots := np.array([0.8, 0.2]) ** 0.25) / roots.sum()],
    )
    veto = ensemble.geometric_mean(np.array([[[1.0, 0]], [[0, 1]]]))
    np.testing.assert_allclose(veto, [[0.5, 0.5]])
