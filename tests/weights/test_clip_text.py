import json
import os
import random
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import traverse_util
from PIL import Image
from scipy.special import softmax

from avsc_jax import models, weights
from avsc_jax.input_pipeline.transform import Squares
from avsc_jax.models import clip_tokens, clip_zero_shot
from avsc_jax.scenes import SCENES

FILES = Path(__file__).parents[1] / 'data_files'
NARROW = {'width': 16, 'layers': 2, 'heads': 4, 'output_dim': 6}
OPEN_CLIP = {
    'clip_rn101': 'RN101-quickgelu',
    'clip_rn50x4': 'RN50x4-quickgelu',
    'clip_vit_b32': 'ViT-B-32-quickgelu',
}


def hf_state(variables: dict) -> dict[str, np.ndarray]:
    """Flax variables under Hugging Face's names and in PyTorch's layout."""
    state = {}
    for path, value in traverse_util.flatten_dict(variables['params'], sep='.').items():
        name = re.sub(r'\.(kernel|scale|embedding)$', '.weight', path)
        state[name] = value.T if path.endswith('.kernel') else value
    return state


def openai_state(variables: dict) -> dict[str, np.ndarray]:
    """The same under OpenAI's names, with one matrix for queries, keys and values."""
    parts = {
        'text_model.encoder.layers': 'transformer.resblocks',
        'text_model.embeddings.position_embedding.weight': 'positional_embedding',
        'text_model.embeddings.': '',
        'text_model.final_layer_norm': 'ln_final',
        'self_attn.out_proj': 'attn.out_proj',
        'layer_norm': 'ln_',
        'fc1': 'c_fc',
        'fc2': 'c_proj',
    }
    state = hf_state(variables)
    state['text_projection'] = state.pop('text_projection.weight').T
    for layer in range(NARROW['layers']):
        attention = f'text_model.encoder.layers.{layer}.self_attn'
        for leaf in ('weight', 'bias'):
            fused = [state.pop(f'{attention}.{part}_proj.{leaf}') for part in 'qkv']
            state[f'transformer.resblocks.{layer}.attn.in_proj_{leaf}'] = np.concatenate(fused)
    for old, new in parts.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    return state


@pytest.fixture(scope='module')
def variables() -> dict:
    draw = np.random.default_rng(0)
    shapes = models.variable_shapes(models.create_model('clip_rn101_text', **NARROW))
    return jax.tree.map(lambda x: draw.standard_normal(x.shape).astype(np.float32), shapes)


@pytest.mark.parametrize('names', [openai_state, hf_state])
def test_source_names_come_back_as_the_same_variables(variables, names):
    rest_of_the_archive = {
        'visual.transformer.resblocks.0.attn.in_proj_bias': np.ones(3),
        'visual.layer1.0.bn1.num_batches_tracked': np.ones(()),
        'vision_model.encoder.layers.0.mlp.fc1.bias': np.ones(3),
        'visual_projection.weight': np.ones((3, 3)),
        'text_model.embeddings.position_ids': np.arange(77)[None],
        'logit_scale': np.ones(()),
        'context_length': np.ones(()),
    }
    converted = weights.convert('clip_rn101_text', names(variables) | rest_of_the_archive, **NARROW)
    assert jax.tree.structure(converted) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, converted, variables)


@pytest.mark.parametrize(
    ('lost', 'path'),
    [
        ('text_projection', 'text_projection/kernel'),
        ('positional_embedding', 'text_model/embeddings/position_embedding/embedding'),
        ('ln_final.bias', 'text_model/final_layer_norm/bias'),
    ],
)
def test_a_missing_parameter_is_an_error(variables, lost, path):
    state = openai_state(variables)
    del state[lost]
    with pytest.raises(ValueError, match=f'missing: params/{path}; unexpected: none; wrong'):
        weights.convert('clip_rn101_text', state, **NARROW)


@pytest.mark.parametrize('name', ['transformer.resblocks.2.ln_1.bias', 'text_projection.weight'])
def test_a_parameter_too_many_is_an_error(variables, name):
    state = openai_state(variables) | {name: np.zeros((6, 16))}
    with pytest.raises(ValueError, match=f'missing: none; unexpected: {re.escape(name)}; wrong'):
        weights.convert('clip_rn101_text', state, **NARROW)


def test_another_vocabulary_is_an_error(variables):
    state = openai_state(variables) | {'token_embedding.weight': np.zeros((100, 16))}
    with pytest.raises(ValueError, match=r'wrong shape: token_embedding\.weight \(100, 16\)'):
        weights.convert('clip_rn101_text', state, **NARROW)


def relative_error(ours, theirs) -> float:
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def picture(name: str) -> np.ndarray:
    return np.asarray(Image.open(FILES / name).convert('RGB'))


def embed(name: str, variables: dict, inputs: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(models.create_model(name).apply)(variables, inputs)[0])


def prepared(name: str, photograph: np.ndarray) -> np.ndarray:
    source = weights.SOURCES[name]
    squares = Squares(source, source.image_size)
    return squares.prepare(np.stack(squares.items({'frames': [photograph]})))


def zero_shot(features: np.ndarray, texts: np.ndarray) -> np.ndarray:
    width = features.shape[1]
    model = models.create_model('clip_zero_shot', encoder='x', width=width, num_classes=len(texts))
    return np.asarray(model.apply(clip_zero_shot.text_head(texts), {'features/x': features})[0])


