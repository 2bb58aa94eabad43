import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from avsc_jax import models, weights

NARROW = {'width': 16, 'layers': 2, 'heads': 4, 'patch_size': 8, 'image_size': 32, 'output_dim': 6}


def hf_state(variables: dict) -> dict[str, np.ndarray]:
    """Flax variables under Hugging Face's names and in PyTorch's layout."""
    state = {}
    for path, value in traverse_util.flatten_dict(variables, sep='.').items():
        if path.endswith('.kernel'):
            value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
        name = path.removeprefix('params.')
        state[re.sub(r'\.(kernel|scale|embedding)$', '.weight', name)] = value
    return state


def openai_state(variables: dict) -> dict[str, np.ndarray]:
    """The same under OpenAI's names, with one matrix for queries, keys and values."""
    state = {}
    names = {
        'vision_model.embeddings.class_embedding': 'visual.class_embedding',
        'vision_model.embeddings.position_embedding.weight': 'visual.positional_embedding',
        'vision_model.embeddings.patch_embedding.weight': 'visual.conv1.weight',
    }
    parts = {
        'vision_model.encoder.layers': 'visual.transformer.resblocks',
        'vision_model.pre_layrnorm': 'visual.ln_pre',
        'vision_model.post_layernorm': 'visual.ln_post',
        'self_attn.out_proj': 'attn.out_proj',
        'layer_norm': 'ln_',
        'fc1': 'c_fc',
        'fc2': 'c_proj',
    }
    for name, value in hf_state(variables).items():
        if name == 'visual_projection.weight':
            state['visual.proj'] = value.T
        elif not re.search('self_attn.[qkv]_proj', name):
            name = names.get(name, name)
            for old, new in parts.items():
                name = name.replace(old, new)
            state[name] = value
    for layer in range(NARROW['layers']):
        attention = variables['params']['vision_model']['encoder']['layers'][str(layer)]
        q, k, v = (attention['self_attn'][f'{part}_proj'] for part in 'qkv')
        prefix = f'visual.transformer.resblocks.{layer}.attn.in_proj'
        state[f'{prefix}_weight'] = np.concatenate([x['kernel'].T for x in (q, k, v)])
        state[f'{prefix}_bias'] = np.concatenate([x['bias'] for x in (q, k, v)])
    return state


@pytest.fixture(scope='module')
def variables():
    model = models.create_model('clip_vit_b32', **NARROW)
    random = weights.random_variables(model, seed=3)
    # Biases too must differ from each other, or a swap would not be seen.
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + draw.standard_normal(x.shape).astype(np.float32), random)


@pytest.mark.parametrize('names', [openai_state, hf_state])
def test_source_names_come_back_as_the_same_variables(variables, names):
    other_tower = {
        'text_model.encoder.layers.0.mlp.fc1.bias': np.ones(3),
        'vision_model.embeddings.position_ids': np.arange(17)[None],
        'text_projection.weight': np.ones((3, 3)),
        'logit_scale': np.ones(()),
        'transformer.resblocks.0.attn.in_proj_bias': np.ones(3),
    }
    converted = weights.convert('clip_vit_b32', names(variables) | other_tower, **NARROW)
    assert jax.tree.structure(converted) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, converted, variables)


def test_a_fused_matrix_of_the_wrong_size_is_reported(variables):
    state = openai_state(variables)
    state['visual.transformer.resblocks.1.attn.in_proj_weight'] = np.zeros((47, 16))
    with pytest.raises(ValueError, match=r'wrong shape: visual\S+in_proj_weight \(47, 16\)'):
        weights.convert('clip_vit_b32', state, **NARROW)


def test_one_parameter_under_two_names_is_unexpected(variables):
    state = openai_state(variables) | {'visual_projection.weight': np.zeros((6, 16))}
    with pytest.raises(ValueError, match=r'unexpected: visual_projection\.weight'):
        weights.convert('clip_vit_b32', state, **NARROW)


def relative_error(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.mark.parity
def test_embedding_is_that_of_open_clip(open_clip, randomized):
    import torch

    network = open_clip.create_model('ViT-B-32-quickgelu').eval()
    state = randomized(network)
    images = np.random.default_rng(0).standard_normal((2, 224, 224, 3), np.float32)
    model = models.create_model('clip_vit_b32')
    embedding, _ = jax.jit(model.apply)(weights.convert('clip_vit_b32', state), images)
    with torch.no_grad():
        expected = network.visual(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    error = relative_error(embedding, expected)
    print(f'clip_vit_b32 (open_clip names): relative error {error:.1e}')
    assert error < 1e-4  # float32 sums in another order


@pytest.mark.parity
def test_embedding_is_that_of_hugging_face(randomized):
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    network = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=512)).eval()
    state = randomized(network)
    images = np.random.default_rng(0).standard_normal((2, 224, 224, 3), np.float32)
    model = models.create_model('clip_vit_b32')
    embedding, _ = jax.jit(model.apply)(weights.convert('clip_vit_b32', state), images)
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        expected = network(pixel_values=pixels).image_embeds.numpy()
    error = relative_error(embedding, expected)
    print(f'clip_vit_b32 (Hugging Face names): relative error {error:.1e}')
    assert error < 1e-4  # float32 sums in another order
