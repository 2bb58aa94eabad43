"""A buffer of the last seconds of a live source, between its readers and a predictor.

Memory is bounded: parts older than a window and the time read ahead are dropped.
"""

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import av
import numpy as np

from avsc_jax.data import media
from avsc_jax.data.windows import Wants, has_all_pictures

AHEAD_S = 3.0  # how far a source is read ahead, and how long a silent track is waited for
SHORTEST_S = 0.05  # the shortest last window that is answered
POLL_S = 0.1  # how often a waiting thread checks for Ctrl-C
PICTURES_PER_S = 10.0  # the densest frame rule takes no more

SOUND, PICTURE = 'sound', 'picture'


class SoundBlock(NamedTuple):
    """A block of samples [N, 2]; `clipped` is the share of the sound so far that was clipped."""

    samples: np.ndarray
    rate_hz: int
    channels: int
    clipped: float = 0.0


class Track:
    """The parts of one track in their order, with their times; old ones are dropped."""

    def __init__(self, keep_s: float, now: float):
        self._keep_s, self.grew_at = keep_s, now
        self._parts: deque[tuple[float, float, Any]] = deque()
        self.end_s = 0.0
        self.is_open = True

    def add(self, start_s: float, end_s: float, part: Any) -> None:
        """Appends a part; without one, the last one goes on."""
        if part is not None:
            self._parts.append((start_s, end_s, part))
        elif self._parts:
            self._parts[-1] = (self._parts[-1][0], end_s, self._parts[-1][2])
        self.end_s = max(self.end_s, end_s)
        while self._parts and self._parts[0][1] < end_s - self._keep_s:
            self._parts.popleft()

    def between(self, start_s: float, end_s: float) -> list[tuple[float, Any]]:
        """The parts that overlap an interval, with their starts."""
        return [(at, part) for at, to, part in self._parts if at < end_s and to > start_s]

    def extent(self) -> media.Extent:
        """When the track has data, as far as it is kept; a later end has not come yet."""
        spans = [(at, to) for at, to, _ in self._parts] or [(float('inf'), float('inf'))]
        gaps = [(a, b) for (_, a), (b, _) in itertools.pairwise(spans) if b - a > media.GAP_S]
        return media.Extent(spans[0][0], spans[-1][1], tuple(gaps))


