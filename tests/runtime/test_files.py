"""Files appear whole or not at all, and names and lists are fit for a terminal and a sentence."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from avsc_jax.runtime import files


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_is_there_when_the_block_has_ended_and_not_before(tmp_path):
    path = tmp_path / 'a.txt'
    with files.whole(path) as beside:
        beside.write_text('new')
        assert beside.parent == tmp_path and not path.exists()
    assert path.read_text() == 'new' and names(tmp_path) == ['a.txt']


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_what_was_there_and_nothing_beside(tmp_path, error):
    path = tmp_path / 'a.txt'
    files.write_text(path, 'old')
    with pytest.raises(error), files.whole(path) as beside:
        beside.write_text('half')
        raise error
    assert path.read_text() == 'old' and names(tmp_path) == ['a.txt']


def test_a_writer_that_is_killed_leaves_what_was_there(tmp_path):
    path = tmp_path / 'a.txt'
    files.write_text(path, 'old')
    code = (
        'import sys; from avsc_jax.runtime import files\n'
        'with files.whole(sys.argv[1]) as beside:\n'
        '    beside.write_text("half"); print("begun", flush=True); sys.stdin.read()'
    )
    command = [sys.executable, '-c', code, str(path)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b'begun\n'
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == 'old'


def test_a_folder_is_written_like_a_file(tmp_path):
    with files.whole(tmp_path / 'run') as beside:
        beside.mkdir()
        (beside / 'a').write_text('x')
    assert (tmp_path / 'run/a').read_text() == 'x'
    with pytest.raises(ValueError), files.whole(tmp_path / 'other') as beside:
        beside.mkdir()
        (beside / 'a').write_text('x')
        raise ValueError
    assert names(tmp_path) == ['run']


def test_text_bytes_and_arrays_come_back_as_they_were(tmp_path):
    files.write_text(tmp_path / 'a', 'ä\r\n\n')
    assert (tmp_path / 'a').read_bytes() == 'ä\r\n\n'.encode()
    files.write_bytes(tmp_path / 'b', b'\0\1')
    assert (tmp_path / 'b').read_bytes() == b'\0\1'
    files.write_arrays(tmp_path / 'c.npz', x=np.arange(3), y=np.float32([1.5]))
    with np.load(tmp_path / 'c.npz') as found:
        assert found['x'].tolist() == [0, 1, 2] and found['y'].dtype == np.float32


def test_a_header_of_fewer_rows_is_found_out_where_numpy_takes_it(tmp_path):
    path = tmp_path / 'a.npz'
    files.write_arrays(path, x=np.arange(200_000))
    np.testing.assert_array_equal(files.read_arrays(path)['x'], np.arange(200_000))
    path.write_bytes(path.read_bytes().replace(b"'shape': (200000,)", b"'shape': (100000,)"))
    with np.load(path) as lenient:
        assert len(lenient['x']) == 100_000  # it never comes to the archive's checksum
    with pytest.raises(ValueError, match=r'a\.npz is damaged \(Bad CRC-32'):
        files.read_arrays(path)
    with pytest.raises(FileNotFoundError):
        files.read_arrays(tmp_path / 'none.npz')


def test_json_with_its_digest_comes_back_or_is_damaged(tmp_path):
    path = tmp_path / 'a.json'
    files.write_checked_json(path, {'a': [1, 'b']})
    assert files.read_checked_json(path) == {'a': [1, 'b']}
    path.write_text(path.read_text().replace('"b"', '"c"'))
    for text in (path.read_text(), '[]', '{', '{"sha256": 3}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r'a\.json is damaged'):
            files.read_checked_json(path)


HOLD = (
    'import sys; from pathlib import Path; from avsc_jax.runtime import files\n'
    'with files.locked(Path(sys.argv[1])):\n'
    '    print("begun", flush=True); sys.stdin.read()'
)


def test_a_lock_names_its_holder_and_a_killed_one_frees_it(tmp_path, capsys):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    command = [sys.executable, '-c', HOLD, str(tmp_path / 'run')]
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b'begun\n'
        wanted = f'run is in use by process {process.pid} on {socket.gethostname()}; wait for it$'
        for _ in range(2):  # who is refused does not spoil the holder's name
            with (
                pytest.raises(files.Busy, match=wanted),
                files.locked(tmp_path / 'run', busy='wait for it'),
            ):
                pytest.fail('two hold it')
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path) == ['run.lock']
    with files.locked(tmp_path / 'run', busy='wait for it'):
        holder = (tmp_path / 'run.lock').read_text()
        assert holder == f'process {os.getpid()} on {socket.gethostname()}'
    assert names(tmp_path) == []


def test_a_lock_that_outlives_its_holder_ends_the_wait_and_says_what_to_do(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(files, 'DEAD_WAIT_S', 0.1)
    with subprocess.Popen(['true']) as ended:
        pass
    with files.locked(tmp_path / 'run'):
        (tmp_path / 'run.lock').write_text(f'process {ended.pid} on {socket.gethostname()}')
        wanted = (
            f'locked after 0 minutes by process {ended.pid} .*has ended; .*delete .*run.lock, and'
        )
        with pytest.raises(files.Busy, match=wanted), files.locked(tmp_path / 'run'):
            pytest.fail('two hold it')
        assert capsys.readouterr().err.startswith(f'waiting for process {ended.pid} on ')
        for holder in (f'process {ended.pid} on another', f'process {os.getppid()} on x', 'x', ''):
            assert not files._has_ended(holder)
        monkeypatch.setattr(files, 'LONGEST_WAIT_S', 0.1)
        (tmp_path / 'run.lock').write_text(f'process {ended.pid} on another')
        with pytest.raises(files.Busy, match='may have ended'), files.locked(tmp_path / 'run'):
            pytest.fail('two hold it')


CROWD = """
import sys, time
from pathlib import Path
from avsc_jax.runtime import files

