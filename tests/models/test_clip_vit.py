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


@pytest.fixture(autouse=True)
def no_kept_shapes():
    """Every count builds the network anew."""
    models._kept_shapes.cache_clear()


def test_transformers_without_flax_is_answered_with_the_remedy(monkeypatch):
    monkeypatch.setattr(transformers, '__version__', '5.0.0')
    with pytest.raises(ValueError, match=r"transformers 5\.0\.0 .* 'transformers>=4\.57,<5'"):
        models.count_parameters('clip_vit_b32', **NARROW)


def test_building_says_nothing_about_the_end_of_flax(caplog):
    with caplog.at_level(logging.WARNING):
        models.count_parameters('clip_vit_b32', **NARROW)
    assert 'deprecated' not in caplog.text
