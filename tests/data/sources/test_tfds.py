"""The package tfds_tau is found by its name, and another one in its way is named."""

import subprocess
import sys
from pathlib import Path


def test_another_tfds_tau_in_the_working_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / 'tfds_tau').mkdir()
    (tmp_path / 'tfds_tau/__init__.py').touch()
    command = 'from avsc_jax.data.sources import tfds; tfds.demo_media(tfds.Path("data"))'
    done = subprocess.run(
        [sys.executable, '-c', command], cwd=tmp_path, capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    hiding = tmp_path / 'tfds_tau/__init__.py'
    assert last.startswith(f'ValueError: {hiding} hides the tfds_tau'), done.stderr
    assert not (tmp_path / 'data').exists()
