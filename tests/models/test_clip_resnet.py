import flax.linen as nn
import jax
import numpy as np
import scipy.special

from avsc_jax import models, weights
from avsc_jax.models.clip_resnet import AttentionPool

NARROW = {'width': 8, 'layers': (1, 2, 1, 1), 'image_size': 64, 'output_dim': 12}


def images(rows: int, size: int = 64) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.standard_normal((rows, size, size, 3), dtype=np.float32)


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


def test_the_embedding_is_not_normalised_and_the_head_is_on_top_of_it():
    model = models.create_model('clip_rn101', **NARROW, num_classes=3)
    variables = weights.random_variables(model, 0)
    logits, out = jax.jit(model.apply)(variables, images(2))
    head = variables['params']['head']
    np.testing.assert_allclose(logits, out['embedding'] @ head['kernel'], atol=1e-5)
    np.testing.assert_array_less(1.01, np.linalg.norm(out['embedding'], axis=1))


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
