"""Two hundred files of which twenty cannot be read, killed half-way and started again."""

import collections
import contextlib
import io
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image

from avsc_jax import tables

ODD = {  # clips that are unusual, and are answered
    'deaf': dict(sound=False),
    'blind': dict(pictures=False),
    'one frame': dict(times=[0]),
    'ten bits': dict(pix_fmt='yuv444p10le'),
    'uneven': dict(times=[0, 3, 40, 41, 90]),
    'telephone': dict(sound_rate=8000),
}


def spoilt(whole: bytes) -> dict[str, bytes]:
    """Files that cannot be read."""
    picture = io.BytesIO()
    Image.new('RGB', (8, 8)).save(picture, 'PNG')
    claims = bytearray(picture.getvalue())
    claims[16:24] = struct.pack('>2I', 60_000, 60_000)  # pixels
    claims[29:33] = struct.pack('>I', zlib.crc32(claims[12:29]))
    return {
        'truncated {}.mp4': whole[: len(whole) // 2],
        'zero {}.mp4': b'',
        'text {}.mp4': b'dear diary, ' * 99,
        'headless {}.mp4': bytes(4096) + whole[4096:],
        'huge {}.png': bytes(claims),
    }


@pytest.mark.slow
def test_two_hundred_files_come_out_once(both, film, tmp_path):
    folder, out = tmp_path / 'clips', tmp_path / 'scenes.csv'
    for k in range(4):
        whole = film(folder / f'good {k}.mp4', key=k)
        for name, data in spoilt(whole.read_bytes()).items():
            (folder / name.format(k)).write_bytes(data)
    for name, options in ODD.items():
        for k in range(2):
            film(folder / f'{name} {k}.mp4', **options)
    for k in range(4, 168):
        (folder / f'good {k}.mp4').write_bytes((folder / f'good {k % 4}.mp4').read_bytes())
    assert len([*folder.iterdir()]) == 200

    command = [sys.executable, '-m', 'avsc_jax.predict', folder, f'--model={both}', f'--csv={out}']
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
    journal = tmp_path / 'scenes.csv.unfinished.jsonl'
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    while not journal.exists() or journal.read_text().count('\n') < 100:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()

    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and not journal.exists()
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert done.stderr.splitlines()[-1] == '180 of 200 files classified'
    counts = collections.Counter(line.split('/clips/')[1].split(' ')[0] for line in errors)
    assert counts == dict.fromkeys(['truncated', 'zero', 'text', 'headless', 'huge'], 4)
    assert 'are finished, according to' in done.stderr
    found = tables.read(out, classes=['park', 'tram']).clip_id.tolist()
    assert len(found) == len({*found}) == 180
    assert {name.rpartition(' ')[0] for name in found} == {'good', *ODD}
    assert 'answered without sound: ' in done.stderr and 'answered without picture: ' in done.stderr


def processes(session: int) -> list[str]:
    """The running processes of a session."""
    running = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        with contextlib.suppress(OSError):  # it has ended
            name, fields = path.read_text().rsplit(') ', 1)
            if fields.split()[3] == str(session) and fields[0] != 'Z':
                running.append(name)
    return running


@pytest.mark.slow
def test_a_stopped_command_leaves_its_journal_alone_and_one_beside_it_is_refused(
    both, film, tmp_path
):
    folder, journal = tmp_path / 'clips', tmp_path / 'scenes.jsonl'
    whole = film(folder / 'first.mp4').read_bytes()
    for k in range(400):
        (folder / f'good {k}.mp4').write_bytes(whole)
    command = [sys.executable, '-m', 'avsc_jax.predict', folder, f'--model={both}']
    command += [f'--jsonl={journal}', '--workers=2']
    pipes = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        while not journal.exists() or journal.read_text().count('\n') < 8:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)
        lines = journal.read_text()
        second = subprocess.run(command, **pipes)
        assert second.returncode == 1 and journal.read_text() == lines
        assert f'scenes.jsonl is in use by process {process.pid} on ' in second.stderr
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        told = process.communicate()[1].splitlines()[-1]
    assert process.returncode == 143 and time.monotonic() - began < 5
    assert re.fullmatch(
        r'stopped by SIGTERM; the same command goes on from the journal .*/scenes.jsonl, where '
        r'\d+ of 401 files are answered', told,
    )  # fmt: skip
    assert not processes(process.pid)
    assert {path.name for path in tmp_path.iterdir()} == {'clips', 'scenes.jsonl'}
