"""The measurement of a GPU runs on any device, and keeps what it has measured."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def gpu():
    spec = importlib.util.spec_from_file_location('gpu', ROOT / 'benchmarks/gpu.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['gpu'] = module  # its dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


def test_a_section_that_fails_keeps_the_rows_that_it_has(gpu, tmp_path):
    def rows():
        yield {'network': 'a', 'images/s': 12345.6}
        raise RuntimeError('RESOURCE_EXHAUSTED: out of memory\nmore')

    result = gpu.measured(gpu.Section(rows, 10), left_s=60)
    assert result['note'] == 'ended by RuntimeError: RESOURCE_EXHAUSTED: out of memory'
    gpu.write(tmp_path / 'out', {'training': result})
    assert json.loads((tmp_path / 'out.json').read_text())['training']['rows'][0]['network'] == 'a'
    assert '| a | 12,346 |' in (tmp_path / 'out.md').read_text()


def test_a_section_without_time_or_libraries_is_left_out(gpu):
    section = gpu.Section(lambda: iter([{'x': 1}]), 100, ('numpy', 'no_such_library'))
    assert gpu.measured(section, left_s=500)['note'] == 'not run: no_such_library missing'
    section = gpu.Section(lambda: iter([{'x': 1}]), 100, ('numpy',))
    assert gpu.measured(section, left_s=50)['note'] == 'not run: 50 s were left'
    assert gpu.measured(section, left_s=100)['rows'] == [{'x': 1}]


def test_all_sections_fit_the_budget_but_for_the_jobs(gpu):
    assert sum(s.expected_s for name, s in gpu.SECTIONS.items() if name != 'jobs') <= 480


@pytest.mark.slow
def test_every_section_runs_small(tmp_path):
    sections = [
        *('devices', 'parity', 'training', 'towers', 'late_fusion', 'front_ends', 'openl3'),
    ]
    command = [sys.executable, 'benchmarks/gpu.py', '--tiny', '--out', str(tmp_path / 'gpu')]
    subprocess.run([*command, '--only', *sections], cwd=ROOT, check=True)
    results = json.loads((tmp_path / 'gpu.json').read_text())
    assert [*results] == sections
    assert all(result['rows'] and not result['note'] for result in results.values())
