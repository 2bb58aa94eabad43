"""Workers that decode: the same windows as at home, whatever becomes of the workers."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from avsc_jax.data import decode_workers, windows
from avsc_jax.data.decode_workers import Event, Limits, decode
from avsc_jax.data.windows import Wants

ROOT = Path(decode_workers.__file__).parents[2]
SOUND = Wants(audio=True, frames=None, short_side=None, media=None, window_s=1.0)
STILLS = Wants(audio=False, frames='clip12', short_side=None, media=None)

# A worker to which things happen, as the names of the files say.
FATEFUL = """
import os, sys, time
from avsc_jax.data import decode_workers, windows

read = windows.read

def fateful(file, wants, **options):
    if file.stem == 'hang':
        time.sleep(99)
    if file.stem == 'odd':
        raise KeyError('codec')
    for number, window in enumerate(read(file, wants, **options)):
        with open(str(file) + '.log', 'a') as log:
            print(os.getpid(), number, file=log)
        if file.stem == 'die' and number:
            os.kill(os.getpid(), 9)
        if file.stem == 'leave' and number:
            os._exit(3)
        yield window

windows.read = fateful
decode_workers.work(sys.argv[1])
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Makes a program the worker."""

    def worker(source):
        (tmp_path / 'worker.py').write_text(source)
        monkeypatch.setattr(
            decode_workers, 'COMMAND', (sys.executable, str(tmp_path / 'worker.py'))
        )

    return worker


@pytest.fixture
def started(monkeypatch):
    """The processes that have been started."""
    processes, popen = [], subprocess.Popen

    def start(*args, **kwargs):
        processes.append(popen(*args, **kwargs))
        return processes[-1]

    monkeypatch.setattr(subprocess, 'Popen', start)
    return processes


def wav(path, seconds=2, rate=8000):
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, (seconds * rate, 2)), rate)
    return path


def ends(events):
    return {event.file.name: event.error for event in events if event.window is None}


def test_windows_come_as_they_are_read_here(tmp_path, started):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / 'c.png')
    files = [wav(tmp_path / 'a.wav'), wav(tmp_path / 'b.wav', 3), tmp_path / 'c.png']
    wants = Wants(True, 'clip12', None, None, window_s=1.0)
    events = list(decode(iter(files), wants, workers=2))
    assert len(events) == 6 + 3 and len(started) == 2
    for file in files:
        *found, last = [event for event in events if event.file is file]
        assert last == Event(file, None, None)
        for (_, window, error), expected in zip(found, windows.read(file, wants), strict=True):
            assert error is None and window.keys() == expected.keys()
            np.testing.assert_equal(window, expected)
    assert window['frames'][0].dtype == np.uint8 and 'no sound' in window['missing']['sound']


def test_openl3_pictures_come_in_floats(tmp_path):
    Image.new('RGB', (300, 240), (255, 0, 0)).save(tmp_path / 'a.png')
    wants = Wants(False, None, None, 'openl3')
    window = next(decode([tmp_path / 'a.png'], wants)).window
    fields = {'media_frames', 'media_times', 'media_filled'}
    assert {*window} == {'start_s', 'end_s', 'num_windows', 'missing', 'partly'} | fields
    (expected,) = windows.read(tmp_path / 'a.png', wants)
    np.testing.assert_equal(window, expected)
    assert window['media_frames'][0].dtype == np.float32


def test_what_is_wrong_with_a_file_is_told_with_its_name(tmp_path):
    (tmp_path / 'empty.wav').touch()
    (tmp_path / 'text.mp4').write_text('no film')
    (tmp_path / 'folder.mp4').mkdir()
    files = [tmp_path / name for name in ('empty.wav', 'text.mp4', 'none.mp4', 'folder.mp4')]
    files.append(wav(tmp_path / 'a.wav'))
    errors = ends(decode(files, SOUND, workers=1, limits=Limits(duration_s=2.5)))
    assert errors.pop('a.wav') is None
    assert all(str(tmp_path / name) in error for name, error in errors.items()), errors
    assert 'does not exist' in errors['none.mp4'] and '0 bytes' in errors['empty.wav']
    errors = ends(decode(files[-1:], SOUND, workers=1, limits=Limits(duration_s=1.5)))
    assert 'the limits are 2 s' in errors['a.wav']


def test_after_the_death_of_a_worker_another_one_goes_on(tmp_path, worker, started):
    worker(FATEFUL)
    files = [wav(tmp_path / f'{name}.wav') for name in ('die', 'a', 'leave', 'b', 'odd')]
    events = list(decode(files, SOUND, workers=1))
    errors = ends(events)
    assert errors['a.wav'] is None is errors['b.wav'] and len(started) == 3
    assert errors['die.wav'].startswith(f'{files[0]}: the decoder died (signal 9)')
    assert errors['leave.wav'].startswith(f'{files[2]}: the decoder died (exit code 3)')
    assert errors['odd.wav'] == f"{files[4]}: KeyError('codec')"
    windows_of = [event.file.name for event in events if event.window]
    assert windows_of == ['die.wav', 'a.wav', 'a.wav', 'leave.wav', 'b.wav', 'b.wav']


def test_readers_start_a_worker_for_each_file_that_is_read_at_once(tmp_path, worker, started):
    worker(FATEFUL)
    files = [wav(tmp_path / f'{name}.wav') for name in ('a', 'odd', 'die', 'b')]
    readers = decode_workers.Readers(SOUND)
    expected = windows.read(files[0], SOUND)
    for window, here in zip(readers.windows(files[0]), expected, strict=True):
        np.testing.assert_equal(window, here)
    with pytest.raises(ValueError, match=r'none\.wav does not exist'):
        list(readers.windows(tmp_path / 'none.wav'))
    with pytest.raises(ValueError, match=r"odd\.wav: KeyError\('codec'\)"):
        list(readers.windows(files[1]))
    assert len(started) == 1
    with pytest.raises(ValueError, match=r'die\.wav: the decoder died \(signal 9\)'):
        list(readers.windows(files[2]))
    first, second = (readers.windows(files[3]) for _ in range(2))
    next(first), next(second)
    assert len(started) == 3
    first.close()
    assert len([*second]) == 1
    del readers, second
    assert all(process.poll() is not None for process in started)


def test_an_idle_worker_reads_the_files_of_later_calls(tmp_path, worker, started):
    worker(FATEFUL)
    files = [wav(tmp_path / f'{name}.wav') for name in ('a', 'b', 'die')]
    idle = decode_workers.IdleWorkers()
    for file in files[:2]:
        assert ends(decode([file], SOUND, workers=2, idle=idle)) == {file.name: None}
    assert len(started) == 1 and started[0].poll() is None
    half = dataclasses.replace(SOUND, window_s=0.5)
    assert len(list(decode(files[:1], half, idle=idle))) == 5 and len(started) == 2
    (_, (_, _, error)) = decode(files[2:], SOUND, idle=idle)
    assert 'died (signal 9)' in error
    assert ends(decode(files[:1], SOUND, idle=idle)) == {'a.wav': None} and len(started) == 3
    del idle
    assert all(process.poll() is not None for process in started)


def test_a_worker_that_was_stopped_within_a_file_or_has_died_since_is_not_used_again(
    tmp_path, started
):
    file, idle = wav(tmp_path / 'a.wav', 30), decode_workers.IdleWorkers()
    events = decode([file], SOUND, idle=idle)
    next(events)
    events.close()
    assert started[0].poll() is not None
    assert len(list(decode([file], SOUND, idle=idle))) == 31 and len(started) == 2
    started[1].kill()
    started[1].wait()
    assert len(list(decode([file], SOUND, idle=idle))) == 31 and len(started) == 3


def test_an_idle_worker_ends_after_a_while_without_a_file(tmp_path, monkeypatch, started):
    monkeypatch.setattr(decode_workers, 'KEPT_S', 0.2)
    file, idle = wav(tmp_path / 'a.wav'), decode_workers.IdleWorkers()
    list(decode([file], SOUND, idle=idle))
    started[0].wait(10)
    assert ends(decode([file], SOUND, idle=idle)) == {'a.wav': None} and len(started) == 2


@pytest.mark.slow
def test_a_worker_that_hangs_is_stopped(tmp_path, worker, started):
    worker(FATEFUL)
    files = [wav(tmp_path / 'hang.wav'), wav(tmp_path / 'a.wav')]
    errors = ends(decode(files, SOUND, workers=1, limits=Limits(seconds_per_window=3)))
    assert errors['a.wav'] is None and len(started) == 2
    assert f'{files[0]}: the decoder was stopped after 3 s' in errors['hang.wav']


def test_a_worker_that_sends_drop_by_drop_is_stopped(tmp_path, monkeypatch):
    drops = 'printf "\\0\\0\\1\\1"; while sleep 0.2; do printf x; done'
    monkeypatch.setattr(decode_workers, 'COMMAND', ('sh', '-c', drops))
    (event,) = decode([tmp_path / 'a.wav'], SOUND, limits=Limits(seconds_per_window=1))
    assert (
        event.error == f'{tmp_path / "a.wav"}: the decoder was stopped after 1 s without a window'
    )


def test_all_windows_of_a_file_have_a_limit_of_time_together(tmp_path, monkeypatch):
    windows_for_ever = (
        'import sys, time\n'
        'head = b\'{"start_s": 0, "end_s": 1, "missing": {}, "partly": {}, "arrays": {}}\'\n'
        'for _ in range(60):\n'
        '    time.sleep(0.05)\n'
        '    sys.stdout.buffer.write(len(head).to_bytes(4, "big") + head)\n'
        '    sys.stdout.flush()\n'
    )
    monkeypatch.setattr(decode_workers, 'COMMAND', (sys.executable, '-S', '-c', windows_for_ever))
    *given, (_, _, error) = decode([tmp_path / 'a.wav'], SOUND, limits=Limits(seconds_per_file=1))
    assert given and error.startswith(f'{tmp_path / "a.wav"}: the decoder was stopped after 1 s of')


def test_it_is_said_when_the_workers_give_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(decode_workers, 'COMMAND', ('sh', '-c', 'sleep 0.5'))
    *pauses, end = decode([tmp_path / 'a.wav'], SOUND, pause_s=0.1)
    assert pauses and {*pauses} == {None} and 'died' in end.error


def test_a_file_that_takes_too_much_memory_is_an_error_of_its_own(tmp_path, started):
    Image.new('RGB', (6000, 6000)).save(tmp_path / 'large.png')
    Image.new('RGB', (60, 60)).save(tmp_path / 'small.png')
    files = [tmp_path / 'large.png', tmp_path / 'small.png']
    errors = ends(decode(files, STILLS, workers=1, limits=Limits(memory_bytes=100 << 20)))
    assert errors['small.png'] is None and len(started) == 1
    assert errors['large.png'] == f'{files[0]} takes more than 0.1 GiB of memory to decode'


def test_closing_ends_the_workers_whatever_they_do(tmp_path, worker, started):
    worker(FATEFUL)
    files = [wav(tmp_path / name, 9) for name in ('hang.wav', 'a.wav', 'b.wav', 'c.wav')]
    events = decode(files, SOUND, workers=2)
    next(events)
    events.close()
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_an_error_of_the_list_of_files_ends_the_workers(tmp_path, started):
    def files():
        yield wav(tmp_path / 'a.wav')
        yield wav(tmp_path / 'b.wav')
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(decode(files(), SOUND, workers=1))
    assert all(process.poll() is not None for process in started)


def test_a_worker_is_no_more_than_two_windows_ahead(tmp_path, worker):
    worker(FATEFUL)
    file = wav(tmp_path / 'a.wav', 9, 48000)
    events = decode([file], SOUND, workers=1)
    next(events)
    log = Path(f'{file}.log')
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and len(log.read_text().splitlines()) < 4:
        time.sleep(0.05)
    time.sleep(0.3)
    assert 2 <= len(log.read_text().splitlines()) <= 4  # one more waits to be taken
    assert len(list(events)) == 9


def test_a_worker_ends_with_its_parent(tmp_path):
    file = wav(tmp_path / 'hang.wav')
    (tmp_path / 'worker.py').write_text(FATEFUL)
    (tmp_path / 'parent.py').write_text(
        'import subprocess, sys\n'
        'from pathlib import Path\n'
        'from avsc_jax.data import decode_workers, windows\n'
        'popen = subprocess.Popen\n'
        'def start(*args, **kwargs):\n'
        '    process = popen(*args, **kwargs)\n'
        '    print(process.pid, flush=True)\n'
        '    return process\n'
        'subprocess.Popen = start\n'
        f'decode_workers.COMMAND = (sys.executable, {str(tmp_path / "worker.py")!r})\n'
        'wants = windows.Wants(audio=True, frames=None, short_side=None, media=None)\n'
        f'list(decode_workers.decode([Path({str(file)!r})], wants))\n'
    )
    command = [sys.executable, str(tmp_path / 'parent.py')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment()) as parent:
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(worker, 0)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(worker, os.WNOHANG)  # where orphans come to this process
            time.sleep(0.05)


def test_a_worker_that_hangs_ends_by_itself_where_nobody_stops_it(tmp_path):
    (tmp_path / 'worker.py').write_text(FATEFUL)
    limits = {'seconds_per_window': 1 - decode_workers.GRACE_S}
    settings = json.dumps({'wants': SOUND.to_json(), 'limits': limits})
    command = [sys.executable, str(tmp_path / 'worker.py'), settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()) as worker:
        worker.stdin.write(json.dumps(str(tmp_path / 'hang.wav')).encode() + b'\n')
        worker.stdin.flush()
        assert worker.wait(20) == -signal.SIGALRM


def environment():
    return os.environ | {'PYTHONPATH': str(ROOT)}


def message(header, data=b''):
    return len(text := json.dumps(header).encode()).to_bytes(4, 'big') + text + data


WHOLE = {'missing': {}, 'partly': {}}


def arrays(**shapes):
    facts = {'start_s': 0, 'end_s': 1, 'sample_rate': 8000, 'arrays': shapes} | WHOLE
    return message(facts, bytes(64))


@pytest.mark.parametrize(
    'sent',
    [
        b'\xff\xff\xff\xff' + bytes(99),
        b'\x00\x00\x00\x04{{{{',
        b'\x00\x00\x00\x021\n',
        message({}),
        message([1]),
        arrays(audio=[[1 << 40, 2]]),
        arrays(frames=[[1 << 10, 1 << 10, 3]] * 1000),
        arrays(audio=[[4, 3]]),
        arrays(frames=[[1 << 40, 1, 3], [-(1 << 40), 1, 3]]),
        arrays(audio=[[4.0, 2]]),
        arrays(audio=[]),
        arrays(frames=[[2, 3]]),
        arrays(weights=[[2, 3]]),
        arrays(audio=[[1, 2], [1, 2]]),
        message({'arrays': {'audio': [[1, 2]]}, 'sample_rate': 8000}, bytes(8)),  # nothing missing
        message({'arrays': {'audio': [[1, 2]]}, **WHOLE}, bytes(8)),
        message({'arrays': {'audio': [[1, 2]]}, **WHOLE, 'sample_rate': 0}, bytes(8)),
        message({'arrays': {'audio': [[1, 2]]}, **WHOLE, 'sample_rate': 1e999}, bytes(8)),
    ],
)
def test_nonsense_of_a_worker_is_an_error_and_no_array(tmp_path, monkeypatch, sent):
    (tmp_path / 'said').write_bytes(sent)
    monkeypatch.setattr(
        decode_workers, 'COMMAND', ('sh', '-c', f'cat {tmp_path / "said"}; sleep 5')
    )
    made, empty = [], np.empty
    monkeypatch.setattr(
        np, 'empty', lambda shape, *a: made.append(np.prod(shape)) or empty(shape, *a)
    )
    limits = Limits(memory_bytes=1 << 24)
    (event,) = decode([tmp_path / 'a.wav'], SOUND, workers=1, limits=limits)
    assert event.error == f'{tmp_path / "a.wav"}: the decoder sent no valid window, and was stopped'
    assert max(made, default=0) < 1 << 24


def test_what_a_worker_may_say_is_taken(tmp_path, monkeypatch):
    data = arrays(audio=[[8, 2]]) + message({'error': 'two\nlines'})
    (tmp_path / 'said').write_bytes(data)
    monkeypatch.setattr(decode_workers, 'COMMAND', ('sh', '-c', f'cat {tmp_path / "said"}'))
    one, two = decode([tmp_path / 'a.wav'], SOUND, workers=1)
    facts = {'start_s': 0.0, 'end_s': 1.0, 'sample_rate': 8000} | WHOLE
    np.testing.assert_equal(one.window, facts | {'audio': np.zeros((8, 2), np.float32)})
    assert two.error == 'two lines'


def test_a_worker_loads_nothing_heavy():
    code = 'import sys, avsc_jax.data.decode_workers; print([n for n in sys.modules if n in {}])'
    code = code.format(('jax', 'transformers', 'librosa', 'scipy', 'matplotlib'))
    command = [sys.executable, '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.stdout.strip() == '[]', done.stderr
