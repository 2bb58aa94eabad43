"""The classes and prompts of a zero-shot system, as a user writes them; loads nothing heavy."""

from collections.abc import Sequence
from pathlib import Path

from avsc_jax.scenes import SCENES

ENCODER = 'clip_vit_b32'
PROMPT = 'a photo of a {}.'  # Source: Radford et al. 2021, Section 3.1.4
MAX_CLASSES = 10_000


def named(text: str | None) -> tuple[str, ...]:
    """Returns the classes that --classes names: 'beach,forest', '@FILE', or None for the scenes.

    A file has one name a line; empty lines are left out.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a name is empty, the file is no text, or there are too few names.
    """
    if text is None:
        return SCENES
    if not text.startswith('@'):
        return classes(text.split(',') if text.strip() else [])
    from avsc_jax.tables import text_files

    path = text_files.existing(Path(text[1:]).expanduser(), 'text file, with a class a line')
    with text_files.naming(path):
        return classes([line for line in text_files.decoded(path).splitlines() if line.strip()])


def classes(names: Sequence[str]) -> tuple[str, ...]:
    """Checks the names of classes, and strips them.

    Raises:
      ValueError: a name is empty, or there are not 2 to MAX_CLASSES.
      TypeError: it is one text.
    """
    if isinstance(names, str):
        raise TypeError(
            f'classes is the text {names!r}; give a list of names, such as {SCENES[:2]}'
        )
    stripped = [' '.join(name.split()) for name in names]
    if '' in stripped:
        place = stripped.index('') + 1
        raise ValueError(
            f'name {place} of the {len(names)} classes is empty; give each class a name'
        )
    if not 2 <= len(stripped) <= MAX_CLASSES:
        count = {0: 'no class is', 1: f'only {stripped and stripped[0]!r} is'}
        raise ValueError(
            f'{count.get(len(stripped), f"{len(stripped):,} classes are")} named; name 2 to '
            f'{MAX_CLASSES:,} classes, with commas between them, or one a line of a file'
        )
    return tuple(stripped)


def prompts(templates: Sequence[str]) -> tuple[str, ...]:
    """Checks the sentences around the names of classes.

    Raises:
      ValueError: one has no {}, or there is none.
      TypeError: it is one text.
    """
    if isinstance(templates, str):
        raise TypeError(f'prompts is the text {templates!r}; give a list, such as {[PROMPT]}')
    if not templates:
        raise ValueError(f'there is no prompt; give one, such as {PROMPT!r}')
    for template in templates:
        if (places := template.count('{}')) != 1:
            raise ValueError(
                f'the prompt {template!r} has {places} places for the name of a class; '
                f'write {{}} once, as in {PROMPT!r}'
            )
    return tuple(templates)


def filled(template: str, name: str) -> str:
    """Puts the name of a class into a prompt.

    Example:
      >>> filled('a photo of a {}.', 'city_street')
      'a photo of a city street.'
    """
    return template.replace('{}', spoken(name))


def spoken(name: str) -> str:
    """Returns a name as it is read: underscores are spaces."""
    return ' '.join(name.replace('_', ' ').split())
