"""Downloads from a local server that does what servers do: breaks off, lies, is busy, ignores."""

import collections
import functools
import hashlib
import http.server
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from avsc_jax.runtime import download

DATA = np.random.default_rng(0).bytes(1_000_000)
MD5, SHA256 = hashlib.md5(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()
WHOLE = dict(num_bytes=len(DATA), md5=MD5)


class Server(http.server.ThreadingHTTPServer):
    """Serves DATA under every path; `plan[path]` holds what its next answers do, else all is well.

    An entry: a status, or a word: 'short' breaks off in the middle, 'reset' likewise but rudely,
    'stall' goes silent, 'byte' serves one wrong, 'norange' ignores ranges, 'elsewhere' answers
    with another range, 'changed' serves another version, 'lie' claims a size, 'more' goes on after
    the end. The last entry stays.
    """

    daemon_threads = True
    etag = '"1"'

    def __init__(self):
        self.plan, self.asked = {}, collections.defaultdict(list)
        super().__init__(('127.0.0.1', 0), Handler)

    def url(self, path: str) -> str:
        return f'http://127.0.0.1:{self.server_port}/{path}'

    def handle_error(self, request, client_address):
        pass  # clients that hang up


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def do_GET(self):
        path, server = self.path.strip('/'), self.server
        span = self.headers.get('Range')
        server.asked[path].append(span)
        plan = server.plan.get(path, [''])
        act = plan.pop(0) if len(plan) > 1 else plan[0]
        if isinstance(act, int):
            self.send_error(act)
            return
        data = DATA[::-1] if act == 'changed' else DATA
        strong = not server.etag.startswith('W/')  # a weak one may outlive a change
        etag = '"2"' if act == 'changed' and strong else server.etag
        start = int(span[6:-1]) if span and act != 'norange' else 0
        if (wanted := self.headers.get('If-Range')) and wanted != etag:
            start = 0
        if start >= len(data):
            self.send_error(416)
            return
        start -= act == 'elsewhere'
        self.send_response(206 if start else 200)
        self.send_header('ETag', etag)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        body = bytearray(data[start:])
        if act == 'byte':
            body[-7] ^= 1
        if act == 'more':
            self.send_header('Connection', 'close')
            body += bytes(5_000_000)
        else:
            self.send_header('Content-Length', len(body) + 10 * (act == 'lie'))
        self.end_headers()
        if act in ('short', 'reset', 'stall'):
            body = body[: len(body) // 2]
        self.wfile.write(body)
        self.close_connection = True
        if act == 'stall':
            time.sleep(3)
        if act == 'reset':
            time.sleep(0.1)  # a reset throws away what the client has not read yet
            linger = struct.pack('ii', 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.fixture
def server(monkeypatch):
    for name, value in dict(BACK_OFF_S=0.001, TIMEOUT_S=0.5, BLOCK_BYTES=1 << 14).items():
        monkeypatch.setattr(download, name, value)
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs=dict(poll_interval=0.01))
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(server, folder, match, path='a', **options):
    """Asserts an error of one sentence, and that nothing looks like a whole file."""
    with pytest.raises(OSError, match=match) as caught:
        download.fetch(server.url(path), folder / 'a.zip', **options)
    assert server.url(path) in str(caught.value)
    assert '\n' not in str(caught.value)
    assert 'a.zip' not in names(folder)


def test_a_file_is_fetched_once_and_left_alone_when_whole(server, tmp_path):
    path = tmp_path / 'new/a.zip'
    for known in ({}, dict(num_bytes=len(DATA)), WHOLE, dict(sha256=SHA256.upper())):
        assert download.fetch(server.url('a'), path, **known) == path
        assert path.read_bytes() == DATA
        assert names(path.parent) == ['a.zip']
    assert len(server.asked['a']) == 1


@pytest.mark.parametrize('content', [DATA[:-1], DATA[:-1] + b'?'])
def test_a_file_of_wrong_size_or_content_is_fetched_again(server, tmp_path, content):
    (tmp_path / 'a.zip').write_bytes(content)
    assert download.fetch(server.url('a'), tmp_path / 'a.zip', **WHOLE).read_bytes() == DATA


@pytest.mark.parametrize('trouble', ['short', 'reset', 'stall'])
@pytest.mark.parametrize('known', [{}, WHOLE])
def test_a_broken_connection_is_resumed_where_it_was(server, tmp_path, trouble, known):
    server.plan['a'] = [trouble, trouble, '']
    path = download.fetch(server.url('a'), tmp_path / 'a.zip', **known)
    assert path.read_bytes() == DATA
    first, *later = server.asked['a']
    assert first is None
    starts = [int(span[6:-1]) for span in later]
    assert 400_000 < starts[0] < starts[1]


def test_attempts_count_only_those_that_bring_nothing_new(server, tmp_path):
    server.plan['a'] = ['short'] * 4 + ['']
    path = download.fetch(server.url('a'), tmp_path / 'a.zip', attempts=2, **WHOLE)
    assert path.read_bytes() == DATA


def test_a_server_that_ignores_ranges_starts_the_file_anew(server, tmp_path):
    server.plan['a'] = ['short', 'norange']
    path = download.fetch(server.url('a'), tmp_path / 'a.zip', **WHOLE)
    assert path.read_bytes() == DATA
    assert len(server.asked['a']) == 2
    server.plan['b'] = ['short', 503]
    with pytest.raises(OSError, match='503'):
        download.fetch(server.url('b'), tmp_path / 'b.zip', attempts=2)
    assert names(tmp_path) == ['a.zip', 'b.zip.part']


def test_another_range_than_asked_for_is_not_appended(server, tmp_path):
    server.plan['a'] = ['short', 'elsewhere', '']
    assert download.fetch(server.url('a'), tmp_path / 'a.zip').read_bytes() == DATA


@pytest.mark.parametrize('etag', ['"1"', 'W/"1"', ''])
def test_a_file_that_changes_meanwhile_is_never_mixed(server, tmp_path, etag):
    server.etag, server.plan['a'] = etag, ['short', 'changed']
    path = download.fetch(server.url('a'), tmp_path / 'a.zip')
    assert path.read_bytes() == DATA[::-1]


def test_a_later_process_resumes_only_what_a_hash_can_check(server, tmp_path):
    (tmp_path / 'a.zip.part').write_bytes(DATA[:600_000])
    download.fetch(server.url('a'), tmp_path / 'a.zip', **WHOLE)
    assert server.asked['a'] == ['bytes=600000-']
    (tmp_path / 'b.zip.part').write_bytes(DATA[::-1])
    download.fetch(server.url('b'), tmp_path / 'b.zip', num_bytes=len(DATA))
    assert server.asked['b'] == [None]
    assert (tmp_path / 'a.zip').read_bytes() == (tmp_path / 'b.zip').read_bytes() == DATA
    assert names(tmp_path) == ['a.zip', 'b.zip']


@pytest.mark.parametrize(
    'part', [b'another version', DATA[::-1], DATA + b'more', DATA[:-1] + b'?', b'']
)
@pytest.mark.parametrize('known', [WHOLE, dict(sha256=SHA256)])
def test_a_part_that_does_not_fit_ends_in_the_right_file(server, tmp_path, part, known):
    (tmp_path / 'a.zip.part').write_bytes(part)
    path = download.fetch(server.url('a'), tmp_path / 'a.zip', **known)
    assert path.read_bytes() == DATA
    assert names(tmp_path) == ['a.zip']


@pytest.mark.parametrize('known', [WHOLE, dict(sha256=SHA256)])
def test_a_part_that_is_whole_already_only_takes_its_name(server, tmp_path, known):
    (tmp_path / 'a.zip.part').write_bytes(DATA)
    download.fetch(server.url('a'), tmp_path / 'a.zip', **known)
    assert (tmp_path / 'a.zip').read_bytes() == DATA
    assert server.asked['a'] in ([], ['bytes=1000000-'])  # the latter is answered by 416


def test_a_wrong_byte_is_an_error_and_leaves_nothing(server, tmp_path):
    server.plan['a'] = ['byte']
    refused(server, tmp_path, f'md5 of the received bytes is .*, not {MD5}', **WHOLE)
    assert names(tmp_path) == []
    assert len(server.asked['a']) == 2  # the same bytes twice are the server's
    server.plan['a'] = ['byte', '']
    assert download.fetch(server.url('a'), tmp_path / 'a.zip', **WHOLE).read_bytes() == DATA


def test_a_size_that_is_not_the_known_one_is_refused_before_it_is_fetched(server, tmp_path):
    server.plan['a'] = ['lie']
    refused(server, tmp_path, r'claims 1,000,010 bytes, not 1,000,000', **WHOLE)
    assert names(tmp_path) == []
    refused(server, tmp_path, r'claims 1,000,000 bytes, not 999', path='b', num_bytes=999)


def test_a_claim_that_is_not_kept_is_an_error(server, tmp_path):
    server.plan['a'] = ['lie']
    refused(server, tmp_path, r'416')
    refused(server, tmp_path, r'broke off at byte 1,000,000 of 1,000,010', attempts=1)


def test_not_a_byte_more_than_known_is_stored(server, tmp_path, monkeypatch):
    sizes, count = [], download._Content.count
    monkeypatch.setattr(
        download._Content,
        'count',
        lambda content, block: count(content, block) or sizes.append(content.size),
    )
    server.plan['a'] = ['more']
    refused(server, tmp_path, 'more than 1,000,000 bytes', **WHOLE)
    assert max(sizes) < len(DATA) + (1 << 14)
    assert names(tmp_path) == []


def test_a_busy_server_is_asked_again_and_given_up_in_the_end(server, tmp_path):
    server.plan['a'] = [503, 429, '']
    assert download.fetch(server.url('a'), tmp_path / 'a.zip', **WHOLE).read_bytes() == DATA
    server.plan['b'] = [503]
    refused_at = functools.partial(refused, server, tmp_path / 'b', path='b', attempts=3)
    refused_at('503', **WHOLE)
    assert len(server.asked['b']) == 3


def test_the_wait_doubles_and_heeds_the_servers_wish(tmp_path, monkeypatch):
    waits, wishes = [], iter([0, 0, 7, 9999, 0])

    class Stopped:
        def is_set(self):
            return False

        def wait(self, seconds):
            waits.append(seconds)

    def receive(*_):
        raise download._Failure('busy', next(wishes))

    monkeypatch.setattr(download, '_receive', receive)
    file = download.File('http://x/', tmp_path / 'a')
    with pytest.raises(OSError, match='busy'):
        download._fetch(file, 5, download.tqdm(disable=True), Stopped())
    assert waits == [1, 2, 7, 60]


@pytest.mark.parametrize('status', [403, 404, 410])
def test_a_refusal_is_final(server, tmp_path, status):
    server.plan['a'] = [status]
    refused(server, tmp_path, str(status), **WHOLE)
    assert len(server.asked['a']) == 1


def test_no_server_at_all_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(download, 'BACK_OFF_S', 0.001)
    with pytest.raises(OSError, match='no connection'):
        download.fetch('http://127.0.0.1:9/a', tmp_path / 'a.zip', attempts=2)


@pytest.mark.parametrize('url', ['file:///etc/hostname', 'ftp://127.0.0.1/a', 'a.zip', ''])
def test_only_the_web_is_asked(tmp_path, url):
    with pytest.raises(ValueError, match='http or https'):
        download.fetch(url, tmp_path / 'a.zip')


def test_a_server_may_not_redirect_to_local_files(tmp_path, monkeypatch, server):
    monkeypatch.setattr(Handler, 'do_GET', redirect)
    refusals = {'file:///etc/hostname': 'not allowed', 'ftp://127.0.0.1/a': 'unknown url type: ftp'}
    for path, seen in refusals.items():
        with pytest.raises(OSError, match=seen):
            download.fetch(server.url(path), tmp_path / 'a.zip', attempts=1)
    assert 'a.zip' not in names(tmp_path)


def redirect(handler):
    handler.send_response(302)
    handler.send_header('Location', handler.path[1:])
    handler.end_headers()


def test_room_on_the_disk_is_checked_for_all_files_before_the_first_byte(
    server, tmp_path, monkeypatch
):
    usage = collections.namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(0, 0, 1_500_000))
    (tmp_path / 'b.part').write_bytes(DATA[:600_000])
    files = [download.File(server.url(n), tmp_path / n, **WHOLE) for n in 'ab']
    assert len(download.fetch_all(files)) == 2  # a and what of b is missing: 1.4 MB
    files = [download.File(server.url(n), tmp_path / n, **WHOLE) for n in 'abcd']
    with pytest.raises(OSError, match=r'0\.0 GB free.*make room'):
        download.fetch_all(files)  # c and d: 2 MB
    assert not server.asked['c']


def test_several_come_at_once_and_one_that_fails_does_not_stop_the_others(server, tmp_path):
    server.plan |= {'1': ['short', ''], '3': [404], '5': ['byte']}
    together, gate = [], threading.Barrier(3, timeout=5)
    answer = Handler.do_GET

    def meet(handler):
        if len(together) < 3:
            together.append(handler)
            gate.wait()
        answer(handler)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handler, 'do_GET', meet)
        files = [download.File(server.url(f'{i}'), tmp_path / f'{i}', **WHOLE) for i in range(6)]
        with pytest.raises(OSError, match=r'^2 of 6 files .*/3: .*404.*; .*/5 .*md5'):
            download.fetch_all(files, at_once=3)
    assert names(tmp_path) == ['0', '1', '2', '4']
    assert all((tmp_path / name).read_bytes() == DATA for name in '0124')
    with pytest.raises(OSError, match=r'/3: the server answers 404'):
        download.fetch_all(files[:4])


