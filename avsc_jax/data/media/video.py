"""Decodes exactly those frames of a film that a rule picks.

Frames at a constant rate are picked by number, as papers do; others by the time at which they are
on screen.
"""

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition

from avsc_jax.data.media.frame_times import Picked, Stamps, seconds_of, timing
from avsc_jax.data.media.pixels import rgb
from avsc_jax.data.media.source import (
    MAX_DURATION_S,
    MAX_HELD_S,
    MediaFile,
    TooLong,
    is_too_long,
    name_of,
    opened,
    packets_of,
)
from avsc_jax.data.media.still import check_picture_size, read_picture, scaled
from avsc_jax.data.media.timeline import ROUNDING, Extent, NoData, start_of, tick_of

_UNKNOWN = np.iinfo(np.int64).min  # the time stamp of a packet that has none
_REORDERED = 16  # pictures that H.264 may store before one that is shown before them


class Frames(NamedTuple):
    """Frames of a clip: RGB images [T, H, W, 3], frame numbers [T], and times [T] in seconds.

    Times are from the file's second 0, see `timeline`; `filled` is that of Picked.
    """

    images: np.ndarray
    index: np.ndarray
    times_s: np.ndarray
    filled: np.ndarray


class Pick(NamedTuple):
    """A request for frames of a part, and their size.

    Attributes:
      rule: a key of FRAME_RULES.
      short_side: larger pictures are scaled down to this short side (bicubic); None keeps the size.
      resize: is applied to each picture [H, W, 3] uint8 as soon as it is decoded.
    """

    rule: str
    short_side: int | None = None
    resize: Callable[[np.ndarray], np.ndarray] | None = None


def read_frames(
    source: MediaFile,
    rule: str,
    *,
    short_side: int | None = None,
    resize: Callable[[np.ndarray], np.ndarray] | None = None,
    max_duration_s: float | None = None,
) -> Frames:
    """Decodes exactly the frames that a rule picks, and only the picture groups that hold them.

    The rule picks over the track or, where that begins late, over the file, see Stamps.pick.

    Args:
      source: a path, or a binary file object.
      rule, short_side, resize: see Pick.
      max_duration_s: of the file; None: MAX_DURATION_S.
    """
    track = PictureTrack(source, max_duration_s=max_duration_s)
    span = track.extent.start_s, track.duration_s
    if span[0] > ROUNDING * track.extent.end_s:
        span = 0.0, track.extent.end_s
    (part,) = track.parts([span], [Pick(rule, short_side, resize)])
    if isinstance(part, ValueError):
        raise part
    return part[0]


