"""Clients that keep the page waiting, on purpose or not, beside one that is served all the same."""

import contextlib
import http.client
import json
import select
import socket
import time

import pytest

from avsc_jax.serve import connections, queue

BODY = b'x' * 200_000
POST = b'POST /api/tag HTTP/1.1\r\nHost: 127.0.0.1\r\n'
CHUNKED = b'Transfer-Encoding: chunked\r\n\r\n'
HOSTILE = {
    'idle': b'',
    'half a header': b'GET / HTTP/1.1\r\nHost: 127.0',
    'a huge header': b'GET / HTTP/1.1\r\nX: ' + b'x' * 100_000,
    'many headers': b'GET / HTTP/1.1\r\n' + b'X: x\r\n' * 10_000,
    'no HTTP': b'\x16\x03\x01\x02\x00\x01\x00\r\n\r\n',
    'less than it says': POST + b'Content-Length: 99\r\n\r\nabc',
    'a negative length': POST + b'Content-Length: -9\r\n\r\nabc',
    'a length without end': POST + b'Content-Length: ' + b'9' * 5000 + b'\r\n\r\nabc',
    'two lengths': POST + b'Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd',
    'more than it says': POST + b'Content-Length: 1\r\n\r\nabcdef\r\n\r\n',
    'nonsense for a chunk': POST + CHUNKED + b'5\r\nabcde\r\nnonsense\r\n',
    'a negative chunk': POST + CHUNKED + b'-5\r\nabcde\r\n',
    'nonsense after a refusal': b'POST / HTTP/1.1\r\nHost: x\r\n' + CHUNKED + b'zz\r\n' * 99,
    'a path upwards': b'GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n',
    'a coded path': b'GET /%2e%2e%2f%00%ff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n',
    'a name upwards': POST.replace(b'tag', b'tag?name=..%2f%00%ff') + b'Content-Length: 9\r\n\r\n',
    'an upgrade': b'GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
}  # fmt: skip


class Desk(queue.TaggingQueue):
    """A queue whose clips are answered with their size."""

    def __init__(self):
        super().__init__(lambda: None)

    async def tag(self, file, name, gone, progress):
        gone.close()
        return {'bytes': file.stat().st_size}


@pytest.fixture
def port(served, monkeypatch, tmp_path, capsys, caplog):
    """The port of a page with short times, which must leave no file and complain of nothing."""
    monkeypatch.setattr(connections, 'REQUEST_S', 0.4)
    with served(Desk(), folder=tmp_path) as port:
        yield port
    assert [*tmp_path.iterdir()] == []
    assert (capsys.readouterr().err, caplog.text) == ('', '')


def attack(port, sent):
    client = socket.create_connection(('127.0.0.1', port))
    with contextlib.suppress(ConnectionError):  # it is refused before all is sent
        client.sendall(sent)
    return client


def serve_well(port, times=2):
    """Asks as an honest client does; each answer must be right."""
    for _ in range(times):
        client = http.client.HTTPConnection('127.0.0.1', port, timeout=5)
        client.request('POST', '/api/tag', BODY)
        answer = client.getresponse()
        assert (answer.status, json.loads(answer.read())) == (200, {'bytes': len(BODY)})
        client.close()


def is_closed(client, within_s):
    """Whether the server closes a connection; reads what it answers before."""
    end_s = time.monotonic() + within_s
    while select.select([client], [], [], max(0, end_s - time.monotonic()))[0]:
        try:
            if not client.recv(65_536):
                return True
        except ConnectionError:
            return True
    return False


def test_an_honest_client_is_served_beside_each_hostile_one(port):
    for sent in HOSTILE.values():
        with attack(port, sent), attack(port, sent) as half:
            with contextlib.suppress(OSError):
                half.shutdown(socket.SHUT_WR)
            serve_well(port, times=1)


def test_a_hundred_idle_connections_keep_nobody_out_and_are_closed(port):
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(attack(port, b'GET / HT' * (k % 2))) for k in range(100)]
        serve_well(port)
        assert is_closed(idle[0], 0.2)  # the oldest have given way
        assert all(is_closed(client, 1.5) for client in idle)


def test_headers_that_come_byte_by_byte_end_at_a_time_also_after_an_answer(port):
    whole = b'GET /api/progress HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'
    for before in (b'', whole):
        with attack(port, before) as client:
            end_s = time.monotonic() + 3
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < end_s:
                    client.sendall(b'G')
                    time.sleep(0.05)
            assert time.monotonic() < end_s


def test_slow_uploads_give_way_to_others_and_are_told_when_to_come_again(port):
    slow = POST + b'Content-Length: 100000\r\n\r\nabc'
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(attack(port, slow)) for _ in range(queue.MAX_UPLOADS + 8)]
        serve_well(port)
        answers = [client.recv(9999) for client in clients if select.select([client], [], [], 0)[0]]
    assert answers and all(answer.startswith(b'HTTP/1.1 503') for answer in answers)
    assert all(
        b'Retry-After: 10' in answer.replace(b'retry-after', b'Retry-After') for answer in answers
    )


def test_a_client_that_reads_no_answer_is_given_up(port, monkeypatch):
    monkeypatch.setattr(connections, 'ANSWER_S', 0.3)
    ask = b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(('127.0.0.1', port))
        with pytest.raises(OSError):
            client.settimeout(2.0)
            while True:  # until the buffers on the way are full
                client.sendall(ask)
        assert is_closed(client, 3)
