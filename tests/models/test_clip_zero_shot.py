import numpy as np
import pytest

from avsc_jax import models
from avsc_jax.models import clip_zero_shot

FEATURES = np.array([[3, 4, 0], [0, 0, 2]], np.float32)
TEXTS = np.array([[1, 0, 0], [0, 5, 0], [0, 3, 4], [1, 1, 1]], np.float32)
COSINES = [[0.6, 0.8, 0.48, 7 / 75**0.5], [0, 0, 0.8, 3**-0.5]]


def logits(features: np.ndarray, texts: np.ndarray, **options) -> np.ndarray:
    model = models.create_model(
        'clip_zero_shot', encoder='clip_rn101', width=3, num_classes=len(texts), **options
    )
    inputs = {'features/clip_rn101': features, 'label': np.zeros(len(features))}
    return np.asarray(model.apply(clip_zero_shot.text_head(texts), inputs)[0])


def test_logits_are_a_hundred_times_the_cosine():
    np.testing.assert_allclose(logits(FEATURES, TEXTS), 100 * np.array(COSINES), rtol=1e-5)
    np.testing.assert_allclose(logits(FEATURES, TEXTS, logit_scale=2.0), 2 * np.array(COSINES))


@pytest.mark.parametrize(('image', 'text'), [(7.0, 1.0), (1.0, 0.01)])
def test_the_lengths_of_both_sides_do_not_matter(image, text):
    scaled = logits(np.float32(image) * FEATURES, np.float32(text) * TEXTS)
    np.testing.assert_allclose(scaled, logits(FEATURES, TEXTS), rtol=1e-5)


def test_zero_features_are_as_far_from_every_class():
    assert logits(np.zeros_like(FEATURES), TEXTS).tolist() == [[0] * 4] * 2


def test_the_embedding_is_the_features_at_length_one():
    model = models.create_model('clip_zero_shot', width=3, num_classes=0)
    first, out = model.apply({}, {'features/clip_rn101': FEATURES})
    np.testing.assert_array_equal(first, out['embedding'])
    np.testing.assert_allclose(first, [[0.6, 0.8, 0], [0, 0, 1]], rtol=1e-6)


def test_the_text_head_is_all_that_the_network_has():
    model = models.create_model('clip_zero_shot', width=3, num_classes=4)
    shapes = models.variable_shapes(model)
    assert shapes['params'].keys() == {'head'} and shapes.keys() == {'params'}
    head = clip_zero_shot.text_head(TEXTS)['params']['head']
    assert head.keys() == shapes['params']['head'].keys()
    assert head['kernel'].shape == shapes['params']['head']['kernel'].shape == (3, 4)
