"""Tags and explains the clips of the page, one at a time; the page's queue calls it in a thread."""

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from avsc_jax.runtime import compiling
from avsc_jax.serve.queue import Progress, Refusal
from avsc_jax.tables import parts

TAGS = 10  # of each sense that are sent


class Tagger:
    """A system that tags clips and explains them, and says how far it is.

    Args:
      predictor: the system.
      window_s: length of the windows that a clip is divided into, in seconds; None: that of the
        clips that the system was trained on.
      max_seconds: longest time for one clip; explanations that take longer are left out.
    """

    def __init__(
        self, predictor: Predictor, *, window_s: float | None = None, max_seconds: float = 120.0
    ):
        self._predictor, self._window_s = predictor, predictor.wants(window_s).window_s
        self._max_seconds = max_seconds
        self._explain_s = 0.0  # that the explanation of a window took, of the last clip
        self._compiling, self._compiled_s, self._since = 0, 0.0, 0.0  # programs at work, seconds
        compiling.watch(functools.partial(self._compile, 1), functools.partial(self._compile, -1))

    @property
    def is_compiling(self) -> bool:
        """Whether a program is being compiled, as for the first clip of a kind."""
        return self._compiling > 0

    def _compile(self, more: int) -> None:
        if self._compiling and self._compiling + more <= 0:
            self._compiled_s += time.monotonic() - self._since
        elif not self._compiling:
            self._since = time.monotonic()
        self._compiling = max(0, self._compiling + more)

    def _working_s(self) -> float:
        """Time by a clock that stands still while programs are compiled."""
        return time.monotonic() - self._compiled_s

    def warm_up(self) -> None:
        """Compiles the networks, for answers and for explanations."""
        explain(self._predictor, warm_up(self._predictor, self._window_s))

    def about(self) -> dict[str, Any]:
        """Facts of the system for the page: title, classes and their kind, modalities, warnings."""
        names = ('title', 'classes', 'takes', 'warnings')
        facts = {name: getattr(self._predictor, name) for name in names}
        return facts | {'kind': parts.kind_of(self._predictor), 'window_s': self._window_s}

    def tag(
        self, file: Path, name: str, progress: Progress, given_up: threading.Event
    ) -> dict[str, Any]:
        """Tags and explains a clip.

        Args:
          file: the uploaded file.
          name: the file name to show.
          progress: is kept up to date.
          given_up: set when nobody waits for the answer any more.

        Returns:
          `{scenes, timeline, notes, warnings, explanation_html, seconds, ...}`.

        Raises:
          Refusal: the clip cannot be read, takes too long, or is given up.
        """
        began, self._compiling = time.monotonic(), 0
        tell = _Count(progress, self._working_s, self._explain_s)

        def is_late() -> bool:
            return time.monotonic() - began > self._max_seconds

        def watch(records: Sequence[Mapping]) -> None:
            if given_up.is_set():
                raise Refusal(499, 'the client has disconnected')
            if is_late():
                raise Refusal(
                    422,
                    f'{name} takes longer than {self._max_seconds:g} s; send a shorter clip, or '
                    'start the program with a larger --max_seconds',
                )
            tell.tagging(records)

        progress.step = 'opening'
        one = self._read(file, watch, given_up)
        if one.error:
            raise Refusal(422, one.error.replace(str(file), name))
        notes, reasons = [note.replace(str(file), name) for note in one.notes], []
        for window in tell.explaining(one.kept):
            if given_up.is_set() or is_late():
                notes.append('some windows are not explained: time was up')
                break
            reasons.append(explain(self._predictor, window))
        self._explain_s = tell.explain_s
        notes += familiarity.marks(one.familiarity)
        return self._answer(one, name, notes, reasons) | {'seconds': time.monotonic() - began}

    def _answer(
        self,
        one: media_files.Prediction,
        name: str,
        notes: list[str],
        reasons: list[explanation.Explanation],
    ) -> dict[str, Any]:
        spans = [(start_s, end_s, answer.probs) for start_s, end_s, answer in one.windows]
        warnings = self._predictor.warnings
        page = explanation.document(
            name,
            self._predictor.classes,
            spans,
            reasons,
            notes,
            warnings,
            parts=parts.of(self._predictor),
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
            'warnings': warnings,
            'explanation_html': page,
        }

    def _read(
        self, file: Path, watch: Callable[[Sequence[Mapping]], None], given_up: threading.Event
    ) -> media_files.Prediction:
        if given_up.is_set():  # while it waited
            raise Refusal(499, 'the client has disconnected')
        tagged = media_files.tag(
            _Watched(self._predictor, watch),
            [file],
            window_s=self._window_s,
            keep=True,
            workers=1,
            limits=Limits(seconds_per_window=self._max_seconds),
        )
        with contextlib.closing(tagged):  # closing ends its worker
            return next(tagged)

    def _ordered(self, probs: np.ndarray) -> list[dict[str, Any]]:
        """All scenes with their probabilities, the likeliest first; of tags, some of each part."""
        own = parts.of(self._predictor)
        most = len(probs) if len(own) == 1 else TAGS
        return [{'scene': name, 'p': value} for _, name, value in parts.best(own, probs, most)]


class _Count:
    """Keeps the progress of a clip, and estimates the time that is left.

    Args:
      progress: is kept up to date.
      clock: the time in seconds.
      explain_s: what the explanation of a window takes, as far as is known.
    """

    def __init__(self, progress: Progress, clock: Callable[[], float], explain_s: float):
        self.explain_s, self._progress, self._clock = explain_s, progress, clock
        self._began, self._starts = clock(), set[float]()

    def tagging(self, records: Sequence[Mapping]) -> None:
        """Notes that `records` are to be tagged; some may be so again, after an error."""
        first_s, total = records[0]['start_s'], records[0].get('num_windows', 0)
        done = sum(start_s < first_s for start_s in self._starts)
        self._starts |= {record['start_s'] for record in records}
        left_s = None
        if done and total:
            explaining_s = self.explain_s * min(media_files.KEPT, total)
            left_s = (self._clock() - self._began) / done * (total - done) + explaining_s
        self._progress.set('tagging', done, total, left_s)

    def explaining(self, windows: Sequence[Mapping]) -> Iterator[Mapping]:
        """Yields the windows that are to be explained."""
        began, total = self._clock(), len(windows)
        for done, window in enumerate(windows):
            if done:
                self.explain_s = (self._clock() - began) / done
            left_s = self.explain_s * (total - done)
            self._progress.set('explaining', done, total, left_s or None)
            yield window


class _Watched:
    """A predictor that calls `watch` before each answer; `watch` may raise to stop it."""

    def __init__(self, predictor: Predictor, watch: Callable[[Sequence[Mapping]], None]):
        self._predictor, self._watch = predictor, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def answers(self, records: Sequence[Mapping], **options: Any) -> list[Answer]:
        self._watch(records)
        return self._predictor.answers(records, **options)
