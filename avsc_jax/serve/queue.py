"""The queue of the page: uploads and clips of several clients, of which one is tagged at a time.

It imports nothing that takes long, so that the page answers while the system is loaded.
"""

import asyncio
import contextlib
import dataclasses
import math
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loads JAX
    from avsc_jax.serve.tagger import Tagger

MAX_WAITING = 4
MAX_UPLOADS = 32
SLOW_BYTES_S = 65_536  # an upload below this rate gives way to another client's
SLOW_AFTER_S = 0.1
WAIT_S = 2.0  # for an upload to give way
RETRY_S = 10  # until a client that was refused for want of a place may ask again
STOPPED = 'the program was stopped; start it and send the clip again'
KEY = re.compile(r'[A-Za-z0-9-]{16,64}', re.ASCII)  # by which a client asks about its own clip


class Refusal(Exception):
    """An error for the client: a sentence, and the status code of HTTP."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Upload:
    """A clip that is coming.

    Attributes:
      num_bytes: how much of it has come.
    """

    def __init__(self, time_limit: asyncio.Timeout):
        self.num_bytes, self.has_lost = 0, False
        self._began_s, self._time_limit = time.monotonic(), time_limit

    @property
    def bytes_per_s(self) -> float:
        """The rate, or infinity in its first moments."""
        seconds = time.monotonic() - self._began_s
        return self.num_bytes / seconds if seconds > SLOW_AFTER_S else math.inf

    def give_way(self) -> None:
        """Ends the upload; its client gets a Refusal."""
        self.has_lost = True
        self._time_limit.reschedule(0)  # a time that has passed


@dataclasses.dataclass
class Progress:
    """How far the program is with a clip.

    Attributes:
      step: 'uploading', 'waiting', 'opening', 'tagging' or 'explaining'.
      done, total: windows of the step; total is 0 while it is not known.
      left_s: estimate of the time left in seconds; None if there is none yet.
    """

    step: str = 'uploading'
    done: int = 0
    total: int = 0
    left_s: float | None = None

    def set(self, step: str, done: int = 0, total: int = 0, left_s: float | None = None) -> None:
        """Sets all of them."""
        self.step, self.done, self.total, self.left_s = step, done, total, left_s


class TaggingQueue:
    """A queue of clips that wait for one system.

    Args:
      load: opens the system; it is called in the thread that tags, by `open`.
      max_seconds: longest time for an upload.

    Attributes:
      state: 'loading', 'compiling' or 'ready'.
    """

    def __init__(self, load: 'Callable[[], Tagger]', *, max_seconds: float = 120.0):
        self.max_seconds, self.state = max_seconds, 'loading'
        self._load = load
        self._tagger: Tagger | None = None
        # one thread: the compiler and the device are used by one clip at a time
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='tagging')
        self._uploads: set[Upload] = set()
        self._inside: list[Progress] = []  # the first one is being tagged
        self._clips: dict[str, Progress] = {}

    def open(self, said: Callable[[str], None] = lambda state: None) -> 'Future[None]':
        """Loads and compiles the system; clips that come meanwhile wait.

        Args:
          said: is called with each state.
        """

        def opened() -> None:
            said(self.state)
            self._tagger = self._load()
            self.state = 'compiling'
            said(self.state)
            self._tagger.warm_up()
            self.state = 'ready'
            said(self.state)

        return self._thread.submit(opened)

    def about(self) -> dict[str, Any]:
        """Facts for the page: the state, limits, and once it is loaded those of the system."""
        facts = self._tagger.about() if self._tagger else {}
        return {'state': self.state, 'max_seconds': self.max_seconds, **facts}

    def progress(self, key: str = '') -> dict[str, Any]:
        """How far the program is: the state, how many clips wait, and the progress of one clip.

        Args:
          key: that the clip was sent with. Nothing tells of clips without knowing their keys.
        """
        facts = {
            'state': self.state,
            'is_compiling': bool(self._tagger and self._tagger.is_compiling),
            'waiting': max(0, len(self._inside) - 1),
        }
        if not (clip := self._clips.get(key)):
            return facts
        ahead = next((k for k, one in enumerate(self._inside) if one is clip), 0)
        return {**facts, **dataclasses.asdict(clip), 'ahead': ahead}

    @contextlib.contextmanager
    def clip(self, key: str) -> Iterator[Progress]:
        """Keeps the progress of a clip while the context is open; its client asks by the key.

        Raises:
          Refusal: the key is not empty and no key, or another clip has it.
        """
        if key and not KEY.fullmatch(key):
            raise Refusal(400, 'key must be 16 to 64 letters, digits or hyphens, or be left out')
        if key in self._clips:
            raise Refusal(409, 'a clip with this key is being tagged; send another key')
        progress = Progress()
        if key:
            self._clips[key] = progress
        try:
            yield progress
        finally:
            self._clips.pop(key, None)

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncIterator[Upload]:
        """Holds an upload, if there is room; raises Refusal if there is none, or time is up.

        If there are MAX_UPLOADS already, the slowest one below SLOW_BYTES_S gives way.
        """
        self._check_room()
        upload = None
        try:
            await self._make_way()
            async with asyncio.timeout(self.max_seconds) as time_limit:
                self._uploads.add(upload := Upload(time_limit))
                yield upload
        except TimeoutError as error:
            late = f'the upload took over {self.max_seconds:g} s; send a smaller clip'
            slow = (
                f'the upload came at less than {SLOW_BYTES_S // 1024} KB a second while others '
                'waited; try again in a while'
            )
            raise (Refusal(503, slow) if upload.has_lost else Refusal(408, late)) from error
        except asyncio.CancelledError as error:
            raise Refusal(503, STOPPED) from error
        finally:
            self._uploads.discard(upload)

    async def _make_way(self) -> None:
        end_s = time.monotonic() + WAIT_S
        while len(self._uploads) >= MAX_UPLOADS:
            slowest = min(self._uploads, key=lambda upload: upload.bytes_per_s)
            if slowest.bytes_per_s < SLOW_BYTES_S:
                self._uploads.remove(slowest)
                slowest.give_way()
            elif time.monotonic() < end_s:
                await asyncio.sleep(SLOW_AFTER_S / 2)
            else:
                raise Refusal(503, f'{MAX_UPLOADS} clips are coming already; try again in a while')

    def _check_room(self) -> None:
        if len(self._inside) > MAX_WAITING:
            raise Refusal(503, f'{MAX_WAITING} clips are waiting already; try again in a while')

    @contextlib.contextmanager
    def place(self, progress: Progress | None = None) -> Iterator[None]:
        """Reserves a place in the queue while the context is open; raises Refusal if it is full."""
        self._check_room()
        self._inside.append(progress := progress or Progress())
        progress.set('waiting')
        try:
            yield
        finally:
            self._inside = [one for one in self._inside if one is not progress]

    async def tag(
        self, file: Path, name: str, gone: Awaitable[None], progress: Progress | None = None
    ) -> dict[str, Any]:
        """Tags and explains a clip, in the thread; see `Tagger.tag` for the result.

        Args:
          file: the uploaded file.
          name: the file name to show.
          gone: completes when the client has disconnected.
          progress: of the clip.
        """
        given_up, loop = threading.Event(), asyncio.get_running_loop()

        def tagged() -> dict[str, Any]:
            assert self._tagger  # `open` was called before
            return self._tagger.tag(file, name, progress or Progress(), given_up)

        work = loop.run_in_executor(self._thread, tagged)
        watch = asyncio.ensure_future(gone)
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            raise Refusal(503, STOPPED) from error
        finally:
            given_up.set()
            watch.cancel()
        return await work
