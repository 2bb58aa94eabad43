"""Parts of the site that are made of configs and docstrings when it is built.

A comment such as `<!-- config: feng_fusion -->`, which no reader of the repository sees, stands
where a part goes. The name before the colon is one of PARTS.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from avsc_jax.training import config as fields

ROOT = Path(__file__).parents[1]
MARK = re.compile(r'^<!-- (\w+): (\S+) -->$', re.MULTILINE)
LINE = re.compile(r'^(Paper|Expect|Needs|Command|Try it): (.*(?:\n  .*)*)', re.MULTILINE)
# Linen gives every network the same few fields.
OF_LINEN = {'parent', 'name', 'scope', 'input_spec', 'setup'}
# TFDS shows this page below a title of its own.
TITLES = {'tfds_tau/README': 'The data set builder tfds_tau'}
# What says nothing about how a paper is read.
LEFT_OUT = {'kind', 'seed', 'paper', 'demo', 'data.name', 'data.source'}


def fill(app: Any, page: str, source: list[str]) -> None:
    """Puts the made parts in the place of a page's comments, and a title where it has none."""
    source[0] = MARK.sub(lambda mark: PARTS[mark[1]](mark[2]), source[0])
    if page in TITLES:
        source[0] = f'# {TITLES[page]}\n\n{source[0]}'


def config_part(name: str) -> str:
    """Describes a config: its docstring, tokens, rows of the papers' tables, fields and file."""
    module = importlib.import_module(f'avsc_jax.configs.{name}')
    said = {key: ' '.join(text.split()) for key, text in LINE.findall(module.__doc__)}
    parts = [
        f'## {name}.py',
        LINE.split(module.__doc__)[0].strip(),
        '\n'.join(f'- **{key}**: {said[key]}' for key in ('Paper', 'Expect', 'Needs')),
        '```bash\n' + said['Command'] + '\n' + said['Try it'] + '\n```',
        _tokens(module.VARIANTS),
        rows_part(name),
        f'### What is read, and how: {name}.py',
        'The fields of the first tokens; [fields](/docs/fields.md) explains them.',
        _fields(module.get_config('')),
        f'### The file: {name}.py',
        f'```{{literalinclude}} /configs/{name}.py\n:language: python\n```',
    ]
    return '\n\n'.join(filter(None, parts))


def rows_part(config: str) -> str:
    """Lists the rows of docs/systems.md that a config trains; nothing if it trains none."""
    lines = (ROOT / 'docs/systems.md').read_text().splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith('| row |'))
    rows = [line for line in lines[head + 2 :] if re.search(rf'`configs/{config}\.py\b', line)]
    return '\n'.join([*lines[head : head + 2], *rows]) if rows else ''


def _tokens(variants: Mapping[str, Collection[str]]) -> str:
    lines = ['Tokens, the first of each kind being the default:', '']
    for axis, tokens in variants.items():
        words = tokens if isinstance(tokens, Mapping) else dict.fromkeys(tokens, '')
        told = (f'`{token}`' + f' ({words[token]})' * bool(words[token]) for token in words)
        lines.append(f'- {axis.replace("_", " ")}: {", ".join(told)}')
    return '\n'.join(lines) if variants else ''


def _fields(config: ConfigDict) -> str:
    rows = [
        f'| `{name}` | `{_value(value)}` | {known.text} |'
        for name, value, known in _set(config)
        if name not in LEFT_OUT
    ]
    return '\n'.join(['| field | value | what it is |', '|---|---|---|', *rows])


def _set(config: ConfigDict) -> Iterator[tuple[str, Any, fields.Field]]:
    for name, value in config.items():
        if name != 'data':
            yield name, value, fields.FIELDS[name]
    for name, value in config.data.items():
        yield f'data.{name}', value, fields.DATA_FIELDS[name]


def _value(value: Any) -> str:
    value = value.to_dict() if isinstance(value, ConfigDict) else value
    text = str(value).replace('|', r'\|')
    return text if len(text) <= 200 else f'{text[:200]} ...'


def module_part(name: str) -> str:
    """Shows a public module: the names it hands on, or else its modules one after the other."""
    module = importlib.import_module(name)
    shown = [module]
    if hasattr(module, '__path__') and not hasattr(module, '__all__'):
        names = (one.name for one in pkgutil.iter_modules(module.__path__, f'{name}.'))
        shown += [importlib.import_module(one) for one in names if not one.endswith('.__main__')]
    return '\n\n'.join(map(_automodule, shown))


def _automodule(module: ModuleType) -> str:
    # names found on first use, where autodoc does not look for them
    for name in getattr(module, '__all__', ()):
        setattr(module, name, getattr(module, name))
    return f'## {module.__name__}\n\n```{{eval-rst}}\n.. automodule:: {module.__name__}\n```'


def docstring_part(name: str) -> str:
    """Shows what a module says of itself."""
    return inspect.getdoc(importlib.import_module(name))


def plain_signature(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str, returned: str
) -> tuple[str, str | None] | None:
    """Writes array types as the source does, and leaves out the constructors of networks."""
    if inspect.isclass(thing) and issubclass(thing, nn.Module):
        return '', None
    if signature is None:
        return None
    return _plain(signature), _plain(returned) if returned else returned


def _plain(text: str) -> str:
    # ~ shows the last part of a name and leads to the whole; with <function> nothing is parsed
    ours = '' if '<' in text else r'(?!avsc_jax\.)'
    text = re.sub(rf'~?\b{ours}(?<![.~])(?:[a-z_]\w*\.)+(?=[A-Za-z_])', '', text.replace('~', ''))
    text = re.sub(r'\bavsc_jax\.', '~avsc_jax.', text)
    return re.sub(r"(\w+\[)Array, ('[^']*')\] \| \1ndarray, \2\]", r'\1Array, \2]', text)


def plain_docstring(
    app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Writes a docstring as reStructuredText that shows it as it is meant, |x| included."""
    if lines and lines[0].startswith('Alias for field number'):
        lines.clear()
    if what in ('property', 'attribute', 'data'):
        # napoleon takes what stands before a colon for a type
        lines[:1] = [line.replace(': ', ' – ').removesuffix(':') for line in lines[:1]]
    made, is_example, is_text = [], False, True
    for line in lines:
        is_text &= not re.fullmatch(r'\w+:', line)  # until the first section, such as Args:
        is_example = line.lstrip().startswith('>>>') or (is_example and bool(line.strip()))
        if is_text and line.startswith('    ') and not made[-1]:
            made += ['::', '']  # an indented block of code
        # of two names with a space between them, Sphinx takes the first for a type
        if names := re.match(r'\s+\w+(, \w+)+: ', line):
            line = names[0].replace(', ', ',') + line[names.end() :]
        is_code = is_example or (is_text and line.startswith('    '))
        made.append(line if is_code else _escaped(line))
    lines[:] = made


def _escaped(line: str) -> str:
    parts = line.split('`')
    parts[::2] = [re.sub(r'(?<!\\)([|*])', r'\\\1', part) for part in parts[::2]]
    return '`'.join(parts)


def is_hidden(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Hides the fields that all networks have, and modules that a module imports."""
    of_network = what == 'class' and name in OF_LINEN
    return True if of_network or inspect.ismodule(thing) else None


PARTS = {
    'config': config_part,
    'rows': rows_part,
    'module': module_part,
    'docstring': docstring_part,
}
