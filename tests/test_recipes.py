"""CONTRIBUTING's recipes, followed to the letter in a copy of the tree."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
PARTS = ('avsc_jax', 'configs', 'tfds_tau', 'tests/models')
BLOCK = re.compile(r'^```(python|bash)\n(.*?)^```', re.MULTILINE | re.DOTALL)
TABLE = re.compile(r'# (\S+), in (\w+)')


def add_to_table(path: Path, table: str, lines: list[str]) -> None:
    """Adds the lines that are rows at the head of a table, and the others above it."""
    rows = [f'    {line}' for line in lines if line.startswith("'")]
    others = [line for line in lines if not line.startswith("'")]
    text = path.read_text().splitlines()
    (start,) = (n for n, line in enumerate(text) if re.match(rf'{table}\b.* = .$', line))
    path.write_text('\n'.join([*text[:start], *others, text[start], *rows, *text[start + 1 :]]))


@pytest.mark.slow
def test_each_recipe_ends_in_what_it_promises(tmp_path: Path, data_dir: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns('__pycache__'))
    (tmp_path / 'media').mkdir()
    for pitch, name in enumerate(f'{room}-{k}' for room in ('bath', 'kitchen') for k in (1, 2, 3)):
        tone = 0.1 * np.sin(np.arange(16000) * (1 + pitch) / 9)
        soundfile.write(tmp_path / f'media/{name}.wav', tone, 8000)
    section = (ROOT / 'CONTRIBUTING.md').read_text().partition('\n## Recipes\n')[2]
    section = section.partition('\n## ')[0]
    environment = os.environ | {'PYTHONPATH': str(tmp_path), 'TFDS_DATA_DIR': str(data_dir)}
    commands = []
    for kind, block in BLOCK.findall(section):
        first, *lines = block.splitlines()
        if kind == 'bash':
            for command in block.splitlines():
                words = command.replace('python', sys.executable, 1).split()
                done = subprocess.run(
                    words, cwd=tmp_path, env=environment, capture_output=True, text=True
                )
                assert not done.returncode, f'{command}\n{done.stdout}{done.stderr}'
                commands.append(command)
        elif row := TABLE.fullmatch(first):
            add_to_table(tmp_path / row[1], row[2], lines)
        else:
            path = tmp_path / first.removeprefix('# ')
            assert not path.exists() and path.suffix == '.py', first
            path.parent.mkdir(exist_ok=True)
            path.write_text('\n'.join([*lines, '']))
    assert len(commands) >= 5
    runs = tmp_path / 'runs'
    for command in commands:
        folder = tmp_path / re.search(r'--(?:workdir|out)=(\S+)', command)[1]
        assert (folder / 'report.json').exists(), command
    assert json.loads((runs / 'rooms/classes.json').read_text()) == ['bath', 'kitchen']
    report = json.loads((runs / 'scores/report.json').read_text())
    assert 'largest probability of runs/frames, runs/band_power' in json.dumps(report)
    assert 'brier_micro' in json.dumps(json.loads((runs / 'brier/report.json').read_text()))
