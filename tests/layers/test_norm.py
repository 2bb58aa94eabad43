import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax.layers.norm import BatchNorm

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((6, 4, 3, 5)).astype(np.float32) * 2 + 1
VARIABLES = {
    'params': {'scale': jnp.linspace(0.5, 1.5, 5), 'bias': jnp.linspace(-1, 1, 5)},
    'batch_stats': {'mean': jnp.full(5, 0.3), 'var': jnp.full(5, 2.0)},
}


@jax.jit
def train(x, mask=None, variables=VARIABLES):
    y, updates = BatchNorm().apply(variables, x, train=True, mask=mask, mutable=['batch_stats'])
    return y, updates['batch_stats']


def test_output_is_that_of_flax_and_running_variance_that_of_torch():
    y, stats = train(X)
    theirs = nn.BatchNorm(use_running_average=False, momentum=0.9)
    expected, _ = theirs.apply(VARIABLES, X, mutable=['batch_stats'])
    np.testing.assert_allclose(y, expected, atol=2e-6)
    unbiased = X.reshape(-1, 5).var(axis=0, ddof=1)  # what torch.nn.BatchNorm2d keeps
    np.testing.assert_allclose(stats['mean'], 0.27 + 0.1 * X.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stats['var'], 1.8 + 0.1 * unbiased, rtol=1e-5)


def test_gradients_are_those_of_flax():
    weights = RANDOM.standard_normal(X.shape).astype(np.float32)

    def loss(module, options, params, x):
        variables = {**VARIABLES, 'params': params}
        y, _ = module.apply(variables, x, mutable=['batch_stats'], **options)
        return (y * weights).sum()

    theirs = nn.BatchNorm(use_running_average=False)

    def gradients(module, **options):
        run = jax.jit(jax.grad(functools.partial(loss, module, options), argnums=(0, 1)))
        return run(VARIABLES['params'], X)

    ours, expected = gradients(BatchNorm(), train=True), gradients(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, expected)


def test_evaluation_uses_the_running_statistics():
    y = BatchNorm().apply(VARIABLES, X, train=False)
    scale, bias = VARIABLES['params']['scale'], VARIABLES['params']['bias']
    expected = (X - 0.3) / np.sqrt(2 + 1e-5) * np.asarray(scale) + np.asarray(bias)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_masked_rows_count_in_nothing_even_when_they_are_nan():
    mask = np.array([True, False, True, True, False, True])
    x = np.where(mask[:, None, None, None], X, np.nan)
    y, stats = train(x, mask)
    expected, expected_stats = train(X[mask])
    np.testing.assert_allclose(y[mask], expected, atol=1e-6)
    assert np.isfinite(y).all()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), stats, expected_stats)


def test_a_mask_of_clips_covers_all_frames_of_each_clip():
    clips = np.array([True, False, True])
    y, stats = train(X, clips)
    frames = np.array([True, True, False, False, True, True])
    expected, expected_stats = train(X, frames)
    np.testing.assert_array_equal(y, expected)
    jax.tree.map(np.testing.assert_array_equal, stats, expected_stats)


def test_a_mask_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match='mask of 4 rows does not fit x with 6 rows'):
        train(X, np.ones(4, bool))


def test_a_batch_of_padding_changes_nothing_and_stays_finite():
    mask = np.zeros(6, bool)
    y, stats = train(X, mask)
    jax.tree.map(np.testing.assert_array_equal, stats, VARIABLES['batch_stats'])
    assert np.isfinite(y).all()
    grad = jax.grad(lambda x: jnp.square(train(x, mask)[0]).sum())(X)
    assert np.isfinite(grad).all()


def test_a_large_mean_costs_no_precision():
    x = RANDOM.standard_normal((64, 16, 16, 2)).astype(np.float32)
    shifted = x + np.float32(1000)
    plain = {'params': {'scale': jnp.ones(2), 'bias': jnp.zeros(2)}}
    plain['batch_stats'] = {'mean': jnp.zeros(2), 'var': jnp.zeros(2)}
    y, stats = train(shifted, variables=plain)
    exact = shifted.astype(np.float64)
    deviation = exact.std(axis=(0, 1, 2))
    # float32 itself holds 1000 only to 6e-5; E[x²] - E[x]² would be wrong by more than 0.05.
    np.testing.assert_allclose(y, (exact - exact.mean(axis=(0, 1, 2))) / deviation, atol=2e-4)
    np.testing.assert_allclose(10 * stats['var'], deviation**2, rtol=1e-4)


def test_half_precision_inputs_have_float32_statistics():
    x = jnp.asarray(X, jnp.bfloat16)
    y, stats = train(x)
    assert y.dtype == jnp.bfloat16
    assert stats['var'].dtype == jnp.float32
    _, expected = train(x.astype(jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, stats, expected)


def test_initial_statistics_do_not_see_the_batch():
    stats = BatchNorm().init(jax.random.key(0), X, train=True)['batch_stats']
    np.testing.assert_array_equal(stats['mean'], np.zeros(5))
    np.testing.assert_array_equal(stats['var'], np.ones(5))
