import functools
import logging

import jax
import numpy as np
import pytest
import transformers

from avsc_jax import models, weights

NARROW = {'width': 16, 'layers': 2, 'heads': 4, 'patch_size': 8, 'image_size': 32, 'output_dim': 6}


def images(rows: int, size: int = 32) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.standard_normal((rows, size, size, 3), dtype=np.float32)


def test_tokens_are_the_patches_and_one_more(outline):
    (_, out), variables = outline('clip_vit_b32')
    assert out['tokens'].shape == (1, 7 * 7 + 1, 768)
    assert out['embedding'].shape == (1, 512)
    layer = variables['params']['vision_model']['encoder']['layers']['11']
    assert layer['mlp']['fc1']['kernel'].shape == (768, 3072)


def test_the_activation_is_quick_gelu():
    """One token of one layer, worked out by hand from where the tower's MLP begins."""
    model = models.create_model('clip_vit_b32', **NARROW)
    variables = weights.random_variables(model, 0)
    run = functools.partial(model.apply, capture_intermediates=True, mutable=['intermediates'])
    _, state = jax.jit(run)(variables, images(1))
    layer = state['intermediates']['vision_model']['encoder']['layers']['0']
    mlp = variables['params']['vision_model']['encoder']['layers']['0']['mlp']
    hidden = np.asarray(layer['mlp']['fc1']['__call__'][0])
    hidden = hidden / (1 + np.exp(-1.702 * hidden))
    expected = hidden @ mlp['fc2']['kernel'] + mlp['fc2']['bias'][None, None]
    np.testing.assert_allclose(layer['mlp']['__call__'][0], expected, atol=1e-5)


def test_every_parameter_gets_a_gradient():
    model = models.create_model('clip_vit_b32', **NARROW, num_classes=3)
    variables = weights.random_variables(model, 0)
    target = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)

    @jax.jit
    def gradient(variables, x):
        return jax.grad(lambda v: (model.apply(v, x, train=True)[0] * target).sum())(variables)

    grads = gradient(variables, images(4))['params']
    for layer in grads['vision_model']['encoder']['layers'].values():
        # A constant added to every key changes no softmax.
        assert abs(layer['self_attn']['k_proj'].pop('bias')).max() < 1e-4
    assert min(abs(leaf).max() for leaf in jax.tree.leaves(grads)) > 1e-4


@pytest.mark.parametrize(('made_for', 'given'), [(32, 40), (36, 36)])
def test_an_image_of_the_wrong_size_is_an_error(made_for, given):
    model = models.create_model('clip_vit_b32', **{**NARROW, 'image_size': made_for})
    with pytest.raises(ValueError, match=f'images are {given}x{given}.*image_size={made_for}'):
        jax.eval_shape(model.init, jax.random.key(0), images(1, given))


def test_transformers_without_flax_is_answered_with_the_remedy(monkeypatch):
    monkeypatch.setattr(transformers, '__version__', '5.0.0')
    with pytest.raises(ValueError, match=r"transformers 5\.0\.0 .* 'transformers>=4\.57,<5'"):
        models.count_parameters('clip_vit_b32', **NARROW)


def test_building_says_nothing_about_the_end_of_flax(caplog):
    with caplog.at_level(logging.WARNING):
        models.count_parameters('clip_vit_b32', **NARROW)
    assert 'deprecated' not in caplog.text
