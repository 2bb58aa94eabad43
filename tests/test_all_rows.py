"""benchmarks/all_rows.py: rows of docs/systems.md before and after a change of the code."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location('all_rows', ROOT / 'benchmarks/all_rows.py')
all_rows = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(all_rows)
ROWS = ('C03', 'IOA resnet1d logmel')


def test_rows_come_after_those_that_they_are_made_of() -> None:
    names = all_rows.with_parts(['E02', 'IOA 1'])
    assert {'A01', 'V03', 'C04', 'IOA resnet50', 'IOA 1', 'E02'} < {*names}
    for place, name in enumerate(names):
        assert {*all_rows.ROWS[name].before} <= {*names[:place]}


@pytest.mark.slow
def test_rows_run_once_and_what_changes_is_named(tmp_path: Path) -> None:
    before = tmp_path / 'before'
    command = [sys.executable, 'benchmarks/all_rows.py']
    chosen = [f'--row={name}' for name in ROWS]
    noted = []
    for _ in range(2):  # the second finds the rows of the first, with their seconds
        done = subprocess.run([*command, str(before), *chosen], cwd=ROOT, capture_output=True)
        assert not done.returncode, done.stdout.decode() + done.stderr.decode()
        files = {name: before / f'rows/{name}.json' for name in ROWS}
        noted.append({name: json.loads(file.read_text()) for name, file in files.items()})
    notes = noted[0]
    assert noted[1] == notes
    assert all(note['status'] == 'ran' for note in notes.values())
    assert 'predictions test probs' in notes['C03']['sums']
    assert any(key.startswith('features ') for key in notes[ROWS[1]]['sums'])
    assert any(key.startswith('parameters ') for key in notes[ROWS[1]]['sums'])

    after = shutil.copytree(before / 'rows', tmp_path / 'after/rows').parent
    assert all_rows.compare(before, after, 0.0) == []
    arrays = dict(np.load(after / 'rows/C03.npz'))
    arrays['predictions test probs'] += 1e-5
    np.savez(after / 'rows/C03.npz', **arrays)
    other = notes['C03']['sums'] | {'predictions test probs': 'another'}
    (after / 'rows/C03.json').write_text(json.dumps(notes['C03'] | {'sums': other}))
    (line,) = all_rows.compare(before, after, 1e-6)
    assert line.startswith('C03: predictions test probs: differs by 1e-05')
    assert all_rows.compare(before, after, 1e-4) == []
    (after / f'rows/{ROWS[1]}.json').unlink()
    assert f'{ROWS[1]}: not run' in all_rows.compare(before, after, 1e-4)
