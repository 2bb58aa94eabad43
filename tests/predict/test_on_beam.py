"""Media files tagged by the workers of an Apache Beam runner give what the local command gives.

The runner is Beam's FnApiRunner, which DirectRunner means here, with two processes.
"""

import functools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from avsc_jax.predict import __main__ as predict
from avsc_jax.predict import media_files, on_beam
from avsc_jax.predict.resume import Journal
from avsc_jax.runtime import beam

TWO = ('--runner=DirectRunner', '--', '--direct_num_workers=2')
TWO += ('--direct_running_mode=multi_processing',)
HERE = ('--runner=DirectRunner', '--')
ENDS = {'csv': 'csv', 'timeline': 'tsv', 'jsonl': 'jsonl', 'embeddings': 'npz'}


@pytest.fixture(scope='module')
def clips(tmp_path_factory, film):
    """A folder of sixteen clips of one window each, and two broken files."""
    folder = tmp_path_factory.mktemp('media') / 'clips'
    for key in range(3):
        film(folder / f'good {key}.mp4', key=key)
    film(folder / 'deaf.mp4', sound=False, key=5)
    for key in range(3, 15):
        shutil.copyfile(folder / f'good {key % 3}.mp4', folder / f'good {key}.mp4')
    (folder / 'text.mp4').write_text('no film')
    (folder / 'zero.mp4').touch()
    return folder


def flags(run, folder):
    folder.mkdir(exist_ok=True)
    written = [f'--{name}={folder / f"out.{end}"}' for name, end in ENDS.items()]
    return [f'--model={run}', '--window=2', *written]


def contents(folder):
    """The bytes of each output, but the arrays of the archive, whose entries have times."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with np.load(folder / 'out.npz') as arrays:
        files['out.npz'] = {name: (a.tolist(), a.dtype) for name, a in arrays.items()}
    return files


@pytest.mark.tf
def test_two_workers_write_the_same_bytes_as_the_local_command(
    both, clips, tmp_path, monkeypatch, capsys
):
    pytest.importorskip('apache_beam')
    endless = functools.partial(media_files.tag, pause_s=math.inf)
    with monkeypatch.context() as patch:  # batches of eight, however slow this machine is
        patch.setattr(media_files, 'tag', endless)
        assert predict.main([str(clips), *flags(both, tmp_path / 'here'), '--workers=1']) == 1
    here = capsys.readouterr()
    monkeypatch.setattr(on_beam, 'FILES_PER_TASK', 8)
    assert predict.main([str(clips), *flags(both, tmp_path / 'there'), *TWO]) == 1
    there = capsys.readouterr()
    assert '18 files in 3 tasks go to DirectRunner' in there.err
    assert sorted(there.out.splitlines()) == sorted(here.out.splitlines())
    assert there.err.splitlines()[-5:] == here.err.splitlines()[-5:]
    assert contents(tmp_path / 'there') == contents(tmp_path / 'here')
