"""A full or read-only disk is one sentence, whatever library meets it; no file is half-written."""

import contextlib
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avsc_jax import tables
from avsc_jax.predict.media_files import Prediction
from avsc_jax.predict.resume import Journal
from avsc_jax.runtime import disk, files

NO_ROOM = 'No space left on device'


@contextlib.contextmanager
def small_files(num_bytes):
    """Lets this process write files of so many bytes at most."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def of_another(kind, text, cause=None):
    error = kind(text)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ('error', 'wanted'),
    [
        (OSError(errno.ENOSPC, NO_ROOM), rf'^a/b cannot be written: {NO_ROOM} \([\d,]+ bytes are'),
        (OSError(errno.EDQUOT, ''), '^a/b cannot be written: Disk quota exceeded '),
        (OSError(errno.EFBIG, ''), '^a/b cannot be written: File too large '),
        (OSError(errno.ENOSPC, '', 'a/b.12-34.tmp'), '^a/b cannot be written: '),
        (OSError(errno.EROFS, '', 'c'), '^c cannot be opened: Read-only file system; name another'),
        (OSError(errno.EACCES, '', 'c'), '^c cannot be opened: Permission denied; '),
        (OSError(errno.EPERM, '', 'c', None, 'd'), '^d cannot be opened: Operation not permitted'),
        (OSError(errno.ENOTDIR, '', b'c'), '^a/b cannot be opened: Not a directory; name another'),
        (OSError(errno.EEXIST, '', 'c'), '^c cannot be opened: File exists; name another place$'),
        (
            OSError(errno.EISDIR, '', 'c'),
            '^c cannot be opened: Is a directory; name',
        ),
        (RuntimeError(f'RESOURCE_EXHAUSTED: [{NO_ROOM}]'), '^a/b cannot be written: '),
        (ValueError(f'Failed writing: {NO_ROOM} [28]'), '^a/b cannot be written: '),
        (of_another(KeyError, 'x', OSError(errno.ENOSPC, '')), '^a/b cannot be written: '),
    ],
)
def test_errors_of_the_disk_are_a_sentence_with_path_and_room(error, wanted):
    with pytest.raises(disk.Unwritable, match=wanted), disk.writing('a/b'):
        raise error
    with pytest.raises(disk.Unwritable) as outer, disk.writing('outer'), disk.writing('a/b'):
        raise error
    assert 'outer' not in str(outer.value)


@pytest.mark.parametrize(
    'error',
    [
        OSError(errno.ENOENT, 'none', 'c'),
        RuntimeError('RESOURCE_EXHAUSTED: out of memory'),
        of_another(ValueError, 'c is damaged; delete it', OSError(errno.EACCES, '')),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as raised, disk.writing('a/b'):
        raise error
    assert raised.value is error


def write_table(path):
    label, segment = np.zeros(2000, np.int32), np.full(2000, -1, np.int32)
    meta = {'classes': ['a', 'b'], 'granularity': 'clip'}
    ids = np.array([f'clip {k}' for k in range(2000)])
    tables.write(tables.Predictions(ids, segment, label, np.full((2000, 2), 0.5), meta), path)


def append_to_journal(path):
    journal = Journal(path, {})
    for k in range(1000):
        journal.add(
            Prediction(path / f'{k}.mp4', [], [], [], 'no media', ('a', 'b')),
            ('a', 'b'),
            embedding=False,
        )


WRITERS = {
    'text.txt': lambda path: files.write_text(path, 'new ' * 5000),
    'bytes.bin': lambda path: files.write_bytes(path, bytes(20_000)),
    'arrays.npz': lambda path: files.write_arrays(path, x=np.zeros(5000)),
    'checked.json': lambda path: files.write_checked_json(path, {'x': 'new ' * 5000}),
    'table.npz': write_table,
    'table.csv': write_table,
}


@pytest.mark.parametrize('name', WRITERS)
def test_a_writer_without_room_names_the_file_and_leaves_what_was_there(tmp_path, name):
    path = tmp_path / name
    path.write_text('old')
    with (
        small_files(4096),
        pytest.raises(disk.Unwritable, match=f'^{path} cannot be written.*4,096 bytes'),
    ):
        WRITERS[name](path)
    assert path.read_text() == 'old' and len([*tmp_path.iterdir()]) == 1
    WRITERS[name](path)  # now there is room
    assert path.stat().st_size > 10_000


def test_a_journal_without_room_names_the_file_and_goes_on_when_there_is_room(tmp_path):
    path = tmp_path / 'a.jsonl'
    with (
        small_files(4096),
        pytest.raises(disk.Unwritable, match=f'^{path} cannot be written.*4,096 bytes'),
    ):
        append_to_journal(path)
    kept = len(Journal(path, {}).lines)
    assert 10 < kept < 100 and path.read_bytes().endswith(b'\n')
    append_to_journal(path)
    assert len(Journal(path, {}).lines) == 1000


def test_a_lock_of_a_full_disk_has_no_name_and_holds(tmp_path):
    with (
        small_files(0),
        files.locked(tmp_path / 'a'),
        pytest.raises(files.Busy, match=r'a is in use by another process; wait$'),
        files.locked(tmp_path / 'a', busy='wait'),
    ):
        pytest.fail('two hold it')
    assert not [*tmp_path.iterdir()]


def test_a_full_standard_output_is_one_sentence():
    code = 'import sys; from avsc_jax.runtime import cli; sys.exit(cli.main(lambda _: print("x")))'
    with Path('/dev/full').open('w') as full:
        done = subprocess.run(
            [sys.executable, '-c', code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, 'PYTHONUNBUFFERED': ''},
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f'error: the standard output cannot be written: {NO_ROOM}')
    assert done.stderr.count('\n') == 1
