"""The server of the page: who may ask, how much may come, and what is answered."""

import http.client
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from avsc_jax.runtime import cli
from avsc_jax.serve import __main__ as serve
from avsc_jax.serve import command as work

CLIP = Path(__file__).parents[1] / 'data_files/bento.mp4'


@pytest.mark.parametrize(
    ('host', 'origin', 'is_let_in'),
    [
        ('127.0.0.1:8000', None, True),
        ('127.0.0.1:8000', 'http://127.0.0.1:8000', True),
        ('localhost:8000', 'http://localhost:8000', True),
        ('[::1]:8000', 'http://[::1]:8000', True),
        ('studio:8000', 'http://studio:8000', True),  # as --host names it
        ('evil.example:8000', 'http://evil.example:8000', False),  # a name that points here
        ('127.0.0.1.evil.example', None, False),
        ('', None, False),
        ('[::1', None, False),
        ('127.0.0.1:8000', 'http://evil.example', False),
        ('127.0.0.1:8000', 'http://127.0.0.1:9000', False),
        ('127.0.0.1:8000', 'null', False),
    ],
)
def test_only_the_page_itself_and_programs_may_ask(host, origin, is_let_in):
    headers = {'host': host} | ({'origin': origin} if origin else {})
    assert (work.refusal(headers, 'studio') is None) == is_let_in


def command(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['serve', '--model=run', *arguments])
    return cli.main(serve.main)


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch, capsys):
    for name in ('starlette', 'uvicorn', 'python_multipart'):
        monkeypatch.setitem(sys.modules, name, None)
    assert command(monkeypatch) == 1
    assert "which is not installed: pip install 'avsc_jax[web]'" in capsys.readouterr().err


@pytest.mark.parametrize('value', ['--window=0.1', '--max_mb=0', '--max_seconds=0'])
def test_limits_are_checked(value, monkeypatch, capsys):
    assert command(monkeypatch, value) == 1
    assert 'it must be ' in capsys.readouterr().err


def test_a_port_of_no_number_is_a_sentence():
    with pytest.raises(ValueError, match='be 0-65535; choose another by --port'):
        work._listener('127.0.0.1', 99999)


def test_a_taken_port_is_a_sentence():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf'cannot serve at port {port} of 127\.0\.0\.1: '):
            work._listener('127.0.0.1', port)


@pytest.mark.parametrize(
    ('host', 'is_local'),
    [('127.0.0.1', True), ('::1', True), ('localhost', True), ('0.0.0.0', False), ('pc', False)],
)
def test_it_is_known_what_others_reach(host, is_local):
    assert work._is_local(host) == is_local


def test_others_are_warned_of(monkeypatch, capsys, tmp_path):
    assert command(monkeypatch, '--host=0.0.0.0', '--port=0', f'--model={tmp_path}/none') == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning.startswith('! --host 0.0.0.0: everyone who reaches this machine can have clips')
    assert 'none' in error


