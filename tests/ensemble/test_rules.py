import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import ensemble

KINDS = pytest.mark.parametrize('asarray', [np.asarray, jnp.asarray])


@pytest.fixture
def members():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(4), size=(3, 20)).astype(np.float32)


@KINDS
def test_pool_is_the_mean_of_the_rows_of_each_group(asarray):
    probs = asarray(np.array([[0.2, 0.8], [1, 0], [0.4, 0.6], [0, 1]], np.float32))
    pooled = ensemble.pool(probs, asarray(np.array([1, 0, 1, 1])), 2)
    np.testing.assert_allclose(pooled, [[1, 0], [0.2, 0.8]], atol=1e-7)


def test_pool_does_not_depend_on_the_order_of_rows(members):
    group = np.arange(20) % 7
    order = np.random.default_rng(1).permutation(20)
    pooled = ensemble.pool(members[0], group, 7)
    np.testing.assert_allclose(ensemble.pool(members[0][order], group[order], 7), pooled, atol=1e-7)


def test_pool_of_one_row_a_group_changes_nothing(members):
    np.testing.assert_array_equal(ensemble.pool(members[0], np.arange(20), 20), members[0])


def test_pool_of_no_rows_is_empty():
    assert ensemble.pool(np.zeros((0, 3)), np.zeros(0, int), 0).shape == (0, 3)


@KINDS
@pytest.mark.filterwarnings('ignore:invalid value')
def test_pool_marks_a_group_without_rows_as_nan(asarray):
    pooled = ensemble.pool(asarray(np.ones((1, 2))), asarray(np.array([1])), 2)
    np.testing.assert_array_equal(pooled, [[np.nan, np.nan], [1, 1]])


@KINDS
def test_mean_weights_members(asarray):
    members = asarray(np.array([[[1.0, 0]], [[0, 1]]], np.float32))
    np.testing.assert_allclose(ensemble.mean(members), [[0.5, 0.5]])
    weighted = ensemble.mean(members, np.array([0.8, 0.2]))
    assert weighted.dtype == np.float32
    np.testing.assert_allclose(weighted, [[0.8, 0.2]])
    np.testing.assert_allclose(ensemble.mean(members, np.array([4.0, 1])), [[0.8, 0.2]])
    np.testing.assert_allclose(ensemble.mean(members, np.array([0.0, 1])), [[0, 1]])


def test_mean_does_not_depend_on_the_order_of_members(members):
    weights = np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(
        ensemble.mean(members[::-1], weights[::-1]), ensemble.mean(members, weights), atol=1e-7
    )
    np.testing.assert_allclose(ensemble.mean(members[::-1]), ensemble.mean(members), atol=1e-7)


def test_mean_of_one_member_is_that_member(members):
    np.testing.assert_array_equal(ensemble.mean(members[:1]), members[0])
    np.testing.assert_array_equal(ensemble.mean(members[:1], np.array([0.3])), members[0])


# Okazaki 2021, Eq. (1); 0 is left open there
EDGES = {
    0.0: 0.001,
    1e-9: 0.001,
    0.06: 0.001,
    0.0601: 0.06,
    0.20: 0.06,
    0.2001: 0.2001,
    0.5: 0.5,
    0.70: 0.70,
    0.7001: 0.99,
    1.0: 0.99,
}


@KINDS
@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_clamp_is_equation_1_at_every_edge(asarray, dtype):
    x = asarray(np.array([list(EDGES)], dtype))
    y = ensemble.clamp(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, np.array([list(EDGES.values())], y.dtype))


def test_clamp_reads_float32_bounds_in_a_float64_table_as_the_bounds():
    x = np.array([[0.06, 0.20, 0.70]], np.float32).astype(np.float64)
    assert x[0, 1] > 0.20  # the nearest float32 lies above the decimal
    np.testing.assert_array_equal(ensemble.clamp(x), [[0.001, 0.06, x[0, 2]]])


def test_clamp_keeps_values_between_020_and_070():
    x = np.linspace(0.2001, 0.7, 1000)[None]
    np.testing.assert_array_equal(ensemble.clamp(x), x)


def test_clamp_never_swaps_two_values():
    y = ensemble.clamp(np.linspace(0, 1, 100_001)[None])
    assert (np.diff(y) >= 0).all()


def test_clamp_twice_is_not_clamp_once():
    x = np.array([[0.1, 0.75, 0.3, 0.01]])
    once = ensemble.clamp(x)
    np.testing.assert_array_equal(once, [[0.06, 0.99, 0.3, 0.001]])
    np.testing.assert_array_equal(ensemble.clamp(once), [[0.001, 0.99, 0.3, 0.001]])


def test_clamp_leaves_rows_that_do_not_sum_to_one():
    np.testing.assert_allclose(ensemble.clamp(np.array([[0.9, 0.1]])).sum(), 1.05)


def test_clamp_hides_no_nan():
    assert np.isnan(ensemble.clamp(np.array([[np.nan]]))).all()


def test_numpy_gives_numpy_and_jax_under_jit_gives_the_same_numbers(members):
    group, weights = np.arange(20) % 6, np.array([0.5, 0.3, 0.2], np.float32)
    for function, arrays in (
        (lambda p, g: ensemble.pool(p, g, 6), (members[0], group)),
        (ensemble.mean, (members,)),
        (ensemble.mean, (members, weights)),
        (ensemble.clamp, (members,)),
    ):
        host = function(*arrays)
        device = jax.jit(function)(*map(jnp.asarray, arrays))
        assert type(host) is np.ndarray and isinstance(device, jax.Array)
        assert host.dtype == device.dtype == np.float32
        np.testing.assert_allclose(host, device, atol=1e-6)
