import jax
import numpy as np
import pytest

from avsc_jax.layers.pooling import average_pool_2, average_pool_3, largest, max_pool

ODD, EVEN = (5, 7), (4, 6)


def grid(sides: tuple[int, int]) -> np.ndarray:
    return -1 - np.random.default_rng(0).random((2, *sides, 3), dtype=np.float32)


def windows(x: np.ndarray, first: int, size: int) -> np.ndarray:
    """[B, H2, W2, K, size * size] at every second place; NaN outside."""
    _, height, width, _ = x.shape
    x = np.pad(x, ((0, 0), (-first, size), (-first, size), (0, 0)), constant_values=np.nan)
    rows = range(0, 2 * -(-height // 2), 2)
    columns = range(0, 2 * -(-width // 2), 2)
    return np.stack(
        [
            np.stack([x[:, r : r + size, c : c + size].reshape(2, -1, 3) for c in columns], axis=1)
            for r in rows
        ],
        axis=1,
    ).swapaxes(3, 4)


@pytest.mark.parametrize('sides', [ODD, EVEN])
def test_the_largest_is_never_what_is_outside(sides):
    x = grid(sides)  # negative, so that zeros outside would win
    np.testing.assert_array_equal(max_pool(x), np.nanmax(windows(x, -1, 3), axis=-1))


@pytest.mark.parametrize('sides', [ODD, EVEN])
def test_what_is_exported_has_the_same_values(sides, monkeypatch):
    x = grid(sides)
    expected, mean = max_pool(x), average_pool_3(x)
    monkeypatch.setattr(jax, 'default_backend', lambda: 'onnx')
    assert 'reduce_window_max' in str(jax.make_jaxpr(max_pool)(x))
    np.testing.assert_array_equal(max_pool(x), expected)
    assert 'padding=((0, 0), (0, 0), (0, 0), (0, 0))' in str(jax.make_jaxpr(average_pool_3)(x))
    np.testing.assert_allclose(average_pool_3(x), mean, rtol=1e-6)


@pytest.mark.parametrize('sides', [ODD, EVEN])
def test_the_gradient_goes_to_the_first_of_the_largest(sides):
    x = np.random.default_rng(0).integers(0, 3, (2, *sides, 3)).astype(np.float32)  # many equals
    weights = np.random.default_rng(1).random(max_pool(x).shape, dtype=np.float32)
    expected = np.zeros_like(x)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    for b, r, c, k in np.ndindex(weights.shape):
        window = padded[b, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3, k]
        i, j = np.unravel_index(window.argmax(), window.shape)
        expected[b, 2 * r + i - 1, 2 * c + j - 1, k] += weights[b, r, c, k]
    found = jax.grad(lambda x: (max_pool(x) * weights).sum())(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('sides', [ODD, EVEN])
def test_three_by_three_counts_what_is_outside_as_zero(sides):
    x = grid(sides)
    np.testing.assert_allclose(average_pool_3(x), np.nansum(windows(x, -1, 3), -1) / 9, rtol=1e-6)


@pytest.mark.parametrize('sides', [ODD, EVEN, (5, 6)])
def test_two_by_two_counts_only_what_is_inside(sides):
    x = grid(sides)
    np.testing.assert_allclose(average_pool_2(x), np.nanmean(windows(x, 0, 2), -1), rtol=1e-6)


def test_the_largest_s_gradient_goes_to_the_first_of_equals():
    x = np.float32([[[1, 5], [3, 5], [3, 4]]])
    value, back = jax.vjp(largest, x)
    np.testing.assert_array_equal(value, [[3, 5]])
    (gradient,) = back(np.float32([[7, 8]]))
    np.testing.assert_array_equal(gradient, [[[0, 8], [7, 0], [0, 0]]])
