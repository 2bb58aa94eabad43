"""Commands end in one sentence: after an error, and after a signal that a library holds up."""

import os
import signal
import subprocess
import sys
import time

import pytest

from avsc_jax.runtime import cli

STARTS = """
import os, subprocess, sys, threading, time
from pathlib import Path
from avsc_jax.runtime import cli, files

def work(_):
    cli.set_next_start('the same command goes on')
    child = subprocess.Popen(['sleep', '60'], process_group=0)
    with files.whole('a.txt') as beside, files.locked(Path('a.txt')):
        beside.write_text('half')
        print('an answer')  # into a buffer
        os.write(1, f'{child.pid}\\n'.encode())
        wait()

def sleep():
    time.sleep(60)

def held_up():
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass

def ignored():
    class Kept:
        def __del__(self):
            time.sleep(60)

    Kept()
    time.sleep(60)

def fails_otherwise():
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise RuntimeError('a library')
"""


def stopped(folder, waits, number, *, times=1, more=''):
    """A command that is signalled while it waits: (code, output, errors, its child, seconds)."""
    end = f'{more}\nwait = {waits}\nsys.exit(cli.main(work))'
    with subprocess.Popen(
        [sys.executable, '-c', STARTS + end],
        cwd=folder,
        env={**os.environ, 'PYTHONUNBUFFERED': ''},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        child = int(process.stdout.readline())
        began = time.monotonic()
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.1)
        try:
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    return process.returncode, out, err, child, time.monotonic() - began


@pytest.mark.parametrize(
    ('waits', 'number', 'given'),
    [
        ('sleep', signal.SIGINT, {}),
        ('sleep', signal.SIGTERM, {}),
        ('fails_otherwise', signal.SIGINT, {}),
        ('ignored', signal.SIGINT, {'more': 'cli.GRACE_S = 60'}),
        ('held_up', signal.SIGTERM, {'more': 'cli.GRACE_S = 0.2'}),
        ('held_up', signal.SIGINT, {'times': 2, 'more': 'cli.GRACE_S = 60'}),
    ],
)
def test_a_signal_ends_a_command_and_leaves_no_process_and_no_file(tmp_path, waits, number, given):
    code, out, err, child, seconds = stopped(tmp_path, waits, number, **given)
    assert code == 128 + number
    assert err == f'\nstopped by {number.name}; the same command goes on\n'
    assert out == 'an answer\n'
    assert [*tmp_path.iterdir()] == []
    assert not cli._is_running(child)
    assert seconds < 5


def test_a_signal_that_the_caller_ignores_stays_ignored():
    ignored = f'import signal; signal.signal({signal.SIGINT:d}, signal.SIG_IGN)\n'
    code = 'import os; cli.main(lambda _: os.kill(os.getpid(), 2)); print("goes on")'
    command = [sys.executable, '-c', f'{ignored}from avsc_jax.runtime import cli; {code}']
    assert subprocess.check_output(command, text=True) == 'goes on\n'


def test_the_handlers_of_the_caller_are_there_again(monkeypatch):
    before = [signal.getsignal(number) for number in cli.STOPPING]
    assert cli.main(lambda _: int(signal.getsignal(signal.SIGINT) is cli._interrupt)) == 1
    assert [signal.getsignal(number) for number in cli.STOPPING] == before


def test_what_is_said_of_the_next_start_holds_within_its_block(capsys):
    def work(_):
        with cli.next_start('one'):
            pass
        with cli.next_start(lambda: 'two'):
            raise KeyboardInterrupt

    assert cli.main(work) == 130
    assert capsys.readouterr().err == 'stopped; two\n'
    assert cli.main(lambda _: 1 / 0 if cli._said() != cli.BEGINS_AGAIN else 3) == 3


@pytest.mark.parametrize('kind', [ValueError, OSError, FloatingPointError])
def test_an_error_for_users_is_a_sentence_and_others_are_faults(kind, capsys, monkeypatch):
    def work(_):
        raise kind('it is wrong')

    assert cli.main(work) == 1
    assert capsys.readouterr().err == 'error: it is wrong\n'
    monkeypatch.setenv('AVSC_TRACEBACK', '1')
    with pytest.raises(kind):
        cli.main(work)
    with pytest.raises(ZeroDivisionError):
        cli.main(lambda _: 1 // 0)
