"""Every command shows its help at once: nothing that takes long to load is loaded for it."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = ('predict', 'score', 'convert', 'export', 'serve', 'robustness')
LINES = [[name] for name in COMMANDS] + [
    ['score', name] for name in ('check', 'compare', 'runs', 'modalities', 'paper')
]
HEAVY = {
    *('jax', 'jaxlib', 'flax', 'orbax', 'scipy', 'numpy', 'librosa', 'matplotlib'),
    *('transformers', 'tensorflow_datasets', 'jaxtyping'),
}
MODULES = """
import runpy, sys
name, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(name, run_name='__main__', alter_sys=True)
finally:
    print(*sys.modules)
"""
LONGEST_S = 0.25  # beyond Python's own start with argparse


@pytest.mark.parametrize('line', LINES, ids=' '.join)
def test_help_loads_nothing_heavy(line: list[str]) -> None:
    name, *rest = line
    command = [sys.executable, '-c', MODULES, f'avsc_jax.{name}', *rest, '--help']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usage, *_, loaded = done.stdout.splitlines()
    assert usage.startswith(f'usage: python -m avsc_jax.{" ".join(line)} ')
    assert HEAVY & {*loaded.split()} == set()


def seconds(*arguments: str) -> float:
    """The median time of ten processes."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@pytest.mark.slow
@pytest.mark.parametrize('name', COMMANDS)
def test_help_is_there_at_once(name: str) -> None:
    start_s = seconds('-c', 'import argparse')
    assert seconds('-m', f'avsc_jax.{name}', '--help') < start_s + LONGEST_S
