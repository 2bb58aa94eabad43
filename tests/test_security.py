"""SECURITY.md: its limits are those of the code, and all of them."""

import argparse
import ast
import importlib
import re
from pathlib import Path

from avsc_jax.predict import flags
from avsc_jax.serve import __main__ as serve

ROOT = Path(__file__).parents[1]
# Not limits on what comes from outside.
OTHERS = {
    'MAX_BACK_OFF_S',
    'MAX_DIFFERENCE_S',
    'MAX_ITEM_S',
    'MAX_LINES',
    'MAX_PREFIXES',
    'MAX_PREFIX_PARTS',
    'MAX_RECORDS_PER_CLIP',
    'MAX_WORKERS',
}


def listed():
    """The limits of the page: where -> number."""
    rows = re.findall(r'^\|.*\| ([\d,.]+) \| `(.+)` \|$', (ROOT / 'SECURITY.md').read_text(), re.M)
    assert len(rows) > 20
    return {where: float(number.replace(',', '')) for number, where in rows}


def test_the_limits_are_those_of_the_code():
    commands: dict[str, argparse.Namespace] = {
        'predict': flags.parse(['-', '--model=run']),
        'serve': serve.parse(['--model=run']),
    }
    for where, number in listed().items():
        if ' --' in where:
            command, name = where.split(' --')
            value = getattr(commands[command], name)
        else:
            module, _, name = where.rpartition('.')
            value = getattr(importlib.import_module(module), name)
        assert value == number, where


def test_every_limit_is_listed():
    constants = {
        f'{".".join(path.relative_to(ROOT).with_suffix("").parts)}.{name.id}'.replace(
            '.__init__', ''
        )
        for path in (ROOT / 'avsc_jax').rglob('*.py')
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        for name in (target.elts if isinstance(target, ast.Tuple) else [target])
        if isinstance(name, ast.Name) and name.id.startswith('MAX_')
    }
    missing = {name for name in constants if name.rpartition('.')[2] not in OTHERS} - {*listed()}
    assert not missing, f'SECURITY.md lacks {sorted(missing)}; add a row for each'
