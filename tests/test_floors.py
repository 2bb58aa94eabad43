"""Imports go down only; foreign and heavy libraries stay out. Read off the syntax trees."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top down. A name is a file or a folder of avsc_jax; it imports lower floors, or its own.
FLOORS = (
    ('main', 'score', 'export', 'serve', 'robustness'),
    ('predict', 'convert'),
    ('training',),
    ('report', 'runs'),
    ('input_pipeline', 'tables'),
    ('data', 'ensemble'),
    ('weights',),
    ('models',),
    ('layers', 'audio', 'augment', 'losses', 'metrics', 'label_metrics'),
    ('configs', 'scenes', 'types', 'runtime'),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
SIDEWAYS = {('robustness', 'score'), ('configs', 'runtime'), ('label_metrics', 'metrics')}
# One decoder and one frame picker for builder, extractor and predict.
OPEN_TO_TFDS_TAU = (
    'avsc_jax.data.builder',
    'avsc_jax.data.media',
    'avsc_jax.runtime',
    'avsc_jax.scenes',
)
MAY_IMPORT_TFDS_TAU = ('data',)
FOREIGN = ('tensorflow', 'torch', 'timm', 'open_clip', 'onnxruntime')
HEAVY = ('jax', 'flax', 'numpy', 'transformers', 'tensorflow_datasets', 'librosa', 'matplotlib')


def modules(folder: str, package: str) -> dict[Path, tuple[str, ...]]:
    """Every Python file under a folder of the tree, with the parts of its dotted name."""
    paths = sorted((ROOT / folder).rglob('*.py'))
    relative = (path.relative_to(ROOT / folder).with_suffix('') for path in paths)
    return {
        path: (*package.split('.'), *name.parts) for path, name in zip(paths, relative, strict=True)
    }


SOURCES = (
    modules('avsc_jax', 'avsc_jax')
    | modules('configs', 'avsc_jax.configs')
    | modules('tfds_tau', 'tfds_tau')
)


def imports(tree: ast.AST, module: tuple[str, ...]) -> Iterator[tuple[int, str, bool]]:
    """(line, dotted name, whether inside a function); a name may end in a function or class."""
    package = '.'.join(module[:-1])
    stack = [(tree, False)]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = '.' * node.level + (node.module or '')
            origin = importlib.util.resolve_name(origin, package)
            yield from ((node.lineno, f'{origin}.{alias.name}', inside) for alias in node.names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        stack.extend((child, inside) for child in ast.iter_child_nodes(node))


def is_within(name: str, package: str) -> bool:
    return f'{name}.'.startswith(f'{package}.')


def complaint(module: tuple[str, ...], name: str, inside: bool) -> str | None:
    """Why `module` may not import `name`, or None."""
    root = name.split('.')[0]
    if root in FOREIGN:
        return f'{root} is not for the package'
    if root == 'h5py' and not inside:
        return 'h5py is imported inside the function that reads h5'
    if module[0] == 'tfds_tau':
        if root == 'avsc_jax' and not any(is_within(name, open_) for open_ in OPEN_TO_TFDS_TAU):
            return f'tfds_tau imports only {" and ".join(OPEN_TO_TFDS_TAU)}'
        return None
    here = module[1]
    if root == 'tfds_tau' and here not in MAY_IMPORT_TFDS_TAU:
        return f'only {", ".join(MAY_IMPORT_TFDS_TAU)} may import tfds_tau'
    if root != 'avsc_jax' or name == 'avsc_jax' or name.startswith('avsc_jax.__'):
        return None
    there = name.split('.')[1]
    if there not in FLOOR:
        return f'{there} stands on no floor'
    if there == here or (here, there) in SIDEWAYS or FLOOR[there] > FLOOR.get(here, -1):
        return None
    return f'{here} stands on floor {FLOOR.get(here)} from the top, {there} on {FLOOR[there]}'


def complaints(source: str, module: tuple[str, ...]) -> list[tuple[int, str]]:
    tree = ast.parse(source)
    found = [
        (line, complaint(module, name, inside)) for line, name, inside in imports(tree, module)
    ]
    if module != ('avsc_jax', 'training', 'steps'):
        found += [
            (node.lineno, 'only training/steps.py says pmap')
            for node in ast.walk(tree)
            if 'pmap'
            in (getattr(node, 'attr', ''), getattr(node, 'id', ''), getattr(node, 'name', ''))
        ]
    return [(line, why) for line, why in found if why]


def test_every_import_goes_down() -> None:
    offences = []
    for path, module in SOURCES.items():
        source = path.read_text()
        for line, why in complaints(source, module):
            text = source.splitlines()[line - 1].strip()
            offences.append(f'{path.relative_to(ROOT)}:{line}: {text}  # {why}')
    assert not offences, '\n'.join(offences)


def test_every_part_of_the_package_stands_on_a_floor() -> None:
    parts = {module[1] for module in SOURCES.values() if module[0] == 'avsc_jax'}
    assert parts - {'__init__'} <= FLOOR.keys()


def test_the_picture_in_contributing_shows_these_floors() -> None:
    lines = (ROOT / 'CONTRIBUTING.md').read_text().splitlines()
    first = lines.index('    ' + '  '.join(FLOORS[0]))
    drawn = [tuple(line.split()) for line in lines[first : first + len(FLOORS)]]
    assert drawn == list(FLOORS) and not lines[first + len(FLOORS)].strip()


def test_the_package_has_few_rooms_on_few_floors() -> None:
    package = ROOT / 'avsc_jax'
    inside = [path for path in SOURCES if path.is_relative_to(package)]
    rooms = {path.relative_to(package).parts[0] for path in inside}
    assert len(rooms) <= 26 and len(FLOORS) <= 10


@pytest.mark.parametrize(
    ('module', 'source'),
    [
        ('avsc_jax.layers.conv', 'from avsc_jax import models'),
        ('avsc_jax.layers.conv', 'def f():\n    import avsc_jax.models.clip'),
        ('avsc_jax.weights.weight_files', 'from avsc_jax.data import records'),
        ('avsc_jax.data.records', 'from ..training.loop import run'),
        ('avsc_jax.runs.load', 'from avsc_jax import report'),
        ('avsc_jax.runtime.cli', 'from avsc_jax import models'),
        ('avsc_jax.predict', 'from avsc_jax import main'),
        ('avsc_jax.tables.mix', 'import avsc_jax.nowhere'),
        ('avsc_jax.tables.mix', 'import tfds_tau'),
        ('avsc_jax.training.train', 'import tfds_tau.build'),
        ('tfds_tau.build', 'from avsc_jax.data import records'),
        ('tfds_tau.build', 'import tensorflow as tf'),
        ('avsc_jax.weights.read', 'def f():\n    import torch.nn'),
        ('avsc_jax.weights.read', 'import h5py'),
        ('avsc_jax.training.loop', 'import jax\nstep = jax.pmap(abs)'),
        ('avsc_jax.training.loop', 'from jax import pmap'),
    ],
)
def test_a_forbidden_line_is_found(module: str, source: str) -> None:
    assert len(complaints(source, tuple(module.split('.')))) == 1


@pytest.mark.parametrize(
    ('module', 'source'),
    [
        ('avsc_jax.training.train', 'from avsc_jax import __version__, report, runs'),
        ('avsc_jax.data.sources.tfds', 'def f():\n    from tfds_tau import demo'),
        ('avsc_jax.training.loop', 'from avsc_jax.training import steps\nfrom . import state'),
        ('avsc_jax.training.steps', 'import jax\nstep = jax.pmap(abs)'),
        ('avsc_jax.weights.read', 'def f():\n    import h5py'),
        ('avsc_jax.serve.app', 'from avsc_jax.predict import media_files'),
        (
            'tfds_tau.build',
            'from avsc_jax.data.builder import base\nfrom avsc_jax.data.media import pick',
        ),
        ('avsc_jax.input_pipeline.feature_cache', 'import torchmetrics_of_another_name, flax'),
    ],
)
def test_an_allowed_line_is_let_through(module: str, source: str) -> None:
    assert complaints(source, tuple(module.split('.'))) == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f'import sys, avsc_jax; print([name for name in {HEAVY} if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
