"""Tags and explains clips of several clients, one at a time, in a thread."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from avsc_jax.data.decode_workers import Limits
from avsc_jax.predict import media_files, resume
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.explain import explain
from avsc_jax.predict.predictor import Predictor
from avsc_jax.predict.stream import warm_up
from avsc_jax.report import explanation
from avsc_jax.runs import familiarity
from avsc_jax.tables import parts

MAX_WAITING = 4
TAGS = 10  # of each sense that are sent
MAX_UPLOADS = 32
SLOW_BYTES_S = 65_536  # an upload below this rate gives way to another client's
SLOW_AFTER_S = 0.1
WAIT_S = 2.0  # for an upload to give way
RETRY_S = 10  # until a client that was refused for want of a place may ask again
STOPPED = 'the program was stopped; start it and send the clip again'


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


class TaggingQueue:
    """A queue of clips that wait for one predictor.

    Args:
      predictor: the system that tags them.
      window_s: length of the windows that a clip is divided into, in seconds; None: that of the
        clips that the system was trained on.
      max_seconds: longest time for one clip; explanations that take longer are left out.
    """

    def __init__(
        self, predictor: Predictor, *, window_s: float | None = None, max_seconds: float = 120.0
    ):
        self.max_seconds = max_seconds
        self._predictor, self._window_s = predictor, predictor.wants(window_s).window_s
        # one thread: the compiler and the device are used by one clip at a time
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='tagging')
        self._uploads: set[Upload] = set()
        self._inside, self._doing = 0, ''

    def warm_up(self) -> None:
        """Compiles the networks, for answers and for explanations."""
        explain(self._predictor, warm_up(self._predictor, self._window_s))

    def about(self) -> dict[str, Any]:
        """Facts of the system for the page: title, classes, modalities, warnings, limits."""
        names = ('title', 'classes', 'takes', 'warnings')
        limits = {'window_s': self._window_s, 'max_seconds': self.max_seconds}
        return {name: getattr(self._predictor, name) for name in names} | limits

    @property
    def progress(self) -> str:
        """The current step in words, and how many clips wait; empty when idle."""
        waiting = self._inside - 1
        return self._doing + (f' ({waiting} waiting)' if self._doing and waiting > 0 else '')

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
        if self._inside > MAX_WAITING:
            raise Refusal(503, f'{MAX_WAITING} clips are waiting already; try again in a while')

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Reserves a place in the queue while the context is open; raises Refusal if it is full."""
        self._check_room()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def tag(self, file: Path, name: str, gone: Awaitable[None]) -> dict[str, Any]:
        """Tags and explains a clip, in the thread; see `_tagged` for the result.

        Args:
          file: the uploaded file.
          name: the file name to show.
          gone: completes when the client has disconnected.
        """
        given_up, loop = threading.Event(), asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._tagged, file, name, given_up)
        watch = asyncio.ensure_future(gone)
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as error:
            raise Refusal(503, STOPPED) from error
        finally:
            given_up.set()
            watch.cancel()
        return await work

    def _tagged(self, file: Path, name: str, given_up: threading.Event) -> dict[str, Any]:
        """Returns `{scenes, timeline, notes, warnings, explanation_html, seconds}` of a clip."""
        began, predictor = time.monotonic(), self._predictor

        def is_late() -> bool:
            return time.monotonic() - began > self.max_seconds

        def watch(records: Sequence[Mapping]) -> None:
            self._doing = f'{name}: tagging, from {records[0]["start_s"]:.0f} s on'
            if given_up.is_set():
                raise Refusal(499, 'the client has disconnected')
            if is_late():
                raise Refusal(
                    422,
                    f'{name} takes longer than {self.max_seconds:g} s; send a shorter clip, or '
                    'start the program with a larger --max_seconds',
                )

        self._doing = f'{name}: opening'
        try:
            one = self._read(file, watch)
            if one.error:
                raise Refusal(422, one.error.replace(str(file), name))
            notes, reasons = [note.replace(str(file), name) for note in one.notes], []
            for window in one.kept:
                if given_up.is_set() or is_late():
                    notes.append('some windows are not explained: time was up')
                    break
                self._doing = f'{name}: explaining, from {window["start_s"]:.0f} s on'
                reasons.append(explain(predictor, window))
        finally:
            self._doing = ''
        notes += familiarity.marks(one.familiarity)
        spans = [(start_s, end_s, answer.probs) for start_s, end_s, answer in one.windows]
        page = explanation.document(
            name,
            predictor.classes,
            spans,
            reasons,
            notes,
            predictor.warnings,
            parts=parts.of(predictor),
        )
        return {
            'scenes': self._ordered(one.probs),
            **({'labels': one.labels} if one.thresholds else {}),
            'timeline': [
                {'start_s': start_s, 'end_s': end_s, 'scene': scenes[0]['scene'], 'scenes': scenes}
                for start_s, end_s, scenes in ((s, e, self._ordered(p)) for s, e, p in spans)
            ],
            **resume.familiarity_of(one),
            'notes': notes,
            'warnings': predictor.warnings,
            'explanation_html': page,
            'seconds': time.monotonic() - began,
        }

    def _read(
        self, file: Path, watch: Callable[[Sequence[Mapping]], None]
    ) -> media_files.Prediction:
        tagged = media_files.tag(
            _Watched(self._predictor, watch),
            [file],
            window_s=self._window_s,
            keep=True,
            workers=1,
            limits=Limits(seconds_per_window=self.max_seconds),
        )
        with contextlib.closing(tagged):  # closing ends its worker
            return next(tagged)

    def _ordered(self, probs: np.ndarray) -> list[dict[str, Any]]:
        """All scenes with their probabilities, the likeliest first; of tags, some of each part."""
        own = parts.of(self._predictor)
        most = len(probs) if len(own) == 1 else TAGS
        return [{'scene': name, 'p': value} for _, name, value in parts.best(own, probs, most)]


class _Watched:
    """A predictor that calls `watch` before each answer; `watch` may raise to stop it."""

    def __init__(self, predictor: Predictor, watch: Callable[[Sequence[Mapping]], None]):
        self._predictor, self._watch = predictor, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def answers(self, records: Sequence[Mapping], **options: Any) -> list[Answer]:
        self._watch(records)
        return self._predictor.answers(records, **options)
