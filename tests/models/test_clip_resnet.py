import flax.linen as nn
import jax
import numpy as np
import pytest
import scipy.special

from avsc_jax import models, weights
from avsc_jax.models.clip_resnet import AttentionPool

NARROW = {'width': 8, 'layers': (1, 2, 1, 1), 'image_size': 64, 'output_dim': 12}


def images(rows: int, size: int = 64) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.standard_normal((rows, size, size, 3), dtype=np.float32)


@pytest.mark.parametrize(
    ('name', 'size', 'grid', 'features'),
    [('clip_rn101', 224, 7, 2048), ('clip_rn50x4', 288, 9, 2560)],
)
def test_stages_halve_the_grid_and_double_the_channels(name, size, grid, features, outline):
    assert models.input_spec(name).shape == (1, size, size, 3)
    (_, out), _ = outline(name)
    for stage in (4, 3, 2, 1):
        assert out[f'layer{stage}'].shape == (1, grid, grid, features)
        grid, features = 2 * grid, features // 2
    assert out['stem'].shape == (1, size // 4, size // 4, features // 2)


def test_attention_pooling_is_the_first_row_of_full_attention():
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 8)).astype(np.float32)
    pool = AttentionPool(heads=2, output_dim=5)
    pooled, variables = jax.jit(pool.init_with_output)(jax.random.key(0), x)
    params = jax.device_get(variables['params'])

    tokens = x.reshape(2, 9, 8)
    tokens = np.concatenate([tokens.mean(axis=1, keepdims=True), tokens], axis=1)
    tokens = tokens + np.asarray(params['positional_embedding'])[None]
    q, k, v = (
        tokens @ params[f'{part}_proj']['kernel'] + params[f'{part}_proj']['bias'][None, None]
        for part in 'qkv'
    )
    parts = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = q[..., head] @ k[..., head].swapaxes(1, 2) / 2  # sqrt(4)
        parts.append((scipy.special.softmax(scores, axis=-1) @ v[..., head])[:, 0])
    project = params['c_proj']
    expected = np.concatenate(parts, axis=1) @ project['kernel'] + project['bias'][None]
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_every_parameter_gets_a_gradient_and_every_statistic_moves():
    model = models.create_model('clip_rn101', **NARROW, num_classes=3)
    variables = weights.random_variables(model, 0)
    target = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)

    @jax.jit
    def step(variables, x):
        def loss(params):
            (logits, _), updates = model.apply(
                {**variables, 'params': params}, x, train=True, mutable=['batch_stats']
            )
            return (logits * target).sum(), updates['batch_stats']

        return jax.grad(loss, has_aux=True)(variables['params'])

    grads, stats = step(variables, images(4))
    # A constant added to every key changes no softmax.
    assert abs(grads['attnpool']['k_proj'].pop('bias')).max() < 1e-3
    small = {
        jax.tree_util.keystr(path): float(abs(leaf).max())
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
        if abs(leaf).max() < 1e-4
    }
    assert not small
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), stats, variables['batch_stats'])
    assert min(jax.tree.leaves(moved)) > 0


def test_the_embedding_is_not_normalised_and_the_head_is_on_top_of_it():
    model = models.create_model('clip_rn101', **NARROW, num_classes=3)
    variables = weights.random_variables(model, 0)
    logits, out = jax.jit(model.apply)(variables, images(2))
    head = variables['params']['head']
    np.testing.assert_allclose(logits, out['embedding'] @ head['kernel'], atol=1e-5)
    np.testing.assert_array_less(1.01, np.linalg.norm(out['embedding'], axis=1))


@pytest.mark.parametrize(('made_for', 'given'), [(64, 96), (80, 80)])
def test_an_image_of_the_wrong_size_is_an_error(made_for, given):
    model = models.create_model('clip_rn101', **{**NARROW, 'image_size': made_for})
    with pytest.raises(ValueError, match=f'images are {given}x{given}.*image_size={made_for}'):
        jax.eval_shape(model.init, jax.random.key(0), images(1, given))


def test_norms_are_ours():
    """So that padding and devices are handled (layers/sync.py)."""
    foreign = []

    def watch(method, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm):
            foreign.append(context.module.path)
        return method(*args, **kwargs)

    with nn.intercept_methods(watch):
        models.variable_shapes(models.create_model('clip_rn101', **NARROW))
    assert not foreign
