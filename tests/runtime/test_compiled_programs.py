"""Compiled programs are kept for later starts, in a folder of the user's own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from avsc_jax.runtime import compiled_programs

CACHE = ('jax_compilation_cache_dir', 'jax_compilation_cache_max_size')
CACHE += ('jax_persistent_cache_min_compile_time_secs',)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home, and JAX without a folder of compiled programs."""
    before = {name: getattr(jax.config, name) for name in CACHE}
    monkeypatch.setenv('HOME', str(tmp_path))
    jax.config.update('jax_compilation_cache_dir', None)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_a_folder_of_the_user_alone(home):
    compiled_programs.keep()
    folder = Path(jax.config.jax_compilation_cache_dir)
    assert folder.parent == home / '.cache/avsc_jax/compiled'
    assert folder.stat().st_mode & 0o777 == 0o700
    assert 0 < jax.config.jax_compilation_cache_max_size <= 1 << 28


def test_a_folder_that_others_can_write_into_is_not_used(home):
    compiled_programs.keep()
    folder = Path(jax.config.jax_compilation_cache_dir)
    jax.config.update('jax_compilation_cache_dir', None)
    folder.chmod(0o777)
    compiled_programs.keep()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_home_that_cannot_be_written_to_keeps_nothing(home):
    (home / '.cache').write_text('')  # no folder can be made below it
    compiled_programs.keep()
    assert jax.config.jax_compilation_cache_dir is None


def test_the_folder_that_the_user_names_is_used(home):
    jax.config.update('jax_compilation_cache_dir', str(home / 'own'))
    compiled_programs.keep()
    assert jax.config.jax_compilation_cache_dir == str(home / 'own')
    assert not (home / '.cache').exists()


STARTS = """
import jax, jax.monitoring
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
from avsc_jax.runtime import compiled_programs
compiled_programs.LEAST_S = 0.0
compiled_programs.keep()
print(jax.jit(lambda x: (x @ x.T).sum())(jax.numpy.ones((3, 3))))
print(sum(name.endswith('cache_hits') for name in hits))
"""


@pytest.mark.slow
def test_a_second_start_compiles_nothing_and_a_damaged_program_is_made_again_in_silence(tmp_path):
    unset = ('JAX_COMPILATION_CACHE_DIR',)
    own = {k: v for k, v in os.environ.items() if k not in unset} | {'HOME': str(tmp_path)}

    def start():
        line = [sys.executable, '-c', STARTS]
        done = subprocess.run(line, env=own, capture_output=True, text=True, check=True)
        assert not done.stderr
        result, hits = done.stdout.splitlines()
        assert result == '27.0'
        return int(hits)

    assert start() == 0 and start() > 0
    for program in tmp_path.rglob('*-cache'):
        program.write_bytes(program.read_bytes()[: program.stat().st_size // 2])
    assert start() == 0
