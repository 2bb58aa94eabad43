"""Several processes do one job: what each makes and says, and the numbers of a lone process."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from avsc_jax import tables
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import multihost
from avsc_jax.training.steps import Steps

ROOT = Path(__file__).parents[2]
# The main job on small blocks, which tells each block that it writes.
MAIN = """
import sys
from avsc_jax import main
from avsc_jax.input_pipeline import feature_cache as features

def told(file, *arguments):
    print('wrote', file, file=sys.stderr)
    write(file, *arguments)

features.CLIPS_PER_BLOCK, write, features._write_block = 4, features._write_block, told
main.run()
"""
FAIL = """
import sys
from avsc_jax.runtime import cli, multihost

def work(_):
    multihost.initialize()
    if not multihost.is_first():
        raise ValueError('clip 7 is broken')
    multihost.wait('features')

sys.exit(cli.main(work))
"""


def start(program, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, '-c', program, *arguments],
        cwd=ROOT,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu', **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(program, *arguments):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{free.getsockname()[1]}'
    settings = dict(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES='2')
    return [start(program, *arguments, JAX_PROCESS_ID=str(index), **settings) for index in range(2)]


def ends(processes):
    """Exit code, output and errors of each, once all have ended."""
    outputs = [process.communicate(timeout=500) for process in processes]
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]


def written(err):
    return set(re.findall(r'wrote (\S+)', err))


def assert_same(one, other):
    lines, same = (
        [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
        for folder in (one, other)
    )
    assert len(lines) == len(same)
    for a, b in zip(lines, same, strict=True):
        assert a == pytest.approx(b, abs=1e-6)
    a, b = (tables.read(folder / 'predictions/test.npz') for folder in (one, other))
    assert a.clip_id.tolist() == b.clip_id.tolist()
    # Sums over two devices do not depend on where the devices are; measured: no bit differs.
    np.testing.assert_allclose(a.probs, b.probs, atol=1e-6)
    a, b = (
        jax.tree.leaves(json.loads((folder / 'report.json').read_text())['scores'])
        for folder in (one, other)
    )
    numbers = [i for i, value in enumerate(a) if isinstance(value, float)]
    np.testing.assert_allclose([a[i] for i in numbers], [b[i] for i in numbers], atol=1e-6)


@pytest.mark.slow
def test_two_processes_end_with_the_numbers_of_one_with_two_devices(
    data_dir, tmp_path, one_encoder
):
    own = tmp_path / 'data'  # others read the features of the shared one
    shutil.copytree(data_dir, own, symlinks=True, ignore=shutil.ignore_patterns('features'))
    one, two, cut = (tmp_path / name / 'run' for name in ('one', 'two', 'cut'))
    job = ['--config=configs/clip_fusion.py:demo', *one_encoder, f'--data_dir={own}']
    job += ['--config.epochs=12']
    [(code, out, err)] = ends([start(MAIN, *job, f'--workdir={one}', JAX_NUM_CPU_DEVICES='2')])
    assert code == 0, err
    blocks = written(err)
    assert len(blocks) == 5 + 3  # train, test

    shutil.rmtree(own / 'features')
    both = ends(start_two(MAIN, *job, f'--workdir={two}', '--multihost'))
    (code, out, err), (other, silence, also) = both
    assert (code, other) == (0, 0), err + also
    assert 'clip, 10 items' in out and 'clip' not in silence  # gloo prints a line
    assert 'training' in err and 'training' not in also
    shares = [written(text) for text in (err, also)]
    assert [len(share) for share in shares] == [3 + 2, 2 + 1]
    assert set.union(*shares) == blocks
    assert_same(one, two)

    # One is killed as it trains: the other ends by itself, and both go on to the same numbers.
    job += [f'--workdir={cut}', '--multihost']
    processes, lines = start_two(MAIN, *job), cut / 'metrics.jsonl'
    while not lines.exists() or len(lines.read_text().splitlines()) < 3:
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    assert ends(processes)[0][0] != 0 and not (cut / 'DONE').exists()
    (code, _, err), (other, _, also) = ends(start_two(MAIN, *job))
    assert (code, other) == (0, 0), err + also
    assert lines.read_bytes() == (two / 'metrics.jsonl').read_bytes()
    assert_same(one, cut)


@pytest.mark.slow
def test_a_process_that_fails_ends_without_waiting_for_the_others():
    first, failing = start_two(FAIL)
    _, err = failing.communicate(timeout=100)  # JAX would wait for five minutes
    assert failing.returncode == 1 and 'error: clip 7 is broken' in err
    first.kill()  # the coordinator would end it after 100 s without a sign of life of the other
    first.communicate()


def test_a_process_that_finds_no_others_says_what_to_set():
    code = (
        'from avsc_jax.runtime import cli, multihost; '
        'raise SystemExit(cli.main(lambda _: multihost.initialize()))'
    )
    environment = {k: v for k, v in os.environ.items() if k not in multihost.VARIABLES}
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        'error: --multihost: the processes did not find each other (coord'
    )
    assert 'set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID for each' in done.stderr


def test_a_lone_process_is_the_first_and_waits_for_nobody():
    assert multihost.is_first()
    multihost.wait('here')


def test_a_run_folder_that_is_not_shared_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(multihost, 'is_first', lambda: False)
    with pytest.raises(FileNotFoundError, match='give a --workdir that all processes share'):
        RunFolder(tmp_path / 'run').begin({})
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('index', 'places'), [(0, [0, 1]), (1, [2, 3])])
def test_each_process_takes_its_own_places_of_every_batch(monkeypatch, index, places):
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setattr(jax, 'process_index', lambda: index)
    order = np.arange(12).reshape(3, 4)
    assert Steps.local(None, order).tolist() == order[:, places].tolist()