class Tape:
    """Buffers the tracks that readers write, and hands windows of them to a predictor.

    A source that is faster than real time waits for the predictor, so that no second is lost. A
    source in real time never waits, because a recorder would lose data: if the predictor is slower,
    it leaves out seconds.

    Args:
      wants: the media that the predictor takes.
      stop: ends readers and predictor when it is set.
      clock: returns the time in seconds.
    """

    def __init__(
        self, wants: Wants, stop: threading.Event, clock: Callable[[], float] = time.monotonic
    ):
        self.wants, self.stop = wants, stop
        self._clock, self._done = clock, 0.0
        self._began: float | None = None
        self._changed = threading.Condition()
        self._tracks: dict[str, Track] = {}
        self._readers = self._quiet = 0  # readers that run, and those that have not begun
        self._error: Exception | None = None
        self._picks = wants.picks()
        rules = [pick.rule for pick in self._picks.values()]
        picked = [media.pick_frames(rule, 10**6, duration_s=wants.window_s) for rule in rules]
        most = max((len(places) for places in picked), default=1)
        # twice as many as are picked, so that each is close to the time that the rule asks for
        self._picture_every_s = max(1 / PICTURES_PER_S, wants.window_s / (2 * most))
        self._next_picture_s, self._samples = 0.0, 0

    @contextlib.contextmanager
    def recording(self, readers: Sequence[Callable[['Tape'], None]]) -> Iterator[None]:
        """Runs the readers, each in a thread of its own, while the context is open."""
        self._readers = self._quiet = len(readers)
        threads = [threading.Thread(target=self._read, args=(r,), daemon=True) for r in readers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(5 * POLL_S)  # one that waits at an empty pipe ends with the process

    def _read(self, reader: Callable[['Tape'], None]) -> None:
        try:
            reader(self)
        except Exception as error:  # `ends` raises it: no track may go missing without a word
            self._error = error
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def track(self, *kinds: str) -> Iterator[None]:
        """Within it a reader may add to these; each reader enters it once, before it reads."""
        keep_s = self.wants.window_s + 2 * AHEAD_S + 2
        with self._changed:
            self._tracks |= {kind: Track(keep_s, self._clock()) for kind in kinds}
            self._quiet -= 1
        try:
            yield
        finally:
            with self._changed:
                for kind in kinds:
                    self._tracks[kind].is_open = False
                self._changed.notify_all()

    def add_sound(self, sound: SoundBlock, start_s: float | None = None) -> None:
        """Appends samples to the sound track, which may begin after a gap at `start_s`."""
        if start_s is not None:
            self._samples = max(self._samples, round(start_s * sound.rate_hz))
        first = self._samples
        self._samples += len(sound.samples)
        self._add(SOUND, first / sound.rate_hz, self._samples / sound.rate_hz, sound)

    def add_picture(self, start_s: float, length_s: float, frame: av.VideoFrame) -> None:
        """Appends a frame to the picture track; most of those that follow closely are dropped."""
        part = None
        if start_s >= self._next_picture_s:
            part = self._converted(frame)
            # times are on a grid, so that rounding does not add up; a gap starts a new grid
            every_s = self._picture_every_s
            self._next_picture_s = max(self._next_picture_s + every_s, start_s + every_s / 2)
        self._add(PICTURE, start_s, start_s + length_s, part)

    def go_on(self, kind: str, end_s: float) -> None:
        """Ends waiting for data of a track before a time; its last picture is shown until then."""
        with self._changed:
            track = self._tracks[kind]
            if end_s > track.end_s:
                if kind == PICTURE:
                    track.add(track.end_s, end_s, None)
                track.end_s = end_s
                self._changed.notify_all()

    def _converted(self, frame: av.VideoFrame) -> dict[str, np.ndarray]:
        images = {}
        media.check_picture_size('the recording', frame.width, frame.height)
        for name, pick in self._picks.items():
            size = media.scaled(frame.width, frame.height, pick.short_side)
            image = media.rgb(frame, size)
            images[name] = pick.resize(image) if pick.resize else image
        return images

    def _add(self, kind: str, start_s: float, end_s: float, part: Any) -> None:
        with self._changed:
            if self._began is None:
                self._began = self._clock()
            while start_s > max(self._done, self._elapsed_s()) + AHEAD_S:
                if self.stop.is_set():
                    return
                self._changed.wait(POLL_S)
            self._tracks[kind].add(start_s, end_s, part)
            self._tracks[kind].grew_at = self._clock()
            self._changed.notify_all()

    def ends(self) -> Iterator[tuple[float, int]]:
        """Yields `(end_s, skipped)` of each window, as soon as it is complete.

        A window ends each second and at the end of the source; `skipped` seconds before it are
        left out.

        Raises:
          ValueError: the source ended before there was anything to tag, or a reader failed.
        """
        while self._comes(self._done + 1):
            with self._changed:
                end_s = max(self._done + 1.0, min(self._ready_s(), self._elapsed_s()) // 1)
                skipped, self._done = round(end_s - self._done) - 1, end_s
                self._changed.notify_all()
            yield end_s, skipped
        with self._changed:
            rest_s = self._ready_s() - self._done
        if rest_s > (SHORTEST_S if self._done else 0):
            yield self._done + rest_s, 0
        elif not (self._done or self._error or self.stop.is_set()):
            raise ValueError('the source ended before there was anything to tag; is it empty?')
        if self._error:
            raise self._error

    @property
    def end_s(self) -> float:
        """The end of the longest track, in seconds."""
        with self._changed:
            return max((track.end_s for track in self._tracks.values()), default=0.0)

    def window(self, start_s: float, end_s: float) -> dict:
        """The sound and the pictures between two times, as a record.

        What is there is decided as in files, see media.Extent.is_there; what is not is told in
        `missing`, and in `partly`.
        """
        with self._changed:
            start_s = max(0.0, start_s)
            tracks, span = self._tracks.items(), (start_s, end_s - start_s)
            extents = {kind: track.extent() for kind, track in tracks}
            there = [kind for kind, extent in extents.items() if extent.is_there(*span)]
            parts = {kind: self._tracks[kind].between(start_s, end_s) for kind in there}
        wanted = [SOUND] * self.wants.audio + [PICTURE] * bool(self._picks)
        absent = {kind: f'there is no {kind} track' for kind in wanted if kind not in extents}
        told: dict[str, dict[str, str]] = {'missing': absent, 'partly': {}}
        for kind, extent in extents.items():
            why = extent.told(kind, *span)
            why = f'no {kind} yet' if extent.start_s == float('inf') else why
            if why:
                told['partly' if kind in there else 'missing'][kind] = f'there is {why}'
        record: dict[str, Any] = {'start_s': start_s, 'end_s': end_s, **told}
        if blocks := parts.get(SOUND):
            record |= _joined(blocks, start_s, end_s)
        if shown := parts.get(PICTURE, []):
            record |= self._picked(shown, extents[PICTURE].end_s, span)
        if not has_all_pictures(record, self._picks):
            told['partly'].setdefault(PICTURE, 'there are moments of a window without pictures')
        return record

    def _picked(
        self, shown: Sequence[tuple[float, Any]], end_s: float, span: tuple[float, float]
    ) -> dict[str, Any]:
        """The pictures that the rules pick of those shown, as fields of a record."""
        seconds = np.array([at_s for at_s, _ in shown])
        is_constant, _ = media.timing(seconds, 0.0, 0.0)
        stamps = media.Stamps(seconds, end_s, is_constant)
        record: dict[str, Any] = {}
        for name, pick in self._picks.items():
            places, filled = stamps.pick(pick.rule, *span)
            images = 'frames' if name == 'frame' else f'{name}_frames'
            record[images] = [shown[place][1][name] for place in places]
            record[f'{name}_times'] = seconds[places].astype(np.float32)
            record[f'{name}_filled'] = filled
        return record

    def _comes(self, second: float) -> bool:
        """Waits until this second is complete; False if the source or the user ends before it."""
        with self._changed:
            while self._ready_s() < second:
                if self.stop.is_set() or not self._readers:
                    return False
                self._changed.wait(POLL_S)
        return not self.stop.is_set()

    def _ready_s(self) -> float:
        """The end of the complete part of the source, in seconds: of the slowest growing track."""
        if self._quiet and not self._error:
            return 0.0
        going = [track for track in self._tracks.values() if track.is_open]
        since = self._clock() - AHEAD_S
        grown = [track for track in going if track.grew_at > since] or going
        return min((track.end_s for track in grown), default=self.end_s)

    def _elapsed_s(self) -> float:
        return 0.0 if self._began is None else self._clock() - self._began


def _joined(blocks: Sequence[tuple[float, SoundBlock]], start_s: float, end_s: float) -> dict:
    """The sound between two times, silent in gaps, as fields of a record; empty without samples."""
    block = blocks[0][1]
    firsts = [round((at_s - start_s) * block.rate_hz) for at_s, _ in blocks]
    end = min(firsts[-1] + len(blocks[-1][1].samples), round((end_s - start_s) * block.rate_hz))
    if end <= 0:
        return {}
    audio = np.zeros((end, 2), np.float32)
    for first, (_, each) in zip(firsts, blocks, strict=True):
        part = each.samples[max(0, -first) : max(0, end - first)]
        audio[max(0, first) : max(0, first) + len(part)] = part
    facts = {'sample_rate': block.rate_hz, 'channels': block.channels}
    return {'audio': audio, **facts, **media.clipped_field(blocks[-1][1].clipped)}
