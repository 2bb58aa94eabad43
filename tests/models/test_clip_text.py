from collections.abc import Callable

import jax
import numpy as np
import pytest
from scipy.special import erf

from avsc_jax import models, weights
from avsc_jax.models import clip_tokens

NARROW = {'width': 16, 'layers': 2, 'heads': 4, 'output_dim': 6}
START, END = 49406, 49407


@pytest.fixture(scope='module')
def variables() -> dict:
    """Random values large enough that every part of the network shows in the embedding."""
    draw = np.random.default_rng(0)
    shapes = models.variable_shapes(models.create_model('clip_rn101_text', **NARROW))
    return jax.tree.map(lambda x: draw.normal(scale=0.4, size=x.shape).astype(np.float32), shapes)


@pytest.fixture(scope='module')
def embed(variables):
    apply = jax.jit(models.create_model('clip_rn101_text', **NARROW).apply)
    return lambda ids: np.asarray(apply(variables, np.asarray(ids, np.int32))[0])


def texts(padding: int | None = 0) -> np.ndarray:
    """Two texts of 3 and 6 tokens between START and END, then padding, or anything for None."""
    ids = np.random.default_rng(1).integers(1, START, (2, 77))
    for row, end in zip(ids, (4, 7), strict=True):
        row[0], row[end] = START, END
        if padding is not None:
            row[end + 1 :] = padding
    return ids


def layer_norm(x: np.ndarray, p: dict) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p['scale'] + p['bias']


def linear(x: np.ndarray, p: dict) -> np.ndarray:
    return x @ p['kernel'] + p['bias']


def quick_gelu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-1.702 * x))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def reference(
    params: dict, ids: np.ndarray, heads: int, activation: Callable = quick_gelu
) -> np.ndarray:
    """One text's embedding in float64, a token and a head at a time. Source: Radford et al. 2021;
    the transformer is Radford et al. 2019's: norms come first, attention sees no later token."""
    params = jax.tree.map(np.float64, params)
    tower = params['text_model']
    length = ids.tolist().index(END) + 1
    x = tower['embeddings']['token_embedding']['embedding'][ids[:length]]
    x = x + tower['embeddings']['position_embedding']['embedding'][:length]
    for layer in tower['encoder']['layers'].values():
        y, attention = layer_norm(x, layer['layer_norm1']), layer['self_attn']
        q, k, v = (linear(y, attention[f'{part}_proj']) for part in 'qkv')
        seen = np.empty_like(y)
        for columns in np.split(np.arange(y.shape[1]), heads):
            for place in range(length):
                scores = k[: place + 1, columns] @ q[place, columns] / np.sqrt(len(columns))
                share = np.exp(scores - scores.max())
                seen[place, columns] = share / share.sum() @ v[: place + 1, columns]
        x = x + linear(seen, attention['out_proj'])
        hidden = linear(layer_norm(x, layer['layer_norm2']), layer['mlp']['fc1'])
        x = x + linear(activation(hidden), layer['mlp']['fc2'])
    return layer_norm(x[-1], tower['final_layer_norm']) @ params['text_projection']['kernel']


def test_the_embedding_is_worked_out_by_hand(variables, embed):
    expected = [reference(variables['params'], ids, NARROW['heads']) for ids in texts()]
    np.testing.assert_allclose(embed(texts()), expected, atol=1e-4)  # of values up to 10


def test_the_exact_activation_is_that_of_other_publishers(variables):
    model = models.create_model('clip_vit_b16_text', **NARROW, activation='gelu')
    (ids,) = texts()[:1]
    embedding, _ = jax.jit(model.apply)(variables, ids[None].astype(np.int32))
    expected = reference(variables['params'], ids, NARROW['heads'], gelu)
    np.testing.assert_allclose(embedding[0], expected, atol=1e-4)
    other = reference(variables['params'], ids, NARROW['heads'])
    assert np.abs(expected - other).max() > 5e-3  # a mistaken one is seen


@pytest.mark.parametrize('padding', [END, None])
def test_what_stands_after_the_first_end_changes_nothing(embed, padding):
    np.testing.assert_array_equal(embed(texts(padding)), embed(texts(0)))


def test_texts_may_be_cut_after_their_end(embed):
    np.testing.assert_allclose(embed(texts()[:, :8]), embed(texts()), atol=1e-5)


def test_every_token_up_to_the_end_counts(embed):
    whole = embed(texts())
    for place in range(5):
        changed = texts()
        changed[:, place] = 7
        changed[0, 5] = END  # in place of the one that is overwritten last
        assert (np.abs(embed(changed) - whole).max(1) > 1e-3).all()


def test_more_tokens_than_the_context_are_an_error(embed):
    with pytest.raises(ValueError, match='texts are 78 tokens long, the network takes 77'):
        embed(np.zeros((1, 78)))


@pytest.mark.parametrize(
    ('name', 'width'),
    [('clip_rn101_text', 512), ('clip_rn50x4_text', 640), ('clip_vit_b32_text', 512)],
)
def test_the_towers_have_the_published_sizes(name, width, outline):
    (embedding, out), variables = outline(name)
    tower = variables['params']['text_model']
    assert tower['embeddings']['token_embedding']['embedding'].shape == (49_408, width)
    assert len(tower['encoder']['layers']) == 12
    assert tower['encoder']['layers']['11']['mlp']['fc1']['kernel'].shape == (width, 4 * width)
    assert models.input_spec(name) == jax.ShapeDtypeStruct((1, 77), np.int32)
    assert embedding.shape == (1, width)
    assert out['tokens'].shape == (1, 77, width)


def test_a_head_is_64_wide_unless_told():
    model = models.create_model('clip_rn101_text', width=128, layers=1, output_dim=6)
    variables = weights.random_variables(model, 0)
    (ids,) = clip_tokens.token_ids(['a photo of a bus'])
    embedding, _ = jax.jit(model.apply)(variables, ids[None])
    two, one = (reference(variables['params'], ids, heads) for heads in (2, 1))
    np.testing.assert_allclose(embedding[0], two, atol=1e-4)
    assert np.abs(embedding[0] - one).max() > 1e-2


def test_every_parameter_gets_a_gradient(variables):
    model = models.create_model('clip_rn101_text', **NARROW)
    ids, target = texts(), np.random.default_rng(2).standard_normal((2, 6), np.float32)

    @jax.jit
    def gradient(variables):
        return jax.grad(lambda v: (model.apply(v, ids, train=True)[0] * target).sum())(variables)

    grads = gradient(variables)['params']
    for layer in grads['text_model']['encoder']['layers'].values():
        # A constant added to every key changes no softmax.
        assert abs(layer['self_attn']['k_proj'].pop('bias')).max() < 1e-4
    assert min(abs(leaf).max() for leaf in jax.tree.leaves(grads)) > 1e-4
