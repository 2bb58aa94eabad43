"""Runs avsc_jax.serve on parsed flags: a page and its JSON, as an ASGI application."""

import argparse
import contextlib
import functools
import ipaddress
import os
import secrets
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from avsc_jax.data import media
from avsc_jax.runtime import disk
from avsc_jax.runtime.files import Busy, locked
from avsc_jax.runtime.leftovers import temporary as removed_at_end
from avsc_jax.serve.queue import RETRY_S, Refusal, TaggingQueue, Upload

if TYPE_CHECKING:  # of the extra `web`, and what loads JAX
    from starlette.requests import Request

    from avsc_jax.serve.tagger import Tagger

WEB = Path(__file__).parent
STYLE = WEB.parent / 'report/templates/page.css'  # of all pages; that of this one comes after it
KINDS = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript'}
SAID = {'compiling': 'compiling ...', 'ready': 'ready'}
UPLOADS = 'avsc-serve-'  # the names of temporary folders begin so
HEADERS = {
    # the explanation in the page's frame has its style and its pictures inline
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data: blob:; media-src blob:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cache-Control': 'no-store',
}


def run(args: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401

        from avsc_jax.serve.connections import server
    except ImportError as error:
        raise ValueError(
            f"the page needs {error.name}, which is not installed: pip install 'avsc_jax[web]'"
        ) from error
    if not _is_local(args.host):
        print(
            f'! --host {args.host}: everyone who reaches this machine can have clips tagged; '
            'there is no password and no encryption',
            file=sys.stderr,
        )
    desk = TaggingQueue(functools.partial(load, args), max_seconds=args.max_seconds)
    with upload_folder() as folder, contextlib.closing(_listener(args.host, args.port)) as listener:
        host = f'[{args.host}]' if ':' in args.host else args.host
        print(f'http://{host}:{listener.getsockname()[1]}  (Ctrl-C ends it)', flush=True)
        serving = server(app(desk, args.host, max_mb=args.max_mb, folder=folder))

        def end(opening: 'Future[None]') -> None:
            serving.should_exit |= opening.exception() is not None

        def say(state: str) -> None:
            if state in SAID:
                print(SAID[state], file=sys.stderr, flush=True)

        opening = desk.open(say)
        opening.add_done_callback(end)
        serving.run(sockets=[listener])
        if opening.done():
            opening.result()  # raises what kept the system from being opened
    return 0


def load(args: argparse.Namespace) -> 'Tagger':
    """Opens the system that the flags name; imports what takes seconds."""
    from avsc_jax.predict.opened import opened
    from avsc_jax.serve.tagger import Tagger

    return Tagger(opened(args), window_s=args.window, max_seconds=args.max_seconds)


@contextlib.contextmanager
def upload_folder() -> Iterator[Path]:
    """Makes a folder for uploads, which is deleted at the end; deletes those of killed servers.

    A server holds the lock of its folder as long as it runs.
    """
    temporary = Path(tempfile.gettempdir())
    for lock in temporary.glob(f'{UPLOADS}*.lock'):
        with contextlib.suppress(OSError, Busy):
            facts = lock.lstat()
            if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.getuid():
                left = lock.with_suffix('')
                with locked(left, busy='it is at work'):
                    shutil.rmtree(left, ignore_errors=True)
    folder = temporary / f'{UPLOADS}{secrets.token_hex(8)}'
    with locked(folder), removed_at_end(folder):
        folder.mkdir(0o700)
        yield folder


def app(
    desk: TaggingQueue, host: str, *, max_mb: float = 200.0, folder: Path | None = None
) -> Callable[..., Awaitable[None]]:
    """Makes the ASGI application: the page and its JSON.

    Args:
      desk: the queue that tags the clips.
      host: the name of the page, besides localhost and numeric addresses.
      max_mb: the largest clip that is accepted.
      folder: where clips are kept while they are tagged; None: that of temporary files.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def part(file: Path) -> Route:
        text = (STYLE.read_text('utf-8') if file.suffix == '.css' else '') + file.read_text('utf-8')
        path = '/' if file.suffix == '.html' else f'/{file.name}'
        return Route(path, lambda _: Response(text, media_type=KINDS[file.suffix]))

    async def tag(request: 'Request') -> JSONResponse:
        with (
            desk.clip(request.query_params.get('key', '')) as progress,
            tempfile.TemporaryDirectory(prefix=UPLOADS, dir=folder) as own,
        ):
            async with desk.upload() as upload:
                file, name = await received(request, Path(own), round(max_mb * 2**20), upload)
            with desk.place(progress):
                return JSONResponse(await desk.tag(file, name, _gone(request), progress))

    async def ready(_: 'Request') -> JSONResponse:
        later = None if desk.state == 'ready' else {'Retry-After': f'{RETRY_S}'}
        return JSONResponse({'state': desk.state}, 503 if later else 200, later)

    async def progressed(request: 'Request') -> JSONResponse:
        return JSONResponse(desk.progress(request.query_params.get('key', '')))

    async def refused(_: 'Request', error: Exception) -> JSONResponse:
        status = getattr(error, 'status', 500)
        later = {'Retry-After': f'{RETRY_S}'} if status == 503 else None
        return JSONResponse({'error': str(error)}, status, later)

    routes = [
        *map(part, WEB.glob('page.*')),
        Route('/api/about', lambda _: JSONResponse({**desk.about(), 'max_mb': max_mb})),
        Route('/api/ready', ready),
        Route('/api/progress', progressed),
        Route('/api/tag', tag, methods=['POST']),
    ]
    handlers = {kind: refused for kind in (Refusal, ValueError, OSError)}
    return guarded(Starlette(routes=routes, exception_handlers=handlers), host)


def guarded(inner: Callable[..., Awaitable[None]], host: str) -> Callable[..., Awaitable[None]]:
    """Returns an application that refuses requests of other web sites, and adds HEADERS.

    Args:
      host: see `app`.
    """
    from starlette.responses import JSONResponse

    async def answered(scope: dict, receive: Callable, send: Callable) -> None:
        async def answer(message: dict) -> None:
            if message['type'] == 'http.response.start':
                added = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, 'headers': [*message['headers'], *added]}
            await send(message)

        headers = {k.decode('latin-1'): v.decode('latin-1') for k, v in scope['headers']}
        why = refusal(headers, host)
        target = JSONResponse({'error': why}, 403) if why else inner
        await target(scope, receive, answer)

    return answered


def refusal(headers: Mapping[str, str], host: str) -> str | None:
    """Why a request is refused as coming from another web site; None if it is accepted.

    Another site can make a browser send requests here: by its own name, which it points at this
    machine (DNS rebinding, so `Host` must not be a foreign name), or across sites (`Origin` is then
    its own).
    """
    asked, origin = headers.get('host', ''), headers.get('origin')
    try:
        name, site = urlsplit(f'//{asked}').hostname or '', urlsplit(origin or '').netloc
    except ValueError:  # half a bracket
        return 'the Host of the request is not valid; open the page by its address'
    if name not in ('localhost', host.lower()) and not _is_address(name):
        return f'the Host of the request is {name!r}; open the page by its address'
    if origin is not None and site != asked:
        return f'clips are accepted from this page, not from {origin}'
    return None


async def received(
    request: 'Request', folder: Path, max_bytes: int, upload: Upload
) -> tuple[Path, str]:
    """Writes the clip of a request into a folder as it comes: its file, and what it is called.

    It is the body, with its name in `?name=`, or the only file of a form. The upload counts its
    bytes.
    """
    from python_multipart import FormParser
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import parse_options_header
    from starlette.requests import ClientDisconnect

    def field(_) -> None:
        raise Refusal(400, 'the form must hold one file and nothing else')

    def keep(part) -> None:
        if files:
            field(part)
        files.append(part)

    kind, options = parse_options_header(request.headers.get('content-type'))
    is_form = kind == b'multipart/form-data'
    files, most = [], f'{max_bytes / 2**20:g} MB'
    try:
        parser = FormParser(
            kind.decode() if is_form else 'application/octet-stream',
            field,
            keep,
            boundary=options.get(b'boundary'),
            file_name=request.query_params.get('name', 'clip').encode(),
            config={
                'UPLOAD_DIR': str(folder),
                'UPLOAD_DELETE_TMP': False,  # the folder is deleted
                'MAX_MEMORY_FILE_SIZE': 0,
            },
        )
        if int(request.headers.get('content-length', 0)) > max_bytes:
            raise Refusal(413, f'the clip is larger than {most}; send a smaller one')
        async for chunk in request.stream():
            upload.num_bytes += len(chunk)
            if upload.num_bytes > max_bytes:
                raise Refusal(413, f'the clip is larger than {most}; send a smaller one')
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f'the form cannot be read: {error}') from error
    except OSError as error:
        if not disk.explained(error):
            raise
        raise Refusal(
            507, 'the server cannot keep the clip: its temporary folder is full or read-only'
        ) from error
    except ClientDisconnect as error:
        raise Refusal(499, 'the upload was cut off') from error
    finally:
        for part in files:
            part.close()
    if not files or not files[0].size:
        raise Refusal(400, 'there is no clip in the request; send a file')
    name = Path(files[0].file_name.decode('utf-8', 'replace')).name[:200]
    return Path(files[0].actual_file_name.decode()).rename(folder / _kept_name(name)), name


def _kept_name(name: str) -> str:
    """Returns the name under which a clip is kept, with the ending of its own if that is known."""
    suffix = Path(name).suffix.lower()
    return f'clip{suffix if suffix in media.VIDEOS + media.SOUNDS + media.PICTURES else ""}'


async def _gone(request: 'Request') -> None:
    """Waits until the client has disconnected."""
    while (await request.receive())['type'] != 'http.disconnect':
        pass


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    return host == 'localhost' or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _listener(host: str, port: int) -> socket.socket:
    """Opens the port."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, 'strerror', None) or error).rstrip('.')
        raise ValueError(
            f'cannot serve at port {port} of {host}: {reason}; choose another by --port'
        ) from error
