"""Cleans texts as CLIP did before it was trained on them: entities, widths, quotes, space, case.

That is ftfy's `fix_text`, then HTML entities, white space and lower case, without ftfy's guess at
text that was decoded in the wrong encoding: here a class is called as it is written.

Source: `openai/CLIP`, simple_tokenizer.py; ftfy 6.3.
"""

import contextlib
import html
import re
import unicodedata

ENTITY = re.compile('&#?[0-9A-Za-z]{1,24};')
TERMINAL_ESCAPE = re.compile('\033\\[[\\d;]*[a-zA-Z]')
LIGATURES = 'ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬅﬆ'
REMOVED = (
    *range(0x09),
    0x0B,
    *range(0x0E, 0x20),
    0x7F,
    *range(0x206A, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFD),
)


def _replacements() -> dict[int, str]:
    """Returns what single characters become: code point -> text, which may be empty."""
    made = {0x3000: ' '}
    for code in range(0xFF01, 0xFFF0):  # full and half width
        made[code] = unicodedata.normalize('NFKC', chr(code))
    for code in range(0x80, 0xA0):  # as web browsers read them
        with contextlib.suppress(UnicodeDecodeError):
            made[code] = bytes([code]).decode('cp1252')
    for letter in LIGATURES:
        _, *codes = unicodedata.decomposition(letter).split()
        made[ord(letter)] = ''.join(chr(int(code, 16)) for code in codes)
    made |= dict.fromkeys([0x02BC, *range(0x2018, 0x201C)], "'")
    made |= dict.fromkeys(range(0x201C, 0x2020), '"')
    return made | dict.fromkeys(REMOVED, '')


def _entities() -> dict[str, str]:
    """Returns the text of each HTML entity that ends in ';', and of some in capitals."""
    made = {f'&{name}': text for name, text in html.entities.html5.items() if name[-1] == ';'}
    shouted = {name.upper(): text.upper() for name, text in made.items() if name == name.lower()}
    return {name: text for name, text in shouted.items() if html.unescape(name) == name} | made


REPLACEMENTS, ENTITIES = _replacements(), _entities()


def cleaned(text: str) -> str:
    """Cleans a text, as the module says.

    Example:
      >>> cleaned(' Caf&eacute;\\n “Ｏｎｅ” ')
      'café "one"'
    """
    lines, has_tags = [], False
    for line in text.split('\n'):
        has_tags |= '<' in line
        lines.append(_fixed(line, with_entities=not has_tags))
    text = html.unescape(html.unescape('\n'.join(lines)))
    return ' '.join(text.split()).lower()


def _fixed(line: str, *, with_entities: bool) -> str:
    """Fixes a line until nothing changes any more."""
    before = None
    while line != before:
        before = line
        if with_entities:
            line = ENTITY.sub(_without_entity, line)
        line = TERMINAL_ESCAPE.sub('', line).translate(REPLACEMENTS)
        # halves of a character beyond 16 bits: pairs are joined, others become U+FFFD
        line = line.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
        line = unicodedata.normalize('NFC', line)
    return line


def _without_entity(match: re.Match[str]) -> str:
    entity = match[0]
    if not entity.startswith('&#'):
        return ENTITIES.get(entity, entity)
    text = html.unescape(entity)
    return entity if ';' in text else text
