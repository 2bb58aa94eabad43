"""Texts for CLIP's text towers: prompts that name the classes, and their token ids."""

import functools
import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from avsc_jax.models import clip_cleaning
from avsc_jax.runtime import nearest

CONTEXT, VOCABULARY = 77, 49_408
START, END = VOCABULARY - 2, VOCABULARY - 1

STYLES = {'literal': '{literal}', 'spaces': '{spaces}', 'photo': 'a photo of a {spaces}'}

# OpenAI's merges of byte pairs, as it ships them; 256 bytes, each also as the end of a word.
MERGES = Path(__file__).with_name('bpe_simple_vocab_16e6.txt.gz')
WORD_END = '</w>'
WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def prompts(classes: Iterable[str], style: str) -> list[str]:
    """Makes a text for each class.

    Args:
      style: 'literal' keeps the name with its underscores; 'spaces' replaces these; 'photo' is the
        sentence that CLIP's authors use.

    Source: Okazaki et al. 2021 say raw class names; Radford et al. 2021, Section 3.1.4.
    """
    nearest.check('prompt_style', style, STYLES)
    return [STYLES[style].format(literal=c, spaces=c.replace('_', ' ')) for c in classes]


def token_ids(texts: Sequence[str]) -> np.ndarray:
    """Encodes texts as int32 `[N, 77]`: cleaned, between START and END, then zeros.

    Raises:
      ValueError: a text has more tokens than fit.

    Source: `openai/CLIP`, simple_tokenizer.py.

    Example:
      >>> token_ids(['a photo of a tram.'])[0, :9].tolist()
      [49406, 320, 1125, 539, 320, 17500, 269, 49407, 0]
    """
    rows = np.zeros((len(texts), CONTEXT), np.int32)
    for row, text in zip(rows, texts, strict=True):
        ids = [START, *_vocabulary().encode(clip_cleaning.cleaned(text)).ids, END]
        if len(ids) > CONTEXT:
            raise ValueError(
                f'{text[:40]!r}... is {len(ids)} tokens long; CLIP reads {CONTEXT}: shorten it'
            )
        row[: len(ids)] = ids
    return rows


@functools.cache
def _vocabulary() -> Tokenizer:
    """Reads the merges, which takes half a second."""
    lines = gzip.decompress(MERGES.read_bytes()).decode().split('\n')
    letters = _letters_of_bytes()
    ends = [letter + WORD_END for letter in letters]
    # the first line is a comment, and those beyond the vocabulary's size are not used
    merges = [tuple(line.split()) for line in lines[1 : START - len(letters + ends) + 1]]
    known = [*letters, *ends, *(''.join(pair) for pair in merges)]
    ids = {text: index for index, text in enumerate(known)}
    made = Tokenizer(BPE(ids, merges, end_of_word_suffix=WORD_END))
    split = pre_tokenizers.Split(Regex(WORDS), behavior='removed', invert=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    return made


def _letters_of_bytes() -> list[str]:
    """Returns the letters that stand for the 256 bytes, in the order of their ids.

    Printable bytes stand for themselves and come first, others for letters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = range(256 - len(printable))
    return [*map(chr, printable), *(chr(0x100 + index) for index in others)]
