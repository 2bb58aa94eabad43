import sys

import numpy as np
import pytest

from avsc_jax.models import clip_tokens
from avsc_jax.scenes import SCENES


def padded(*ids: int) -> list[int]:
    return [49406, *ids, 49407] + [0] * (75 - len(ids))


@pytest.fixture(scope='module')
def vocabulary():
    from instant_clip_tokenizer import Tokenizer

    return Tokenizer()


def test_a_class_is_called_as_the_style_says():
    classes = ('metro_station', 'tram')
    assert clip_tokens.prompts(classes, 'literal') == ['metro_station', 'tram']
    assert clip_tokens.prompts(classes, 'spaces') == ['metro station', 'tram']
    assert clip_tokens.prompts(classes, 'photo') == [
        'a photo of a metro station',
        'a photo of a tram',
    ]


def test_an_unknown_style_names_those_there_are():
    with pytest.raises(ValueError, match="'poem'; it must be one of literal, spaces, photo"):
        clip_tokens.prompts(SCENES, 'poem')


def test_the_underscore_is_a_token_of_its_own():
    ids = clip_tokens.token_ids(['metro_station', 'metro station'])
    assert ids.dtype == np.int32
    assert ids.tolist() == [padded(6784, 318, 2631), padded(6784, 2631)]


@pytest.mark.parametrize('style', clip_tokens.STYLES)
def test_the_scenes_have_the_ids_of_the_vocabulary_and_need_no_package(
    style, vocabulary, monkeypatch
):
    texts = clip_tokens.prompts(SCENES, style)
    expected = vocabulary.tokenize_batch(texts, context_length=77)
    monkeypatch.setitem(sys.modules, 'instant_clip_tokenizer', None)
    np.testing.assert_array_equal(clip_tokens.token_ids(texts), expected)
    np.testing.assert_array_equal(clip_tokens.token_ids([t.title() for t in texts]), expected)


def test_other_texts_have_the_ids_of_the_vocabulary(vocabulary):
    # Source: openai/CLIP, notebooks/Interacting_with_CLIP.ipynb.
    assert clip_tokens.token_ids(['Hello World!']).tolist() == [padded(3306, 1002, 256)]
    texts = ['a__bus', 'Metro\n Station', 'a bus-stop', 'A', '']
    expected = vocabulary.tokenize_batch(texts, context_length=77)
    np.testing.assert_array_equal(clip_tokens.token_ids(texts), expected)


def test_without_the_package_other_texts_are_answered_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, 'instant_clip_tokenizer', None)
    with pytest.raises(ValueError, match=r"'a library' .*: pip install instant-clip-tokenizer"):
        clip_tokens.token_ids(['a bus', 'a library'])


def test_a_text_may_fill_the_context_and_no_more():
    (ids,) = clip_tokens.token_ids(['bus ' * 75])
    assert ids.tolist() == [49406] + [2840] * 75 + [49407]
    with pytest.raises(ValueError, match=r"'bus bus .* is 78 tokens long; CLIP reads 77"):
        clip_tokens.token_ids(['bus ' * 76])
