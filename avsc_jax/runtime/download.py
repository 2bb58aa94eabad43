"""Downloads files over HTTP: resumed by range, verified by size and hash, several at a time.

A file grows as `<path>.part` and is renamed once it is complete. A killed download is resumed if a
hash is given, which shows whether the server's file has changed meanwhile.
"""

import collections
import hashlib
import http.client
import os
import shutil
import ssl
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from avsc_jax.runtime.files import locked

TIMEOUT_S = 60.0  # without a byte
BACK_OFF_S = 1.0  # before the second attempt; doubles with each further one
MAX_BACK_OFF_S = 60.0
BLOCK_BYTES = 1 << 18
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers worth another attempt


class File(NamedTuple):
    """A file to fetch: its address and path and, if known, its size and hexadecimal hashes."""

    url: str
    path: Path
    num_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


class _Failure(Exception):
    """A failed attempt that is worth another one."""

    def __init__(self, reason: str, wait_s: float = 0.0):
        super().__init__(reason)
        self.wait_s = wait_s


def fetch(
    url: str,
    path: str | os.PathLike,
    *,
    num_bytes: int | None = None,
    md5: str | None = None,
    sha256: str | None = None,
    attempts: int = 5,
) -> Path:
    """Fetches one file to `path`, unless it is complete there, and returns `path`.

    Args:
      url: http or https.
      path: its folder is made if missing.
      num_bytes: the file's size; not a byte more is stored.
      md5, sha256: hexadecimal digests that the bytes must have.
      attempts: how many may fail in a row without a new byte.

    Raises:
      ValueError: the address is not http or https.
      OSError: the file could not be fetched, or the disk has no room for it.
    """
    file = File(url, Path(path), num_bytes, md5, sha256)
    return fetch_all([file], attempts=attempts)[0]


def fetch_all(files: Iterable[File], *, at_once: int = 4, attempts: int = 5) -> list[Path]:
    """Fetches several files like `fetch`, with one progress bar.

    Args:
      files: complete ones are left alone.
      at_once: number of connections.
      attempts: as in `fetch`, for each file.

    Raises:
      ValueError, OSError: as in `fetch`; one that fails does not keep the others from arriving.
    """
    files = [file._replace(path=Path(file.path)) for file in files]
    for file in files:
        if urllib.parse.urlsplit(file.url).scheme not in ('http', 'https'):
            raise ValueError(f'{file.url} is no http or https address; give one')
        file.path.parent.mkdir(parents=True, exist_ok=True)
    _check_space(files)
    sizes = [file.num_bytes for file in files if file.num_bytes is not None]
    total, stopped = sum(sizes) if len(sizes) == len(files) else None, threading.Event()
    title = files[0].path.name if len(files) == 1 else f'{len(files)} files'
    pool = ThreadPoolExecutor(at_once)
    with tqdm(
        total=total, desc=title, unit='B', unit_scale=True, leave=False, file=sys.stderr
    ) as bar:
        try:
            running = [pool.submit(_fetch, file, attempts, bar, stopped) for file in files]
            errors = [error for job in running if (error := job.exception())]
        finally:  # also when the user interrupts: the threads end at their next block
            stopped.set()
            pool.shutdown(cancel_futures=True)
    if len(errors) > 1:
        reasons = '; '.join(map(str, errors))
        raise OSError(f'{len(errors)} of {len(files)} files were not fetched: {reasons}')
    if errors:
        raise errors[0]
    return [file.path for file in files]


def _check_space(files: list[File]) -> None:
    """Raises OSError before the first download if a disk has no room for all files."""
    needed: collections.Counter[Path] = collections.Counter()
    for file in files:
        if file.num_bytes and not (file.path.exists() and _size(file.path) == file.num_bytes):
            needed[file.path.parent] += max(0, file.num_bytes - _size(_part_path(file)))
    by_device: collections.Counter[int] = collections.Counter()
    for folder, num_bytes in needed.items():
        by_device[folder.stat().st_dev] += num_bytes
        free, wanted = shutil.disk_usage(folder).free, by_device[folder.stat().st_dev]
        if wanted > free:
            raise OSError(
                f'{folder} has {free / 1e9:.1f} GB free, and {wanted / 1e9:.1f} GB are to be '
                'fetched; make room or name another folder'
            )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _part_path(file: File) -> Path:
    return file.path.with_name(f'{file.path.name}.part')