place = Path(sys.argv[1])
for _ in range(20):
    with files.locked(place):
        count = int(place.read_text())
        time.sleep(0.001)
        place.write_text(str(count + 1))
"""


@pytest.mark.slow
def test_a_crowd_at_one_lock_counts_right(tmp_path):
    (tmp_path / 'count').write_text('0')
    command = [sys.executable, '-c', CROWD, str(tmp_path / 'count')]
    crowd = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(6)]
    assert [process.wait() for process in crowd] == [0] * 6
    assert (tmp_path / 'count').read_text() == '120' and names(tmp_path) == ['count']


def test_a_link_is_the_same_file_or_a_copy_of_it(tmp_path, monkeypatch):
    (tmp_path / 'a').write_text('x')
    files.link(tmp_path / 'a', tmp_path / 'b')
    assert (tmp_path / 'b').samefile(tmp_path / 'a')

    def refuse(self, target):
        raise OSError

    monkeypatch.setattr(type(tmp_path), 'hardlink_to', refuse)
    files.link(tmp_path / 'a', tmp_path / 'c')
    assert (tmp_path / 'c').read_text() == 'x' and not (tmp_path / 'c').samefile(tmp_path / 'a')


def test_a_long_list_is_cut_in_a_sentence():
    assert files.some([]) == ''
    assert files.some(['a', 'b', 'c']) == 'a, b, c'
    assert files.some([1, 2, 3, 4]) == '1, 2, 3, ...'
    assert files.some('abc', most=1) == 'a, ...'


def test_control_characters_of_a_name_do_not_reach_the_terminal():
    assert files.printable('a\x1b[2Jb\nc') == 'a�[2Jb�c'


def test_threads_that_write_one_file_leave_one_of_their_texts_whole(tmp_path):
    path, texts = tmp_path / 'a', [letter * 50_000 for letter in 'abcd']
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(files.write_text, [path] * 40, texts * 10))
    assert path.read_text() in texts and names(tmp_path) == ['a']


def test_a_stamp_changes_with_size_time_and_number(tmp_path):
    path, other = tmp_path / 'a', tmp_path / 'b'
    assert files.stamp(path) == []
    path.write_bytes(b'abc')
    os.utime(path, ns=(5, 5))
    assert files.stamp(path, inode=False) == [3, 5]
    assert files.stamp(path) == [3, 5, path.stat().st_ino]
    other.write_bytes(b'abc')
    os.utime(other, ns=(5, 5))
    before = files.stamp(path)
    other.replace(path)
    assert files.stamp(path) != before and files.stamp(path, inode=False) == before[:2]
