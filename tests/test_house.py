"""Functions fit on a screen."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCREEN = 60  # lines, the docstring included


def too_long(source: str) -> list[tuple[str, int]]:
    """(name, lines) of the functions that are longer than a screen."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, functions)]
    lengths = [(node.name, node.end_lineno - node.lineno + 1) for node in found]
    return [(name, length) for name, length in lengths if length > SCREEN]


def test_functions_fit_on_a_screen() -> None:
    paths = [path for top in ('avsc_jax', 'tfds_tau') for path in (ROOT / top).rglob('*.py')]
    long = [
        f'{path.relative_to(ROOT)}: {name} has {length} lines'
        for path in paths
        for name, length in too_long(path.read_text())
    ]
    assert len(paths) > 100
    assert len(long) <= 3, '\n'.join(long)


@pytest.mark.parametrize(('lines', 'is_long'), [(SCREEN, False), (SCREEN + 1, True)])
def test_a_function_is_as_long_as_its_lines_from_def_to_end(lines: int, is_long: bool) -> None:
    body = '\n'.join(['    """Says nothing."""', *['    x = 0'] * (lines - 2)])
    assert bool(too_long(f'class A:\n    """Has one."""\n\n\ndef f():\n{body}\n')) == is_long
