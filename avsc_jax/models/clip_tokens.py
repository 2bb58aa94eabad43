"""Texts for CLIP's text towers: prompts that name the classes, and their token ids."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

CONTEXT, VOCABULARY = 77, 49_408
START, END = VOCABULARY - 2, VOCABULARY - 1

STYLES = {'literal': '{literal}', 'spaces': '{spaces}', 'photo': 'a photo of a {spaces}'}

# Token ids for the ten scenes in every style, without a vocabulary file: each of these words is one
# token of CLIP's vocabulary, which never joins two. Source: `openai/CLIP`, simple_tokenizer.py.
WORDS = {
    '_': 318,
    'a': 320,
    'airport': 3259,
    'bus': 2840,
    'mall': 6220,
    'metro': 6784,
    'of': 539,
    'park': 1452,
    'pedestrian': 18256,
    'photo': 1125,
    'public': 2122,
    'shopping': 4266,
    'square': 3999,
    'station': 2631,
    'street': 2012,
    'traffic': 3399,
    'tram': 17500,
}


def prompts(classes: Iterable[str], style: str) -> list[str]:
    """Makes a text for each class.

    Args:
      style: 'literal' keeps the name with its underscores; 'spaces' replaces these; 'photo' is the
        sentence that CLIP's authors use.

    Source: Okazaki et al. 2021 say raw class names; Radford et al. 2021, Section 3.1.4.
    """
    if style not in STYLES:
        raise ValueError(f'prompt_style is {style!r}; it must be one of {", ".join(STYLES)}')
    return [STYLES[style].format(literal=c, spaces=c.replace('_', ' ')) for c in classes]


def token_ids(texts: Sequence[str]) -> np.ndarray:
    """Encodes texts as int32 `[N, 77]`: lower case between START and END, then zeros.

    Words other than those of the scenes need instant-clip-tokenizer, which brings the vocabulary.
    """
    rows = np.zeros((len(texts), CONTEXT), np.int32)
    for row, text in zip(rows, texts, strict=True):
        ids = [START, *_encode(text), END]
        if len(ids) > CONTEXT:
            raise ValueError(
                f'{text[:40]!r}... is {len(ids)} tokens long; CLIP reads {CONTEXT}: shorten it'
            )
        row[: len(ids)] = ids
    return rows


def _encode(text: str) -> list[int]:
    words = re.findall(r'_+|[^_\s]+', text.lower())
    if all(word in WORDS for word in words):
        return [WORDS[word] for word in words]
    try:
        from instant_clip_tokenizer import Tokenizer
    except ModuleNotFoundError as error:
        raise ValueError(
            f'the token ids of {text!r} need a package that is not installed: '
            'pip install instant-clip-tokenizer'
        ) from error
    return Tokenizer().encode(text)
