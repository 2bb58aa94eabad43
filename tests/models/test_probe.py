"""The network that a probe's fit becomes."""

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax import models
from avsc_jax.models import probe

SIZES = {'b': 3, 'a': 2}


def drawn(classes: int = 4) -> tuple[dict, dict]:
    """Arguments of a fit, and features of five clips."""
    draw = np.random.default_rng(0)
    fit = {
        'mean': draw.normal(size=5),
        'deviation': 0.5 + draw.random(5),
        'kernel': draw.normal(size=(5, classes)),
        'bias': draw.normal(size=classes),
        'temperature': 1.7,
    }
    inputs = {f'features/{n}': draw.normal(size=(5, d)) for n, d in SIZES.items()}
    return fit, {name: array.astype(np.float32) for name, array in inputs.items()}


def test_logits_are_those_of_the_fit_on_standardised_features_divided_by_the_temperature():
    fit, inputs = drawn()
    inputs['features/a'][:2] *= [[50], [-50]]  # far from the mean: only the embedding has an end
    model = models.create_model('probe', num_classes=4, encoders=SIZES)
    logits, out = model.apply(probe.fitted(**fit), inputs)
    x = np.concatenate([inputs['features/b'], inputs['features/a']], axis=1)
    z = (x - fit['mean']) / fit['deviation']
    assert np.abs(z).max() > 9
    np.testing.assert_allclose(out['embedding'], z.clip(-5, 5), atol=1e-5)
    expected = (z @ fit['kernel'] + fit['bias']) / 1.7
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert model.learned(probe.fitted(**fit)['params']) == {
        'temperature of the probe': np.float32(1.7)
    }


def test_variables_of_a_fit_have_the_network_s_own_shapes():
    fit, _ = drawn()
    model = models.create_model('probe', num_classes=4, encoders=SIZES)
    made = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), probe.fitted(**fit))
    assert made == jax.tree.map(lambda s: (s.shape, s.dtype), models.variable_shapes(model))
    headless = models.create_model('probe', num_classes=0, encoders=SIZES)
    assert {*models.variable_shapes(headless)['params']} == {'standard'}


def test_every_parameter_gets_a_gradient():
    fit, inputs = drawn()
    model = models.create_model('probe', num_classes=4, encoders=SIZES)

    def loss(params: dict) -> jax.Array:
        logits, _ = model.apply({'params': params}, inputs)
        return -jax.nn.log_softmax(logits)[jnp.arange(5), jnp.arange(5) % 4].mean()

    gradients = jax.grad(loss)(probe.fitted(**fit)['params'])
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(gradients))
