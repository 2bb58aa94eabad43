"""That the networks compute what Keras's do is tested in tests/weights/test_openl3.py."""

import jax
import numpy as np
import pytest

from avsc_jax import models, weights

NARROW = {
    'openl3_audio': {'input_shape': (64, 64, 1), 'widths': (2, 3, 4, 5)},
    'openl3_image': {'input_shape': (64, 64, 3), 'widths': (2, 3, 4, 5)},
}


def inputs(name):
    spec = models.input_spec(name, **NARROW[name])
    return np.random.default_rng(0).standard_normal((4, *spec.shape[1:])).astype(np.float32)


@pytest.mark.parametrize('name', NARROW)
def test_the_larger_embedding_is_the_maximum_of_each_window(name):
    model = models.create_model(name, embedding_size=20, window=(4, 4), **NARROW[name])
    variables = weights.random_variables(model, 0)
    small_model = model.clone(embedding_size=5)

    @jax.jit
    def run(x):
        _, new = small_model.apply(variables, x, train=True, mutable=['batch_stats'])
        return model.apply(variables, x), small_model.apply(variables, x)[0], new['batch_stats']

    (large, out), small, statistics = jax.device_get(run(inputs(name)))
    parts = large.reshape(4, 2, 2, 5)  # rows, columns, channels: Keras's order
    np.testing.assert_array_equal(parts.max((1, 2)), small)
    np.testing.assert_array_equal(parts[:, 0, 1], out['block4'][:, :4, 4:].max((1, 2)))
    with pytest.raises(ValueError, match='embedding_size is 7, it must be 5 or 20'):
        model.clone(embedding_size=7).apply(variables, inputs(name))
    mean = statistics['batch_normalization_1']['mean']
    expected = 0.01 * inputs(name).mean((0, 1, 2))  # Keras's momentum
    np.testing.assert_allclose(mean, expected, rtol=1e-4)


@pytest.mark.parametrize(('name', 'large'), [('openl3_audio', 6144), ('openl3_image', 8192)])
def test_the_larger_embedding_has_openl3_s_size(name, large, outline):
    model = models.create_model(name, embedding_size=large)
    embedding, _ = jax.eval_shape(model.apply, outline(name)[1], model.input_spec)
    assert embedding.shape == (1, large)