def _fetch(file: File, attempts: int, bar: tqdm, stopped: threading.Event) -> None:
    content, part = _Content(file, bar, stopped), _part_path(file)
    if content.is_whole_at(file.path):
        return
    with locked(file.path):
        if content.is_whole_at(file.path):  # another process has fetched it meanwhile
            return
        # without a hash, a change of the server's file would go unnoticed
        if content.hashes and 0 < _size(part) <= (file.num_bytes or sys.maxsize):
            content.read(part)
        failures, furthest, reason = 0, content.size, ''
        while True:
            before, wait_s = reason, 0.0
            try:
                if not 0 < content.size == file.num_bytes:
                    _receive(content, part)
                if not (reason := content.difference()):
                    part.replace(file.path)
                    return
                content.restart()
                part.unlink()
                if reason == before:
                    break  # the server sends the same wrong bytes again
            except _Failure as failure:
                reason, wait_s = str(failure), failure.wait_s
            failures = 1 if content.size > furthest else failures + 1
            furthest = max(furthest, content.size)
            back_off_s = BACK_OFF_S * 2 ** (failures - 1)
            wait_s = min(max(wait_s, back_off_s), MAX_BACK_OFF_S)
            if failures >= attempts or stopped.wait(wait_s):
                break
        raise OSError(
            f'{file.url} was not fetched to {file.path}: {reason}; check the address and the '
            'connection and give the same command again, which keeps what is there'
        )


def _receive(content: '_Content', part: Path) -> None:
    """Opens one connection and appends the missing bytes to the part, or starts it again."""
    headers = {'User-Agent': 'avsc_jax'}
    if content.size and (content.hashes or content.etag):
        headers['Range'] = f'bytes={content.size}-'
        if not content.hashes:
            headers['If-Range'] = content.etag
    request = urllib.request.Request(content.file.url, headers=headers)
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            _append(content, part, answer)
    except urllib.error.HTTPError as error:
        if error.code == 416 and any(content.file[2:]):
            return  # the part has all bytes; its size and hash are checked next
        reason = f'the server answers {error.code} ({error.reason})'
        if error.code not in BUSY:
            raise OSError(f'{content.file.url}: {reason}; check the address') from error
        wait_s = error.headers.get('Retry-After', '')
        raise _Failure(reason, float(wait_s) if wait_s.isdecimal() else 0.0) from error
    except urllib.error.URLError as error:
        raise _Failure(f'no connection ({error.reason})') from error
    except (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException) as error:
        raise _Failure(f'the connection broke off at byte {content.size:,} ({error})') from error


def _append(content: '_Content', part: Path, answer: http.client.HTTPResponse) -> None:
    num_bytes, length = content.file.num_bytes, answer.headers.get('Content-Length')
    start = content.size if answer.status == 206 else 0  # it knows no ranges, or has another file
    if start and not answer.headers.get('Content-Range', '').startswith(f'bytes {start}-'):
        raise _Failure(f'the server sends another range than from byte {start:,}')
    claimed = start + int(length) if length else None
    if claimed and num_bytes and claimed != num_bytes:
        raise _Failure(f'the server claims {claimed:,} bytes, not {num_bytes:,}')
    if not start:
        content.restart()
    etag = answer.headers.get('ETag', '')
    content.etag = '' if etag.startswith('W/') else etag  # weak ones do not promise equal bytes
    with part.open('ab' if start else 'wb') as stored:
        while block := answer.read(BLOCK_BYTES):
            content.count(block)
            if num_bytes and content.size > num_bytes:
                return
            stored.write(block)
        stored.flush()
        os.fsync(stored.fileno())
    expected = num_bytes or claimed
    if expected and content.size < expected:
        raise _Failure(f'the connection broke off at byte {content.size:,} of {expected:,}')


class _Content:
    """Number and hashes of the bytes of a file that are on the disk."""

    def __init__(self, file: File, bar: tqdm, stopped: threading.Event):
        self.file, self.bar, self.stopped, self.size, self.etag = file, bar, stopped, 0, ''
        self.restart()

    def restart(self) -> None:
        known = [name for name in ('md5', 'sha256') if getattr(self.file, name)]
        self.hashes = {name: hashlib.new(name, usedforsecurity=False) for name in known}
        self.bar.update(-self.size)
        self.size = 0

    def count(self, block: bytes) -> None:
        if self.stopped.is_set():
            raise _Failure('stopped')
        for digest in self.hashes.values():
            digest.update(block)
        self.size += len(block)
        self.bar.update(len(block))

    def read(self, path: Path) -> None:
        """Counts the bytes stored at the path."""
        with path.open('rb') as stored:
            while block := stored.read(BLOCK_BYTES):
                self.count(block)

    def is_whole_at(self, path: Path) -> bool:
        """Whether the complete file is at the path; counts its bytes if so, else none."""
        if path.exists() and self.file.num_bytes in (None, _size(path)):
            self.read(path)
            if not self.difference():
                return True
            self.restart()
        return False

    def difference(self) -> str:
        """Says in which size or hash the bytes differ from the file's; empty if in none."""
        num_bytes = self.file.num_bytes
        if num_bytes is not None and self.size != num_bytes:
            which = 'more' if self.size > num_bytes else 'less'
            return f'the server sends {which} than {num_bytes:,} bytes'
        for name, digest in self.hashes.items():
            known = getattr(self.file, name).lower()
            if digest.hexdigest() != known:
                return f'the {name} of the received bytes is {digest.hexdigest()}, not {known}'
        return ''


def _opener() -> urllib.request.OpenerDirector:
    """Returns urllib's opener without local files and FTP, to which a server might redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


_OPENER = _opener()
