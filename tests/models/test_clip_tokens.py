import numpy as np
import pytest

from avsc_jax.models import clip_cleaning, clip_tokens
from avsc_jax.scenes import SCENES


def padded(*ids: int) -> list[int]:
    return [49406, *ids, 49407] + [0] * (75 - len(ids))


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


# Made by open_clip 3.3's SimpleTokenizer, whose merges are OpenAI's; the first is also in
# openai/CLIP, notebooks/Interacting_with_CLIP.ipynb.
GOLDEN = {
    'Hello World!': [3306, 1002, 256],
    'a photo of a city street.': [320, 1125, 539, 320, 1305, 2012, 269],
    "it's the dogs' 2nd café, we'll see": [
        585, 568, 518, 3255, 262, 273, 1764, 15304, 267, 649, 1342, 862,
    ],
    'AT&amp;T &lt;3 &EACUTE;': [536, 261, 339, 283, 274, 4166],
    'naïve façade – “quoted” ‘it’s’': [
        1097, 35689, 563, 778, 10067, 1928, 1224, 257, 27706, 257, 262, 585, 568, 262,
    ],
    'ﬁne Ｆｕｌｌ\u3000ｗｉｄｔｈ １２３': [3797, 1476, 23571, 272, 273, 274],
    '北京の駅': [161, 234, 245, 21078, 105, 21575, 165, 100, 483],
    '🏖️ beach 👩\u200d👩\u200d👧': [1109, 28877, 2117, 26304, 26304, 964, 356],
    'x²+½ = Ⅷ': [343, 41175, 266, 33613, 284, 158, 227, 371],
    '\x1b[31mred\x1b[0m\x07': [736],
    "Straße ſ's İstanbul": [1894, 127, 253, 324, 129, 379, 568, 328, 16384, 11231],
    '__init__ a_b': [3838, 42670, 3838, 320, 318, 321],
    "'S 'LL ''d": [568, 1342, 8445, 323],
    '&amp;amp;amp;': [261],
    ' Metro\n\tStation ': [6784, 2631],
    '': [],
}  # fmt: skip


@pytest.mark.parametrize('text', GOLDEN)
def test_texts_have_the_ids_of_clip_s_own_vocabulary(text):
    assert clip_tokens.token_ids([text]).tolist() == [padded(*GOLDEN[text])]


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('<b>&amp;lt;</b>', '<b><</b>'),  # where there are tags, twice and no more
        ('&NTILDE;\n<b>&NTILDE;', 'ñ <b>&ntilde;'),  # tags count from their line on
        ('\ud83d\ude00 \ud83d', '😀 �'),
        ('\x85\x93a\x81', '…"a\x81'),
        ('e\u0301', 'é'),
        ('ŉ ﬃ ﬅ', "'n ffi ſt"),
    ],
)
def test_texts_are_cleaned_as_ftfy_does(text, words):
    assert clip_cleaning.cleaned(text) == words


def test_a_text_may_fill_the_context_and_no_more():
    (ids,) = clip_tokens.token_ids(['bus ' * 75])
    assert ids.tolist() == [49406] + [2840] * 75 + [49407]
    with pytest.raises(ValueError, match=r"'bus bus .* is 78 tokens long; CLIP reads 77"):
        clip_tokens.token_ids(['bus ' * 76])
