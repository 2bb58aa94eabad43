"""Media files tagged by the workers of an Apache Beam runner give what the local command gives.

The runner is Beam's FnApiRunner, which DirectRunner means here, with two processes.
"""

import functools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from avsc_jax.data.decode_workers import Limits
from avsc_jax.predict import __main__ as predict
from avsc_jax.predict import flags as flag_parsing
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


@pytest.mark.tf
@pytest.mark.slow
def test_a_job_killed_at_any_moment_goes_on_and_ends_like_an_unbroken_one(
    both, clips, tmp_path, monkeypatch, capsys
):
    """All processes of its group are killed, some time after its first task is done."""
    pytest.importorskip('apache_beam')
    monkeypatch.setattr(on_beam, 'FILES_PER_TASK', 2)
    assert predict.main([str(clips), *flags(both, tmp_path / 'whole'), *HERE]) == 1
    killed = [str(clips), *flags(both, tmp_path / 'killed'), *TWO]
    code = f'{SLOWLY}\npredict.main({killed})'
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
    parts = tmp_path / 'killed/out.jsonl.parts'
    with subprocess.Popen([sys.executable, '-c', code], env=environment, process_group=0) as job:
        while len([*parts.glob('*.jsonl')] if parts.exists() else ()) < 1:
            assert job.poll() is None
            time.sleep(0.01)
        time.sleep(random.random())
        os.killpg(job.pid, signal.SIGKILL)
    finished = sum(path.read_text().count('\n') for path in parts.glob('*.jsonl'))
    assert {path.name for path in (tmp_path / 'killed').iterdir()} <= {
        'out.jsonl.parts', *(f'out.{end}.lock' for end in ENDS.values()),
    }  # fmt: skip
    for left in parts.glob('*.tmp'):
        left.write_text('{"file": "half')
    capsys.readouterr()
    assert predict.main([*killed[: -len(TWO)], *HERE]) == 1
    assert f'{finished} of 18 files are finished' in capsys.readouterr().err or finished == 18
    for lock in (tmp_path / 'killed').glob('*.lock'):
        lock.unlink()
    assert contents(tmp_path / 'killed') == contents(tmp_path / 'whole')


SLOWLY = """
from avsc_jax.predict import __main__ as predict
from avsc_jax.predict import on_beam
on_beam.FILES_PER_TASK = 2
"""


@pytest.mark.tf
def test_a_task_that_is_done_twice_gives_each_file_one_row(both, clips, tmp_path, monkeypatch):
    pytest.importorskip('apache_beam')
    tagged, tag = [], media_files.tag

    def counting(predictor, files, **options):
        tagged.extend(files)
        return tag(predictor, files, **options)

    monkeypatch.setattr(media_files, 'tag', counting)
    again = '--direct_runner_bundle_repeat=1'  # the runner does each bundle once more
    assert predict.main([str(clips), *flags(both, tmp_path / 'out'), *HERE, again]) == 1
    assert len(tagged) == 36
    lines = (tmp_path / 'out/out.jsonl').read_text().splitlines()
    assert [json.loads(line)['file'] for line in lines] == sorted(map(str, clips.iterdir()))
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        f'out.{end}' for end in ENDS.values()
    }


@pytest.mark.tf
def test_workers_that_do_not_share_the_folder_are_an_error(both, clips, tmp_path, monkeypatch):
    pytest.importorskip('apache_beam')
    monkeypatch.setattr(on_beam, 'write_text', lambda path, text: None)
    out = tmp_path / 'out.csv'
    with pytest.raises(ValueError, match=r'^18 of 18 files were tagged, but .* have to share'):
        predict.main([str(clips), f'--model={both}', '--window=2', f'--csv={out}', *HERE])
    assert not out.exists()


@pytest.mark.tf
def test_an_error_of_a_worker_is_one_sentence(both, clips, tmp_path, monkeypatch):
    pytest.importorskip('apache_beam')

    def broken(args):
        raise FileNotFoundError('there is no run here')

    beam._opened.cache_clear()
    monkeypatch.setattr(on_beam, 'opened', broken)
    command = [str(clips), f'--model={both}', f'--csv={tmp_path / "out.csv"}', *HERE]
    with pytest.raises(ValueError, match=r'^DirectRunner has given up.*: .*there is no run here'):
        predict.main([*command])


def test_tasks_are_cut_by_number_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr(on_beam, 'FILES_PER_TASK', 3)
    monkeypatch.setattr(on_beam, 'BYTES_PER_TASK', 10)
    sizes = (1, 1, 1, 1, 10, 4, 6, 11)
    files = [tmp_path / str(k) for k in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(bytes(size))
    places = [[int(file.name) for file in task] for task in on_beam.tasks(files)]
    assert places == [[0, 1, 2], [3], [4], [5, 6], [7]]
    assert [*on_beam.tasks([])] == []


def test_a_job_that_goes_on_has_the_rests_of_the_tasks_of_an_unbroken_one(tmp_path, monkeypatch):
    handed = []
    monkeypatch.setattr(beam, 'run', lambda job, tasks, runner: handed.extend(tasks))
    monkeypatch.setattr(on_beam, 'FILES_PER_TASK', 4)
    files = [tmp_path / str(k) for k in range(10)]
    args = flag_parsing.parse([str(tmp_path), f'--csv={tmp_path / "a.csv"}', *HERE])
    journal = Journal(tmp_path / 'a.jsonl', {})
    todo = [files[k] for k in (1, 5, 6, 9)]
    with pytest.raises(ValueError, match=r'^4 of 4 files were tagged, but their answers are not'):
        on_beam.tag(files, todo, journal, args, {}, Limits())
    assert [[int(file.name) for file in task] for task in handed] == [[1], [5, 6], [9]]


def test_a_worker_that_opens_another_system_is_an_error(tmp_path, monkeypatch):
    other = SimpleNamespace(title='run', content_hash='abc')
    monkeypatch.setattr(on_beam, 'opened', lambda args: other)
    args = flag_parsing.parse([str(tmp_path), f'--csv={tmp_path / "a.csv"}', *HERE])
    about = (('model', 'run def'), ('window_s', 2.0))
    with pytest.raises(ValueError, match=r'^a worker has opened run abc, not run def; the workers'):
        on_beam.Tagging(about, tmp_path, Limits(), args).open()


def test_the_local_command_goes_on_with_what_workers_have_written(both, clips, tmp_path, capsys):
    command = [str(clips), f'--model={both}', '--window=2', f'--csv={tmp_path / "out.csv"}']
    assert predict.main([*command, f'--jsonl={tmp_path / "all.jsonl"}']) == 1
    parts = tmp_path / 'out.csv.unfinished.jsonl.parts'
    parts.mkdir()
    lines = (tmp_path / 'all.jsonl').read_text().splitlines(keepends=True)
    (parts / '0.jsonl').write_text(''.join(lines[:9]))
    capsys.readouterr()
    assert predict.main(command) == 1
    assert '9 of 18 files are finished' in capsys.readouterr().err
    assert not parts.exists()


@pytest.mark.parametrize(
    ('flags', 'sentence'),
    [
        (['--runner=DirectRunner'], '--runner needs an output in a folder'),
        (['--runner=DirectRunner', '--csv=a.csv', '--shard=0/2'], '--shard and --runner exclude'),
        (['--runner=DirectRunner', '--csv=a.csv', '--report=r'], '--report and --runner exclude'),
    ],
)
def test_flags_that_do_not_go_with_a_runner_are_errors(clips, flags, sentence):
    with pytest.raises(ValueError, match=sentence):
        predict.main([str(clips), *flags])