class PictureTrack:
    """The first picture track of a file, whose parts are decoded on request.

    In memory are the time stamps of all frames, and the pictures of one part.

    Attributes:
      duration_s: length of the track, over which its frames are evenly spaced.
      extent: when it has pictures, by the file's clock.
    """

    def __init__(self, source: MediaFile, *, max_duration_s: float | None = None):
        self._source, self._name = source, name_of(source)
        with _opened_pictures(source) as (container, stream):
            codec, tick, zero = stream.codec_context, tick_of(stream), start_of(container)
            rate = stream.average_rate or stream.base_rate or Fraction(25)
            self._size = codec.width, codec.height
            check_picture_size(self._name, *self._size)
            packets = _listed(container, stream)
            # avi stores no showing times, and FFmpeg's guesses are wrong where frames are reordered
            has_b_frames, is_avi = codec.has_b_frames, container.format.name == 'avi'
            first_s = Fraction(0) if stream.start_time is None else stream.start_time * tick - zero
        stored = np.flatnonzero(~packets['is_hidden'])
        stored = stored[np.argsort(packets['pts'][stored], kind='stable')]
        shown, last_s = packets['pts'][stored], 0.0
        if len(stored):
            last_s = float(int(packets['length'][stored[-1]]) * tick)
        is_unclear = _UNKNOWN in packets['pts'] or (shown[1:] == shown[:-1]).any()
        self._numbered = bool((is_avi and has_b_frames) or is_unclear)
        stamps = shown
        if self._numbered:
            with _opened_pictures(source) as (container, stream):
                frames = _decoded(stream.codec_context, _filled(container, stream), numbered=True)
                shown = np.arange(sum(1 for _ in frames))
            stamps, last_s = packets['dts'][~packets['is_hidden']], 0.0
            # they are stored at the times at which they are shown, in another order
            if len(stamps) != len(shown) or _UNKNOWN in stamps or (np.diff(stamps) <= 0).any():
                stamps, tick = shown, 1 / rate
        if not len(shown):
            raise ValueError(f'{self._name} holds no pictures; is it cut short?')
        if self._numbered or is_avi:
            zero = int(stamps[0]) * tick - first_s
        self._shown, self._stored = shown, stored
        seconds = seconds_of(stamps, tick, zero)
        is_constant, self.duration_s = timing(seconds, last_s, float(1 / rate))
        max_duration_s = max_duration_s or MAX_DURATION_S
        if is_too_long(self.duration_s, max_duration_s):
            raise TooLong(
                f'{self._name} lasts {self.duration_s:.0f} s; the limit is {max_duration_s:.0f}'
            )
        end_s = float(seconds[0]) + self.duration_s
        self._stamps = Stamps(seconds, end_s, is_constant)
        self.extent = Extent(max(0.0, float(seconds[0])), end_s)
        _check_held(self._name, self._stamps)
        self._keys = np.flatnonzero(packets['is_key'])
        self._key_pts = packets['pts'][self._keys]

    def parts(
        self, spans: Sequence[tuple[float, float]], picks: Sequence[Pick]
    ) -> Iterator[list[Frames] | ValueError]:
        """Yields for each part one Frames per pick, or a ValueError for one that has none.

        The error is a NoData where the track has no pictures by the rule of Extent.is_there;
        otherwise the file is damaged. All parts are decoded in one pass over the file, and only the
        groups that hold a frame.

        Args:
          spans: start and length of each part in seconds, in order. A rule picks over the length,
            or up to the track's end; no frame is picked at times before the track begins.
        """
        filled = [self.extent.is_there(*span) for span in spans]
        waiting = collections.deque(
            _Part([self._stamps.pick(p.rule, *span) for p in picks], picks, self._size)
            for span, is_there in zip(spans, filled, strict=True)
            if is_there
        )
        given = self._decoded_parts(waiting)
        for span, is_there in zip(spans, filled, strict=True):
            why = '' if is_there else self.extent.told('picture', *span)
            yield next(given) if is_there else NoData(f'{self._name} has {why}')

    def _decoded_parts(
        self, waiting: collections.deque['_Part']
    ) -> Iterator[list[Frames] | ValueError]:
        """Yields the parts in their order, and removes them."""
        wanted = sorted({place for part in waiting for place in part.missing})
        for place, frame in self._pictures(wanted):
            if frame is not None:
                check_picture_size(self._name, frame.width, frame.height)
            for part in waiting:
                if part.first > place:
                    break
                part.take(place, frame)
            while waiting and not waiting[0].missing:
                yield waiting.popleft().result(self._name, self._stamps.seconds)

    def _pictures(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Yields each wanted place, in showing order, with its frame; None if it is damaged."""
        entries = np.minimum.accumulate([self._entry(place) for place in wanted[::-1]])[::-1]
        ahead = collections.deque(zip(entries.tolist(), wanted, strict=True))
        waiting: dict[int, int] = {}  # time stamp -> place, of frames whose group is being decoded

        def needed(codec: av.VideoCodecContext, packets: Iterator) -> Iterator:
            is_gap = True
            for number, packet in enumerate(packets):
                while ahead and ahead[0][0] <= number:
                    _, place = ahead.popleft()
                    waiting[int(self._shown[place])] = place
                if waiting:
                    if is_gap:
                        codec.flush_buffers()
                    yield packet
                elif not ahead:
                    return
                is_gap = not waiting

        with _opened_pictures(self._source) as (container, stream):
            codec = stream.codec_context
            packets = needed(codec, _filled(container, stream))
            for frame in _leniently_decoded(codec, packets, numbered=self._numbered):
                if frame is None:
                    yield from [(place, None) for place in waiting.values()]
                    waiting.clear()
                    continue
                if (place := waiting.pop(frame.pts, None)) is not None:
                    yield place, frame
                while (place := self._overdue(waiting, frame.pts)) is not None:
                    yield place, None
        yield from ((place, None) for place in (*waiting.values(), *(place for _, place in ahead)))

    def _entry(self, place: int) -> int:
        """Returns the number of the packet at which decoding must begin to get a frame.

        It is the last key frame both stored and shown before the frame: a frame stored after a key
        frame but shown before it may refer to the group before (open groups).
        """
        if self._numbered:
            return 0
        k = np.searchsorted(self._keys, self._stored[place], 'right') - 1
        while k >= 0 and self._key_pts[k] > self._shown[place]:
            k -= 1
        return int(self._keys[k]) if k >= 0 else 0

    def _overdue(self, waiting: dict[int, int], pts: int | None) -> int | None:
        """Removes and returns the first waiting place if a frame of this time shows it is lost."""
        first = next(iter(waiting.values()), None)
        if first is None or pts is None:
            return None
        latest = self._shown[min(first + _REORDERED, len(self._shown) - 1)]
        return waiting.pop(int(self._shown[first])) if pts > latest else None


class _Part:
    """Collects the picked frames of one part of a track while they are decoded.

    Attributes:
      missing: places of frames that are still to come.
      first: the earliest picked place.
    """

    def __init__(self, picked: list[Picked], picks: Sequence[Pick], size: tuple[int, int]):
        self._picked, self._picks = picked, picks
        self._sizes = [scaled(*size, pick.short_side) for pick in picks]
        self._images: list[np.ndarray | None] = [None for _ in picks]
        self._lost: list[int] = []
        self.missing = set(np.concatenate([each.places for each in picked]).tolist())
        self.first = min(self.missing)

    def take(self, place: int, frame: av.VideoFrame | None) -> None:
        """Stores the frame at a place if it was picked; None if it is damaged."""
        if place not in self.missing:
            return
        self.missing.remove(place)
        if frame is None:
            self._lost.append(place)
            return
        for k, pick in enumerate(self._picks):
            is_place = self._picked[k].places == place
            if is_place.any():
                image = rgb(frame, self._sizes[k])
                image = image if pick.resize is None else pick.resize(image)
                if self._images[k] is None:
                    self._images[k] = np.empty((len(is_place), *image.shape), image.dtype)
                self._images[k][is_place] = image

    def result(self, name: str, seconds: np.ndarray) -> list[Frames] | ValueError:
        """Returns one Frames per pick, once none is missing, or the error of a damaged frame."""
        if self._lost:
            at_s = seconds[self._lost[0]]
            return ValueError(f'{name} is damaged or cut short: no picture at {at_s:.2f} s')
        return [
            Frames(images, places.astype(np.int32), seconds[places].astype(np.float32), filled)
            for (places, filled), images in zip(self._picked, self._images, strict=True)
        ]


class StillTrack(NamedTuple):
    """A still picture as a track of one frame, which fits sound of any length."""

    path: Path
    extent = Extent(0.0, float('inf'))

    def parts(
        self, spans: Sequence[tuple[float, float]], picks: Sequence[Pick]
    ) -> Iterator[list[Frames]]:
        """Yields the picture for each part, whatever the rule."""
        part = []
        for pick in picks:
            image = read_picture(self.path, pick.short_side)
            image = image if pick.resize is None else pick.resize(image)
            zero = np.zeros(1, np.int32)
            part.append(Frames(image[None], zero, zero.astype(np.float32), np.ones(1, bool)))
        return itertools.repeat(part, len(spans))


@contextlib.contextmanager
def _opened_pictures(
    source: MediaFile,
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    with opened(source) as (container, name):
        cover = Disposition.attached_pic  # of an album
        stream = next((s for s in container.streams.video if not s.disposition & cover), None)
        if stream is None:
            raise ValueError(f'{name} has no picture track')
        if stream.codec_context is None:
            raise ValueError(f'{name} has a picture track of unknown kind; convert it to mp4')
        stream.codec_context.thread_count = 1  # the callers run one clip a thread
        yield container, stream


def _filled(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    return (packet for packet in packets_of(container, stream) if packet.size)


def _listed(container: av.container.InputContainer, stream: av.VideoStream) -> np.ndarray:
    """Returns the times of a track's packets, and what the file says of them."""
    return np.fromiter(
        (
            (
                _UNKNOWN if p.pts is None else p.pts,
                p.is_keyframe,
                p.is_discard,
                p.duration or 0,
                _UNKNOWN if p.dts is None else p.dts,
            )
            for p in _filled(container, stream)
        ),
        [
            ('pts', np.int64),
            ('is_key', bool),
            ('is_hidden', bool),  # by an edit list
            ('length', np.int64),
            ('dts', np.int64),
        ],
    )


def _check_held(name: str, stamps: Stamps) -> None:
    """Raises ValueError if a film claims to show one picture for long."""
    if (held_s := np.diff(stamps.seconds, append=stamps.end_s).max()) > MAX_HELD_S:
        raise ValueError(
            f'{name} claims to show one picture for {held_s:.0f} s; the limit is '
            f'{MAX_HELD_S:.0f}; encode it anew'
        )


def _decoded(
    codec: av.VideoCodecContext, packets: Iterable[av.Packet], *, numbered: bool = False
) -> Iterator[av.VideoFrame]:
    """Yields frames in showing order; numbered ones carry their place instead of a time stamp."""
    place = itertools.count()
    for packet in itertools.chain(packets, [None]):
        for frame in codec.decode(packet):
            if numbered:
                frame.pts = next(place)
            yield frame


def _leniently_decoded(
    codec: av.VideoCodecContext, packets: Iterator[av.Packet], *, numbered: bool
) -> Iterator[av.VideoFrame | None]:
    """Yields the frames of _decoded, and None in place of an error, after all frames before it."""
    while True:
        try:
            yield from _decoded(codec, packets, numbered=numbered)
            return
        except av.EOFError:  # an error has ended the packets
            return
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            if not numbered:  # the numbers of frames after an error are unknown
                with contextlib.suppress(av.FFmpegError):
                    yield from codec.decode(None)
            yield None