def test_two_at_one_path_fetch_it_once(server, tmp_path):
    file = download.File(server.url('a'), tmp_path / 'a.zip', **WHOLE)
    download.fetch_all([file, file, file])
    assert len(server.asked['a']) == 1
    assert names(tmp_path) == ['a.zip']


def test_an_interrupted_download_ends_soon_and_keeps_its_part(server, tmp_path, monkeypatch):
    count = download._Content.count

    def interrupted(content, block):
        if content.size > 300_000:
            content.stopped.set()
        count(content, block)

    monkeypatch.setattr(download._Content, 'count', interrupted)
    refused(server, tmp_path, 'stopped', **WHOLE)
    assert DATA.startswith((tmp_path / 'a.zip.part').read_bytes())
    assert 300_000 < (tmp_path / 'a.zip.part').stat().st_size < 350_000


def test_an_answer_of_another_size_does_not_cost_what_is_there(server, tmp_path):
    server.plan['a'] = ['short', 'lie', '']
    download.fetch(server.url('a'), tmp_path / 'a.zip', **WHOLE)
    spans = server.asked['a']
    assert spans[1] == spans[2] is not None


def test_a_whole_file_needs_no_lock_for_its_folder_may_be_read_only(server, tmp_path, monkeypatch):
    (tmp_path / 'a.zip').write_bytes(DATA)
    monkeypatch.setattr(download, 'locked', None)
    assert download.fetch(server.url('a'), tmp_path / 'a.zip', **WHOLE)


