import jax
import numpy as np
import pytest

from avsc_jax.layers.attention import AttentionPooling

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((3, 5, 4)).astype(np.float32)
OWN = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1], [0, 0, 0, 0, 0]], bool)


@pytest.mark.parametrize('kind', ['additive', 'dot_product'])
def test_frames_that_are_none_change_nothing(kind):
    layer = AttentionPooling(kind, 6)
    variables = layer.init(jax.random.key(0), X)
    pooled, weights = layer.apply(variables, X, OWN)
    for k in (0, 1):
        alone, of_own = layer.apply(variables, X[k][OWN[k]][None])
        np.testing.assert_allclose(pooled[k], alone[0], atol=1e-6)
        np.testing.assert_allclose(weights[k][OWN[k]], of_own[0], atol=1e-6)
        assert (weights[k][~OWN[k]] == 0).all()


@pytest.mark.parametrize('kind', ['additive', 'dot_product'])
def test_without_any_frame_all_count_and_gradients_are_finite(kind):
    layer = AttentionPooling(kind, 6)
    variables = layer.init(jax.random.key(0), X)

    def loss(variables, own):
        return (layer.apply(variables, X, own)[0] ** 2).sum()

    pooled, _ = layer.apply(variables, X, OWN)
    np.testing.assert_allclose(pooled[2], layer.apply(variables, X)[0][2], atol=1e-6)
    grads = jax.tree.leaves(jax.grad(loss)(variables, OWN))
    assert all(np.isfinite(grad).all() for grad in grads) and any(grad.any() for grad in grads)
