"""Heat maps of single networks, against their own heads and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import models, weights
from avsc_jax.input_pipeline.system import Network
from avsc_jax.predict import grad_cam

PICTURES = np.random.default_rng(0).standard_normal((3, 64, 96, 3)).astype(np.float32)
SIZES = {
    'resnet18': ('layer4', dict(layers=(1, 1, 1, 1), width=4)),
    # its last ReLU is no module of its own
    'hrnet_w18_small': (
        'final_layer',
        dict(width=2, first_width=2, blocks=1, num_features=6, head_width=2),
    ),
}


@functools.cache
def network(name):
    options = SIZES[name][1]
    model = models.create_model(name, num_classes=4, **options)
    variables = weights.random_variables(model, 0)
    return model, variables, grad_cam.looker(Network(model, variables, 'probs'))


@pytest.mark.parametrize(
    'name', ['resnet18', pytest.param('hrnet_w18_small', marks=pytest.mark.slow)]
)
def test_grad_cam_of_a_mean_and_a_linear_layer_is_cam(name):
    model, variables, look = network(name)
    scene = np.eye(4, dtype=np.float32)[[1, 1, 1]]
    heat, *_ = look({}, {'image': PICTURES}, scene)
    last_map = jax.jit(model.apply)(variables, PICTURES)[1][SIZES[name][0]]
    cam = np.einsum('bhwk,k->bhw', last_map, variables['params']['head']['kernel'][:, 1])
    assert heat.shape == (3, 2, 3) and heat.max() > 0 > cam.min()
    np.testing.assert_allclose(heat, np.maximum(cam, 0), rtol=1e-3, atol=1e-3 * cam.max())


def test_heat_is_of_the_pictures_whose_answers_count_and_grows_with_them():
    _, _, look = network('resnet18')
    scene = np.eye(4, dtype=np.float32)[[1, 1, 1]]
    heat, *_ = look({}, {'image': PICTURES}, scene)
    last, *_ = look({}, {'image': PICTURES}, scene * np.float32([[0], [0], [2]]))
    assert heat[0].any() and not last[:2].any()
    np.testing.assert_allclose(last[2], 2 * heat[2], rtol=1e-4)


def test_weights_are_sums_of_gradients_and_what_speaks_against_is_left_out():
    last_map = jnp.array([[[[1.0, 2.0], [3.0, 0.0]]]])
    gradient = jnp.array([[[[1.0, -2.0], [1.0, 0.5]]]])  # sums 2 and -1.5
    heat = grad_cam.grad_cam(last_map, gradient)
    np.testing.assert_allclose(heat, [[[0.0, 6.0]]])  # 2 - 3 and 6
    tokens = jnp.arange(10.0).reshape(1, 5, 2)
    slope = jnp.ones((1, 5, 2)).at[0, 0].set(100)  # of the first token, which has no place
    np.testing.assert_allclose(grad_cam.grad_cam(tokens, slope), [[[20, 36], [52, 68]]])


def test_a_transformer_is_looked_into_before_its_last_attention():
    options = dict(width=16, layers=2, patch_size=16, image_size=64, output_dim=5)
    model, seen = models.create_model('clip_vit_b32', **options), []

    def note(index, x):
        seen.append((index, x.shape))
        return x

    given = {'image': PICTURES[:, :, :64]}
    shapes = models.variable_shapes(model)
    jax.eval_shape(lambda of: grad_cam._with_maps(model, of, given, note), shapes)
    assert seen == [(0, (3, 4, 4, 16)), (1, (3, 17, 16)), (2, (3, 17, 16))]


@pytest.mark.slow
def test_pictures_beside_a_sound_are_told_from_its_maps():
    options = dict(embedding_size=384, image_size=32, layers=(1, 1, 1, 1), width=4, features=16)
    model = models.create_model('hou_final', num_classes=3, filters=(2, 2, 2), **options)
    model = model.clone(remat=True)  # as in training
    variables = weights.random_variables(model, 0)
    draw = np.random.default_rng(0).standard_normal
    rows = {n: draw(s.shape).astype(np.float32) for n, s in model.input_spec.items()}
    learned = {'audio_embedding': rows.pop('audio_embedding')}
    scene = np.eye(3, dtype=np.float32)[[0]]
    look = grad_cam.looker(Network(model, variables, 'probs'))
    heat, gradients, _ = look(learned, rows, scene)
    assert heat.shape == (10, 1, 1) and heat.max() > 0
    assert gradients['audio_embedding'].shape == (1, 96, 384)


def test_a_network_of_vectors_has_no_map():
    model = models.create_model('resnet1d', num_classes=2, num_filters=32, hidden=(8, 8, 8))
    variables = weights.random_variables(model, 0)
    look = grad_cam.looker(Network(model, variables, 'probs'))
    heat, gradients, attention = look(
        {}, {'image': np.ones((4, 2, 32), np.float32)}, np.ones((1, 2))
    )
    assert heat is None and gradients == {} and attention is None
