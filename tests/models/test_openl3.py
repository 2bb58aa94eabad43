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


@pytest.mark.parametrize(
    ('name', 'count', 'sides', 'large', 'map_sides'),
    [
        ('openl3_audio', 4_687_042, (256, 199, 1), 6144, (32, 24)),
        ('openl3_image', 4_688_198, (224, 224, 3), 8192, (28, 28)),
    ],
)
def test_sizes_are_openl3_s(name, count, sides, large, map_sides, outline, parameters):
    """The counts follow from the layers; Kumari et al. 2019 tell 4.69 million for sound."""
    (embedding, out), variables = outline(name)
    assert models.input_spec(name).shape[1:] == sides
    assert parameters(name) == count
    assert embedding.shape == out['embedding'].shape == (1, 512)
    assert out['block4'].shape == (1, *map_sides, 512)
    model = models.create_model(name, embedding_size=large)
    embedding, _ = jax.eval_shape(model.apply, variables, model.input_spec)
    assert embedding.shape == (1, large)


@pytest.mark.parametrize('name', NARROW)
def test_the_larger_embedding_is_the_maximum_of_each_window(name):
    model = models.create_model(name, embedding_size=20, window=(4, 4), **NARROW[name])
    variables = weights.random_variables(model, 0)
    small_model = model.clone(embedding_size=5)

    @jax.jit
    def run(x):
        return model.apply(variables, x), small_model.apply(variables, x)[0]

    (large, out), small = jax.device_get(run(inputs(name)))
    parts = large.reshape(4, 2, 2, 5)  # rows, columns, channels: Keras's order
    np.testing.assert_array_equal(parts.max((1, 2)), small)
    np.testing.assert_array_equal(parts[:, 0, 1], out['block4'][:, :4, 4:].max((1, 2)))
    with pytest.raises(ValueError, match='embedding_size is 7, it must be 5 or 20'):
        model.clone(embedding_size=7).apply(variables, inputs(name))


@pytest.mark.parametrize('name', NARROW)
def test_every_value_can_be_trained(name):
    model = models.create_model(name, embedding_size=5, num_classes=3, **NARROW[name])
    variables = weights.random_variables(model, 0)

    x = inputs(name)

    def loss(params):
        logits, _ = model.apply({**variables, 'params': params}, x)
        return logits[0].var()

    @jax.jit
    def run():
        _, new = model.apply(variables, x, train=True, mutable=['batch_stats'])
        return jax.grad(loss)(variables['params']), new['batch_stats']

    gradients, statistics = run()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    moved = jax.tree.map(np.any, gradients)
    assert all(jax.tree.leaves(moved)), moved
    mean = statistics['batch_normalization_1']['mean']
    np.testing.assert_allclose(mean, 0.01 * x.mean((0, 1, 2)), rtol=1e-4)  # Keras's momentum


def test_an_input_of_another_shape_is_one_sentence():
    model = models.create_model('openl3_audio')
    spec = jax.ShapeDtypeStruct((1, 256, 94, 3), np.float32)
    with pytest.raises(ValueError, match=r'input is \[256, 94, 3\], .* for input_shape=\(256, 199'):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x), spec)