def ask(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    headers = {name.replace('_', '-'): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    is_json = answer.headers['Content-Type'] == 'application/json'
    return answer, json.loads(data) if is_json else data.decode()


def form(*parts):
    lines = []
    for disposition, data in parts:
        lines += [b'--edge', b'Content-Disposition: form-data; ' + disposition, b'', data]
    return b'\r\n'.join([*lines, b'--edge--', b''])


FORM = {'Content_Type': 'multipart/form-data; boundary=edge'}
FILE = b'name="file"; filename="a/../my clip.mp4"'


def test_a_clip_comes_as_a_form_or_as_it_is_and_leaves_no_file(page):
    port, folder, _ = page
    clip = CLIP.read_bytes()
    answer, of_form = ask(port, 'POST', '/api/tag', form((FILE, clip)), **FORM)
    assert answer.status == 200, of_form
    assert [s['scene'] for s in of_form['timeline'][0]['scenes']] == [
        s['scene'] for s in of_form['scenes']
    ]
    assert '<h1>my clip.mp4' in of_form['explanation_html']
    _, of_body = ask(port, 'POST', '/api/tag?name=b.mp4', clip)
    assert of_body['scenes'] == of_form['scenes'] and '<h1>b.mp4' in of_body['explanation_html']
    assert [*folder.iterdir()] == []


def test_a_still_picture_is_known_by_its_name(page):
    from avsc_jax.data import media

    port, _, _ = page
    (frame,) = media.read_frames(CLIP, 'second_centres').images
    answer, found = ask(port, 'POST', '/api/tag?name=a.jpg', media.encode_jpeg(frame))
    assert answer.status == 200, found
    assert 'answered without sound: it is a still picture and has no sound' in found['notes']


@pytest.mark.parametrize(
    ('body', 'headers', 'status', 'sentence'),
    [
        (b'', {}, 400, 'there is no clip in the request; send a file'),
        (form((FILE, b'')), FORM, 400, 'there is no clip'),
        (form((b'name="a"', b'b')), FORM, 400, 'the form must hold one file and nothing else'),
        (form((FILE, b'a'), (FILE, b'b')), FORM, 400, 'the form must hold one file'),
        (form((FILE, b'abc'))[:-12], FORM, 400, 'there is no clip in the request'),
        (b'junk', FORM, 400, 'the form cannot be read: '),
        (b'', {'Content_Type': 'multipart/form-data'}, 400, 'the form cannot be read: No boundary'),
        (form((FILE, b'no film')), FORM, 422, 'cannot decode my clip.mp4: '),
        (iter([b'x' * 2**20] * 3), {}, 413, 'the clip is larger than 2 MB'),
        (b'x', {'Content_Length': '3000000'}, 413, 'the clip is larger than 2 MB'),
        (b'x', {'Origin': 'http://evil.example'}, 403, 'clips are accepted from this page, not'),
        (b'x', {'Host': 'evil.example'}, 403, "the Host of the request is 'evil.example'"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_a_sentence_and_leaves_no_file(
    page, body, headers, status, sentence
):
    port, folder, _ = page
    answer, found = ask(port, 'POST', '/api/tag', body, **headers)
    assert (answer.status, found['error'][: len(sentence)]) == (status, sentence)
    assert [*folder.iterdir()] == []


def test_clips_are_not_read_where_too_many_wait(page):
    port, _, desk = page
    with desk.place(), desk.place(), desk.place(), desk.place(), desk.place():
        answer, found = ask(port, 'POST', '/api/tag', b'x')
    assert answer.status == 503 and 'clips are waiting already' in found['error']
    assert answer.headers['Retry-After'] == '10'


def test_a_clip_that_stops_to_come_is_given_up(page):
    port, folder, desk = page
    with pytest.MonkeyPatch.context() as patch, socket.create_connection(('127.0.0.1', port)) as s:
        patch.setattr(desk, 'max_seconds', 0.3)
        s.sendall(b'POST /api/tag HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc')
        assert s.recv(99).startswith(b'HTTP/1.1 408')
    with socket.create_connection(('127.0.0.1', port)) as s:
        s.sendall(b'POST /api/tag HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc')
        while not [*folder.iterdir()]:
            time.sleep(0.01)
    end = time.monotonic() + 5
    while [*folder.iterdir()]:
        assert time.monotonic() < end, 'the file of a clip that did not come to its end is there'


def test_what_a_killed_server_left_is_deleted_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    (tmp_path / 'avsc-serve-others').mkdir()  # nobody has locked it
    (tmp_path / 'avsc-serve-link.lock').symlink_to(tmp_path / 'precious')
    (tmp_path / 'precious').write_text('x')
    (tmp_path / 'avsc-serve-killed/avsc-serve-clip').mkdir(parents=True)
    (tmp_path / 'avsc-serve-killed/avsc-serve-clip/clip.mp4').write_bytes(b'x')
    (tmp_path / 'avsc-serve-killed.lock').write_text('process 1 on pc')
    with work.upload_folder() as first, work.upload_folder() as second:
        left = {path.name for path in tmp_path.iterdir()}
        own = {f'{folder.name}{end}' for folder in (first, second) for end in ('', '.lock')}
        others = {'avsc-serve-others', 'avsc-serve-link.lock', 'precious'}
        assert left == own | others and first.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == others
    assert (tmp_path / 'precious').read_text() == 'x'


def test_the_page_answers_before_the_system_is_there_and_ends_if_it_cannot_be_loaded(
    tmp_path, monkeypatch, capsys
):
    with work._listener('127.0.0.1', 0) as free:
        port = free.getsockname()[1]
    answers = []

    def load(_):
        for path in ('/', '/api/about', '/api/ready', '/api/progress'):
            answers.append(ask(port, 'GET', path))
        raise ValueError('no model')

    monkeypatch.setattr(work, 'load', load)
    assert command(monkeypatch, f'--port={port}') == 1
    (html, text), (_, about), (ready, state), (_, progress) = answers
    assert html.status == 200 and 'Which scene is it?' in text
    assert about == {'state': 'loading', 'max_seconds': 120.0, 'max_mb': 200.0}
    assert ready.status == 503 and ready.headers['Retry-After'] == '10'
    assert state == {'state': 'loading'} and progress['state'] == 'loading'
    assert capsys.readouterr().err.splitlines() == ['error: no model']


def test_nothing_that_takes_seconds_is_imported_before_the_page_answers():
    heavy = ('jax', 'scipy', 'matplotlib', 'librosa', 'sklearn')
    code = f'import avsc_jax.serve.command, sys; print([m for m in {heavy} if m in sys.modules])'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert run.stdout == '[]\n'


def test_the_page_asks_nobody_else(page):
    port, _, _ = page
    answer, html = ask(port, 'GET', '/')
    assert "default-src 'none'" in answer.headers['Content-Security-Policy']
    parts = [html]
    for name in re.findall(r'(?:src|href)="/(page[\w.]*)"', html):
        parts.append(ask(port, 'GET', f'/{name}')[1])
    for name in re.findall(r"from './(page[\w.]*)'", ''.join(parts)):
        parts.append(ask(port, 'GET', f'/{name}')[1])
    assert len(parts) > 5 and not re.search('https?:', ''.join(parts))
    assert '<script>' not in html and not re.search(r'\son\w+=', html)
    _, about = ask(port, 'GET', '/api/about')
    assert about['classes'] == ['park', 'street_traffic', 'tram'] and about['max_mb'] == 2
    assert about['takes'] == ['sound', 'picture'] and about['kind'] == 'exclusive'
    assert ask(port, 'GET', '/api/ready')[1] == {'state': 'ready'}
    idle = {'state': 'ready', 'is_compiling': False, 'waiting': 0}
    assert ask(port, 'GET', '/api/progress')[1] == idle
    assert ask(port, 'GET', '/api/progress?key=unknown')[1] == idle
    assert ask(port, 'GET', '/api/tag')[0].status == 405
    answer, found = ask(port, 'POST', '/api/tag?key=short', b'x')
    assert answer.status == 400 and found['error'].startswith('key must be 16 to 64 letters')