@pytest.mark.parity
@pytest.mark.parametrize('name', OPEN_CLIP)
def test_zero_shot_is_that_of_open_clip(open_clip, randomized, name):
    """Text tower, then both towers on a photograph, each side with its own preprocessing."""
    import torch

    network, _, preprocess = open_clip.create_model_and_transforms(OPEN_CLIP[name])
    state = randomized(network.eval())
    texts = [text for style in clip_tokens.STYLES for text in clip_tokens.prompts(SCENES, style)]
    ids = clip_tokens.token_ids(texts)
    np.testing.assert_array_equal(ids, open_clip.tokenize(texts))
    random_ids = np.random.default_rng(0).integers(1, 49406, (4, 77), np.int32)
    random_ids[[0, 1, 2, 3], [76, 40, 5, 1]] = clip_tokens.END
    ids = np.concatenate([ids, random_ids])
    ours = embed(f'{name}_text', weights.convert(f'{name}_text', state), ids)
    with torch.no_grad():
        theirs = network.encode_text(torch.from_numpy(ids).long()).numpy()
    text_error = relative_error(ours, theirs)

    pixels = preprocess(Image.open(FILES / 'cat.jpg'))[None]
    with torch.no_grad():
        seen, words, _ = network(pixels, torch.from_numpy(ids[:10]).long())
        expected = (100 * seen @ words.T).numpy()
    same_pixels = pixels.permute(0, 2, 3, 1).numpy()
    pictures = np.concatenate([same_pixels, prepared(name, picture('cat.jpg'))])
    logits = zero_shot(embed(name, weights.convert(name, state), pictures), ours[:10])
    same, own = (relative_error(row[None], expected) for row in logits)
    difference = np.abs(softmax(logits[1:], axis=1) - softmax(expected, axis=1)).max()
    print(
        f'{name}_text: relative error {text_error:.1e}; zero-shot logits {same:.1e}, with our own '
        f'preprocessing {own:.1e}, and then probabilities differ by {difference:.1e}'
    )
    assert max(text_error, same) < 1e-4  # float32 sums in another order
    assert own < 1e-3  # a few bytes of the picture are rounded to the other side


@pytest.mark.parity
def test_embedding_is_that_of_hugging_face(randomized):
    import torch
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    network = CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=512, eos_token_id=49407))
    state = randomized(network.eval())
    ids = clip_tokens.token_ids(clip_tokens.prompts(SCENES, 'photo'))
    ours = embed('clip_vit_b32_text', weights.convert('clip_vit_b32_text', state), ids)
    padded = np.where(np.cumsum(ids == clip_tokens.END, axis=1) > 0, clip_tokens.END, ids)
    with torch.no_grad():
        theirs = network(torch.from_numpy(padded).long()).text_embeds.numpy()
    error = relative_error(ours, theirs)
    print(f'clip_vit_b32_text (Hugging Face names): relative error {error:.1e}')
    assert error < 1e-4  # float32 sums in another order


# Parts of the random texts that are compared: what is cleaned, and what words are cut at.
PARTS = (
    *("'s", "'T", "'re", ' ', '  ', '\n', '\t', '12', '3', '٣', 'Ⅷ', '½', '²', '_', '-', '!?', '#'),
    *(
        'é',
        'e\u0301',
        'ß',
        'ſ',
        'İ',
        'Ω',
        'ж',
        'א',
        'ا',
        '\u0301',
        'ᾳ',
        'ΑΣ',
        '北',
        'の',
        'ｱ',
        'Ａ',
    ),
    *('&amp;', '&lt;', '&nbsp;', '&Ntilde;', '&NTILDE;', '&#233;', '&#x1F600;', '&copy', '<b>'),
    *('😀', '👍🏽', '\u200d', '\u200b', 'ﬃ', 'ŉ', '“', '’', '…', '\ufeff', '\0', '\x85', '\x93'),
    *('\u2028', '\ud83d', '\ude00'),
)


@pytest.mark.parity
def test_random_texts_have_the_ids_of_open_clip(open_clip, monkeypatch):
    """All but texts that ftfy takes for decoded in the wrong encoding, which stay as they are."""
    import ftfy

    whole = partial(ftfy.fix_text, fix_encoding=False)
    monkeypatch.setattr(open_clip.tokenizer.ftfy, 'fix_text', whole)
    vocabulary, draw = open_clip.SimpleTokenizer(), random.Random(0)
    for _ in range(3000):
        letters = [chr(draw.randrange(0x20, 0x530)) for _ in PARTS]
        text = ''.join(draw.choices([*PARTS, *letters], k=draw.randrange(20)))
        theirs = vocabulary.encode(text)
        if len(theirs) <= 75:
            padded = [clip_tokens.START, *theirs, clip_tokens.END] + [0] * (75 - len(theirs))
            assert clip_tokens.token_ids([text]).tolist() == [padded], repr(text)


@pytest.mark.data
def test_the_published_probabilities_come_out_of_the_real_weights():
    """Source: the README of openai/CLIP, printed by a GPU in float16."""
    folder = os.environ.get('AVSC_CLIP_WEIGHTS')
    if not folder:
        pytest.skip("AVSC_CLIP_WEIGHTS names no folder with clip_vit_b32.pt, OpenAI's ViT-B-32.pt")

    def load(name):
        model = models.create_model(name)
        return weights.load(model, name, weights.identify(name, folder), folder)

    golden = json.loads((FILES / 'clip_golden.json').read_text())
    photograph = prepared('clip_vit_b32', picture(golden['image']))
    features = embed('clip_vit_b32', load('clip_vit_b32'), photograph)
    ids = clip_tokens.token_ids(golden['texts'])
    texts = embed('clip_vit_b32_text', load('clip_vit_b32_text'), ids)
    probs = softmax(zero_shot(features, texts), axis=1)
    # Logits near 25 are multiples of 1/64 in float16; p (1 - p) / 64 is 1e-4 at most.
    np.testing.assert_allclose(probs, golden['probs'], atol=5e-4)