def test_a_killed_process_goes_on_where_it_was(server, tmp_path):
    code = (
        'import sys; from avsc_jax.runtime import download; download.BLOCK_BYTES = 1 << 14;'
        f'download.fetch(sys.argv[1], sys.argv[2], num_bytes={len(DATA)}, md5={MD5!r})'
    )
    server.plan['a'] = ['stall', '']
    command = [sys.executable, '-c', code, server.url('a'), str(tmp_path / 'a.zip')]
    root = str(Path(download.__file__).parents[2])
    with subprocess.Popen(command, env=os.environ | {'PYTHONPATH': root}) as process:
        part = tmp_path / 'a.zip.part'
        while not (part.exists() and part.stat().st_size > 400_000):
            time.sleep(0.01)
            assert process.poll() is None
        process.kill()
    assert 'a.zip' not in names(tmp_path)
    assert download.fetch(server.url('a'), tmp_path / 'a.zip', **WHOLE).read_bytes() == DATA
    assert int(server.asked['a'][1][6:-1]) >= 400_000
    assert names(tmp_path) == ['a.zip']


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path):
    inside = []

    def hold():
        with download.locked(tmp_path / 'a'):
            inside.append(1)
            time.sleep(0.01)
            assert len(inside) == 1
            inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not inside
    assert names(tmp_path) == []


@pytest.mark.parametrize('error', [FileNotFoundError, KeyboardInterrupt])
def test_an_error_inside_a_lock_comes_out_and_frees_it(tmp_path, error):
    for _ in range(2):
        with pytest.raises(error), download.locked(tmp_path / 'a'):
            raise error
    assert names(tmp_path) == []
