"""Media files in, arrays out: the one frame picker and the one decoder.

The dataset builder, the feature extractor and predict all read through here, so that a clip gives
the same frames and samples everywhere. Files are untrusted: sizes are checked before memory is
taken, only local files are opened, and whatever is wrong becomes a ValueError that names the file.
"""

import collections
import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypedDict

import av
import numpy as np
import soundfile
from av.stream import Disposition
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_SIDE_PX = 8192
MAX_DURATION_S = 3600.0
MAX_SAMPLE_RATE_HZ = 192_000

# Endings of files, for those who look for some.
VIDEOS = ('.mp4', '.mkv', '.mov', '.avi', '.webm', '.m4v', '.mpg', '.mpeg', '.ts', '.wmv')
SOUNDS = ('.wav', '.flac', '.mp3', '.m4a', '.aac', '.ogg', '.opus', '.wma', '.aiff', '.aif')
PICTURES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')

Source = str | os.PathLike | BinaryIO


class _Titles(TypedDict, total=False):
    metadata_errors: str


# Titles may be in any encoding, which PyAV takes by itself since 19.
TITLES: _Titles = {'metadata_errors': 'replace'} if int(av.__version__.split('.')[0]) < 19 else {}
_UNKNOWN = np.iinfo(np.int64).min  # the time stamp of a packet that has none
_REORDERED = 16  # pictures that H.264 may store before one that is shown before them
_GAP_S = 0.1  # between time stamps of sound, which are rounded
_UNTOLD_S = 0.25  # sound that may be lacking: packets hold more than the decoder gives


class Frames(NamedTuple):
    """Pictures of one clip: images [T, H, W, 3] RGB, and where in the clip they lie."""

    images: np.ndarray
    index: np.ndarray
    times_s: np.ndarray


def evenly_spaced(n: int, count: int) -> np.ndarray:
    """Of n frames int((k + 0.5) n / count): the middle one of `count` equal parts."""
    return (2 * np.arange(count) + 1) * n // (2 * count)


def _even(count: int) -> Callable[[int, float], np.ndarray]:
    return lambda n, duration_s: evenly_spaced(n, count)


def _nearest(times_s: np.ndarray, n: int, duration_s: float) -> np.ndarray:
    """The frames nearest to the times, frame i being shown at i * duration / n."""
    return np.minimum(np.floor(times_s * n / duration_s + 0.5), n - 1).astype(int)


def _second_centres(n: int, duration_s: float) -> np.ndarray:
    # round, not int: ten seconds at 29.97 frames a second end at 9.98 s
    return _nearest(np.arange(max(1, round(duration_s))) + 0.5, n, duration_s)


def _openl3(n: int, duration_s: float) -> np.ndarray:
    """One frame for each OpenL3 sound frame: 96 of a 10 s clip, 6 of a 1 s clip."""
    count = np.clip(round(10 * duration_s) - 4, 1, 96)
    return np.linspace(0, n - 1, int(count)).astype(int)


def _hou(n: int, duration_s: float) -> np.ndarray:
    """0.4, 1.4 ... 9.4 s of a clip; 0.05, 0.15 ... 0.95 s of a one-second piece."""
    k = np.arange(10)
    return _nearest(0.05 + 0.1 * k if duration_s < 2 else 0.4 + k, n, duration_s)


def _hitachi(n: int, duration_s: float) -> np.ndarray:
    """12 frames of a clip; 5 of a one-second piece."""
    return _even(5 if duration_s < 2 else 12)(n, duration_s)


# Source: Okazaki 2021 (clip12, evaluation5, both by length in hitachi; the papers are silent on the
# offset), Wang 2021 (second_centres), the official DCASE 2021 1B baseline (openl3), Hou 2021 (hou).
FRAME_RULES: dict[str, Callable[[int, float], np.ndarray]] = {
    'clip12': _even(12),
    'second_centres': _second_centres,
    'evaluation5': _even(5),
    'openl3': _openl3,
    'hou': _hou,
    'hitachi': _hitachi,
}


def pick_frames(rule: str, num_frames: int, *, duration_s: float) -> np.ndarray:
    """Returns the indices of the frames that a rule takes, in showing order (repeats possible).

    Args:
      rule: a key of FRAME_RULES.
      num_frames: frames in the clip, at least 1.
      duration_s: of the picture track; the frames are taken as evenly spaced over it.
    """
    if rule not in FRAME_RULES:
        raise ValueError(f'frame rule {rule!r} is not one of {", ".join(FRAME_RULES)}')
    if num_frames < 1 or not duration_s > 0:
        raise ValueError(f'cannot pick frames from {num_frames} frames in {duration_s} s')
    return FRAME_RULES[rule](num_frames, duration_s)


def window_starts(count_s: float, window_s: float, end_s: float) -> list[float]:
    """Where windows begin that stand side by side, the last one ending by `end_s`.

    Args:
      count_s: how many there are: one for each window_s, and one for a rest of half of it or more.
    """
    count = max(1, int(count_s / window_s + 0.5))
    return [max(0.0, min(k * window_s, end_s - window_s)) for k in range(count)]


def check_whole(source: Source) -> None:
    """Refuses wav, avi, mp4 and mkv files that end before their own headers say.

    Decoders let some of them pass, as if they were short.
    """
    path = _checked(source)
    with contextlib.nullcontext(path) if hasattr(path, 'read') else Path(path).open('rb') as file:
        size = file.seek(0, io.SEEK_END)
        end = _claimed_end(file, size)
    if end > size + 1:  # some writers count a padding byte that they leave out
        raise ValueError(f'{_name(source)} is cut short: {size:,} of {end:,} bytes')


def _claimed_end(file: BinaryIO, size: int) -> int:
    """Where a file of a size ends by its own headers; 0 where they do not tell."""
    file.seek(0)
    head, end = file.read(16), 0
    if head[:4] == b'RIFF':
        claimed = int.from_bytes(head[4:8], 'little')
        return 8 + claimed if claimed != 0xFFFFFFFF else 0  # written to a pipe: not known
    if head[:4] == b'\x1a\x45\xdf\xa3':  # Matroska: its header, and one segment with all the rest
        for _ in range(2):
            file.seek(min(end + 4, size))  # behind the part's name
            digits = file.read(8)
            width = 9 - digits[0].bit_length() if digits else 9
            length = int.from_bytes(digits[:width], 'big') & ~(1 << 7 * width)
            if width > 8 or length == (1 << 7 * width) - 1:  # written to a pipe
                return 0
            end += 4 + width + length
        return end
    while (end or head[4:8] == b'ftyp') and len(head) >= 8:
        # box after box: its length, its name, perhaps a longer length
        length = int.from_bytes(head[:4], 'big')
        length = int.from_bytes(head[8:16], 'big') if length == 1 else length
        if length < 8:  # 0: up to the end of the file
            break
        end += length
        file.seek(min(end, size))
        head = file.read(16)
    return end


def read_frames(
    source: Source,
    rule: str,
    *,
    short_side: int | None = None,
    resize: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Frames:
    """Decodes the frames that a rule picks, exactly, and only the picture groups that hold them.

    Args:
      source: a path, or a binary file object.
      rule, short_side, resize: see Pick.
    """
    track = PictureTrack(source)
    (found,) = track.parts([(0.0, track.duration_s)], [Pick(rule, short_side, resize)])
    if isinstance(found, ValueError):
        raise found
    return found[0]


class Pick(NamedTuple):
    """Which frames of a part are taken, and what becomes of them.

    Attributes:
      rule: a key of FRAME_RULES.
      short_side: pictures larger than this are scaled down to it (bicubic); None keeps the size.
      resize: what becomes of each picture [H, W, 3] uint8 as soon as it is decoded.
    """

    rule: str
    short_side: int | None = None
    resize: Callable[[np.ndarray], np.ndarray] | None = None


class PictureTrack:
    """The first picture track of a file, of which parts are decoded when they are asked for.

    In memory are the time stamps of its frames, and the pictures of one part.

    Attributes:
      duration_s: of the track; its frames are taken as evenly spaced over it.
    """

    def __init__(self, source: Source, *, max_duration_s: float | None = None):
        self._source, self._name = source, _name(source)
        with _opened_pictures(source) as (container, stream):
            codec, tick = stream.codec_context, stream.time_base
            rate = stream.average_rate or stream.base_rate or Fraction(25)
            self._size = codec.width, codec.height
            check_picture_size(self._name, *self._size)
            packets = np.fromiter(
                (
                    (_UNKNOWN if p.pts is None else p.pts, p.is_keyframe, p.is_discard)
                    for p in _filled(container, stream)
                ),
                [('pts', np.int64), ('is_key', bool), ('is_hidden', bool)],  # by an edit list
            )
            # avi stores no showing times, and FFmpeg's guesses are wrong where frames are reordered
            is_guessed = codec.has_b_frames and container.format.name == 'avi'
        stored = np.flatnonzero(~packets['is_hidden'])
        stored = stored[np.argsort(packets['pts'][stored], kind='stable')]
        shown = packets['pts'][stored]
        is_unclear = _UNKNOWN in packets['pts'] or (shown[1:] == shown[:-1]).any()
        self._numbered = bool(is_guessed or is_unclear)
        if self._numbered:
            with _opened_pictures(source) as (container, stream):
                frames = _decoded(stream.codec_context, _filled(container, stream), numbered=True)
                shown, tick = np.arange(sum(1 for _ in frames)), 1 / rate
        if not len(shown):
            raise ValueError(f'{self._name} holds no pictures; is it cut short?')
        last = len(shown) - 1
        last_s = float((int(shown[-1]) - int(shown[0])) * tick)
        self.duration_s = last_s * len(shown) / last if last else float(1 / rate)
        if self.duration_s > (max_duration_s := max_duration_s or MAX_DURATION_S):
            raise ValueError(
                f'{self._name} lasts {self.duration_s:.0f} s; the limit is {max_duration_s:.0f}'
            )
        self._shown, self._stored = shown, stored
        self._seconds = (shown - shown[0]) * tick.numerator / tick.denominator
        self._keys = np.flatnonzero(packets['is_key'])
        self._key_pts = packets['pts'][self._keys]

    def parts(
        self, spans: Sequence[tuple[float, float]], picks: Sequence[Pick]
    ) -> Iterator[list[Frames] | ValueError]:
        """The frames of each part, one Frames a pick; or what is wrong with the part.

        All parts are decoded in one pass over the file, and only the groups that hold a frame.

        Args:
          spans: start and length of each part in seconds, in order. The length tells how many
            frames there are; where the track ends before it, they are spread over what there is.
        """
        waiting = collections.deque(
            _Part(self._places(span, picks), picks, self._size) for span in spans
        )
        wanted = sorted({place for part in waiting for place in part.lacks})
        for place, frame in self._pictures(wanted):
            if frame is not None:
                check_picture_size(self._name, frame.width, frame.height)
            for part in waiting:
                if part.first > place:
                    break
                part.take(place, frame)
            while waiting and not waiting[0].lacks:
                yield waiting.popleft().found(self._name, self._seconds)

    def _places(self, span: tuple[float, float], picks: Sequence[Pick]) -> list[np.ndarray]:
        """Which frames, in showing order, each pick takes of a part."""
        start_s, length_s = span
        first, end = np.searchsorted(self._seconds, (start_s, start_s + length_s))
        if first == end:  # the one before is still shown
            first, end = max(0, first - 1), max(1, first)
        count = int(end - first)
        return [first + pick_frames(pick.rule, count, duration_s=length_s) for pick in picks]

    def _pictures(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Each of the wanted places in showing order with its frame; None if it does not come."""
        entries = np.minimum.accumulate([self._entry(place) for place in wanted[::-1]])[::-1]
        ahead = collections.deque(zip(entries.tolist(), wanted, strict=True))
        waiting: dict[int, int] = {}  # time stamp -> place, of frames whose group is being decoded

        def in_demand(codec: av.VideoCodecContext, packets: Iterator) -> Iterator:
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
            packets = in_demand(codec, _filled(container, stream))
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
        """The packet at which decoding has to begin, for a frame.

        It is the last key frame both stored and shown before the frame: one stored after a key
        frame but shown before it may lean on the group before (open groups).
        """
        if self._numbered:
            return 0
        k = np.searchsorted(self._keys, self._stored[place], 'right') - 1
        while k >= 0 and self._key_pts[k] > self._shown[place]:
            k -= 1
        return int(self._keys[k]) if k >= 0 else 0

    def _overdue(self, waiting: dict[int, int], pts: int | None) -> int | None:
        """Takes out the first that waits, if it will not come after a frame of this time."""
        first = next(iter(waiting.values()), None)
        if first is None or pts is None:
            return None
        last_hope = self._shown[min(first + _REORDERED, len(self._shown) - 1)]
        return waiting.pop(int(self._shown[first])) if pts > last_hope else None


class _Part:
    """What is picked of a part of a track, while its pictures come in."""

    def __init__(self, picked: list[np.ndarray], picks: Sequence[Pick], size: tuple[int, int]):
        self._picked, self._picks = picked, picks
        self._sizes = [scaled(*size, pick.short_side) for pick in picks]
        self._images: list[np.ndarray | None] = [None for _ in picks]
        self._lost: list[int] = []
        self.lacks = set(np.concatenate(picked).tolist())
        self.first = min(self.lacks)

    def take(self, place: int, frame: av.VideoFrame | None) -> None:
        """A frame, if it is wanted here; None: it will not come."""
        if place not in self.lacks:
            return
        self.lacks.remove(place)
        if frame is None:
            self._lost.append(place)
            return
        for k, pick in enumerate(self._picks):
            here = self._picked[k] == place
            if here.any():
                image = rgb(frame, self._sizes[k])
                image = image if pick.resize is None else pick.resize(image)
                if self._images[k] is None:
                    self._images[k] = np.empty((len(here), *image.shape), image.dtype)
                self._images[k][here] = image

    def found(self, name: str, seconds: np.ndarray) -> list[Frames] | ValueError:
        """All that was picked, once nothing lacks."""
        if self._lost:
            at_s = seconds[self._lost[0]]
            return ValueError(f'{name} is damaged or cut short: no picture at {at_s:.2f} s')
        return [
            Frames(images, places.astype(np.int32), seconds[places].astype(np.float32))
            for places, images in zip(self._picked, self._images, strict=True)
        ]


@contextlib.contextmanager
def _opened_pictures(
    source: Source,
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    with _opened(source) as (container, name):
        cover = Disposition.attached_pic  # of an album
        stream = next((s for s in container.streams.video if not s.disposition & cover), None)
        if stream is None:
            raise ValueError(f'{name} has no picture track')
        stream.codec_context.thread_count = 1  # the callers run one clip a thread
        yield container, stream


def _filled(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    return (packet for packet in container.demux(stream) if packet.size)


def _decoded(
    codec: av.VideoCodecContext, packets: Iterable[av.Packet], *, numbered: bool = False
) -> Iterator[av.VideoFrame]:
    """Frames in showing order; numbered ones carry their place instead of a time stamp."""
    place = itertools.count()
    for packet in itertools.chain(packets, [None]):
        for frame in codec.decode(packet):
            if numbered:
                frame.pts = next(place)
            yield frame


def _leniently_decoded(
    codec: av.VideoCodecContext, packets: Iterator[av.Packet], *, numbered: bool
) -> Iterator[av.VideoFrame | None]:
    """As _decoded; None in place of an error, when what came before it is out."""
    while True:
        try:
            yield from _decoded(codec, packets, numbered=numbered)
            return
        except av.EOFError:  # an error has ended the packets
            return
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            if not numbered:  # of what comes after an error, nobody knows the number
                with contextlib.suppress(av.FFmpegError):
                    yield from codec.decode(None)
            yield None


def rgb(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Scales and turns into RGB in one pass of swscale, then applies the camera's rotation."""
    frame_rgb = frame.reformat(*size, format='rgb24', interpolation='BICUBIC')
    return np.rot90(frame_rgb.to_ndarray(), round(frame.rotation / 90))


def scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """The size of a picture whose short side is no longer than that; see Pick."""
    scale = min(1.0, (short_side or MAX_SIDE_PX) / min(width, height))
    return round(width * scale), round(height * scale)


def check_picture_size(name: str, width: int, height: int) -> None:
    """An error, by the name of a file, where a picture is larger than any may be."""
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise ValueError(f'{name} has {width} x {height} pixels; a side may be 1 to {MAX_SIDE_PX}')


def read_audio(source: Source) -> tuple[np.ndarray, int]:
    """Decodes the first sound track to two channels: (float32 [N, 2], sample rate in Hz).

    Mono is doubled, more than two channels are mixed down by FFmpeg's standard matrix. Wav and
    FLAC keep their exact values.
    """
    if (format_ := _pcm_format(source)) and format_[0] <= 2:
        with _opened_pcm(source) as (sound, name):
            _check_sound(name, sound.frames, sound.samplerate)
            return _stereo(sound.read(dtype='float32', always_2d=True)), sound.samplerate
    with _opened_sound(source) as (container, stream):
        name, rate, blocks, count = _name(source), stream.codec_context.sample_rate, [], 0
        for block in _sound_blocks(container, stream):
            blocks.append(block)
            count += len(block)
            _check_sound(name, count, rate)
        _check_sound(name, count, rate)
        return np.concatenate(blocks), rate


class SoundTrack:
    """The first sound track of a file, of which parts are decoded one after the other.

    Attributes:
      rate_hz: of its samples.
      channels: of the source; a part has two, see read_audio.
      duration_s: by the header; of a compressed track by its packets, which may hold a little more
        than it.
    """

    def __init__(self, source: Source, *, max_duration_s: float | None = None):
        self._source, self._name = source, _name(source)
        self._is_pcm = bool((format_ := _pcm_format(source)) and format_[0] <= 2)
        if self._is_pcm:
            with _opened_pcm(source) as (sound, _):
                self.rate_hz, self.channels, count = sound.samplerate, sound.channels, sound.frames
        else:
            with _opened_sound(source) as (container, stream):
                codec = stream.codec_context
                self.rate_hz, self.channels = codec.sample_rate, codec.channels
                count = round(_length_s(container, stream) * self.rate_hz)
        _check_sound(self._name, count, self.rate_hz, max_duration_s)
        if self._is_pcm:
            self._check_end(count)
        self.duration_s = count / self.rate_hz

    def parts(self, spans: Sequence[tuple[float, float]]) -> Iterator[np.ndarray | ValueError]:
        """The samples [N, 2] of each part, fewer where the track ends; or what is wrong with it.

        The track is decoded once; only the samples since the start of the last part are held.

        Args:
          spans: start and length of each part in seconds, in order.
        """
        blocks, held, first = self._blocks(), np.zeros((0, 2), np.float32), 0
        for start_s, length_s in spans:
            start = round(start_s * self.rate_hz)
            stop = start + round(length_s * self.rate_hz)
            new, end = [held], first + len(held)
            while end < stop and (block := next(blocks, None)) is not None:
                new.append(block)
                end += len(block)
            drop = min(max(0, start - first), end - first)
            held, first = np.concatenate(new)[drop:], first + drop
            part = held[: stop - start]
            gaps = np.isnan(part[:, 0])
            lacking_s = min(stop / self.rate_hz, self.duration_s) - end / self.rate_hz
            if not len(part) or lacking_s > _UNTOLD_S:
                yield self._damaged('ends', end)
            elif np.count_nonzero(gaps) > _UNTOLD_S * self.rate_hz:
                yield self._damaged('has a gap', start + gaps.argmax())
            else:
                yield np.nan_to_num(part)

    def _check_end(self, count: int) -> None:
        """Whether the last sample is there: libsndfile reads nothing of a FLAC that is cut."""
        with _opened_pcm(self._source) as (sound, _):
            try:
                sound.seek(count - 1)
            except soundfile.SoundFileError as error:
                told = f'{self._name} is cut short: it does not hold the {count} samples'
                raise ValueError(f'{told} that its header claims') from error

    def _damaged(self, how: str, sample: int) -> ValueError:
        at_s = sample / self.rate_hz
        return ValueError(
            f'{self._name} is damaged or cut short: its sound {how} at {at_s:.1f} s of '
            f'{self.duration_s:.1f} s'
        )

    def _blocks(self) -> Iterator[np.ndarray]:
        if not self._is_pcm:
            with _opened_sound(self._source) as (container, stream):
                yield from _sound_blocks(container, stream, timed=True)
            return
        with _opened_pcm(self._source) as (sound, _):
            while len(block := sound.read(self.rate_hz, dtype='float32', always_2d=True)):
                yield _stereo(block)


@contextlib.contextmanager
def _opened_sound(source: Source) -> Iterator[tuple[av.container.InputContainer, av.AudioStream]]:
    with _opened(source) as (container, name):
        if not container.streams.audio:
            raise ValueError(f'{name} has no sound track')
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        yield container, stream


class _Clock:
    """Where sound belongs by its time stamps, which have gaps, and begin anew in joined files.

    Times are in seconds; what is `so_far` has been placed already.
    """

    def __init__(self):
        self._start_s: float | None = None

    def place(self, stamp_s: float | None, so_far_s: float) -> float:
        if stamp_s is None:
            return so_far_s
        if self._start_s is None or stamp_s - self._start_s < so_far_s - _GAP_S:
            self._start_s = stamp_s - so_far_s
        return stamp_s - self._start_s


def _length_s(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """How long a compressed track lasts, without decoding it; to within a few hundredths."""
    clock, end_s, tick = _Clock(), 0.0, float(stream.time_base)
    for packet in container.demux(stream):
        if packet.size:
            stamp_s = None if packet.pts is None else packet.pts * tick
            end_s = clock.place(stamp_s, end_s) + (packet.duration or 0) * tick
    return end_s


def _sound_blocks(
    container: av.container.InputContainer, stream: av.AudioStream, *, timed: bool = False
) -> Iterator[np.ndarray]:
    """Decoded samples [n, 2], at the rate of the file.

    Args:
      timed: where time stamps have a gap comes silence, and for what cannot be decoded NaN; else
        the one is passed over, and the other an error.
    """
    codec, clock, count = stream.codec_context, _Clock(), 0
    rate = codec.sample_rate
    # FFmpeg's own mono-to-stereo step lowers the level; _stereo doubles instead
    layout = 'mono' if codec.channels == 1 else 'stereo'
    resampler = av.AudioResampler(format='flt', layout=layout, rate=rate)
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if not timed or isinstance(error, MemoryError):
                raise
            lost = round(rate * min(1.0, float((packet.duration or 0) * stream.time_base)))
            yield np.full((lost, 2), np.nan, np.float32)
            count += lost
            continue
        for frame in frames if packet.size else [*frames, None]:
            if timed and frame:
                gap_s = clock.place(frame.time, count / rate) - count / rate
                gap = round(rate * gap_s) if gap_s > _GAP_S else 0
                count += gap
                for start in range(0, gap, rate):
                    yield np.zeros((min(rate, gap - start), 2), np.float32)
            for block in resampler.resample(frame):
                samples = block.to_ndarray().reshape(-1, len(block.layout.channels))
                count += len(samples)
                yield _stereo(samples)


def audio_channels(source: Source) -> int:
    """Channels of the first sound track, of which `read_audio` makes two."""
    if format_ := _pcm_format(source):
        return format_[0]
    with _opened(source) as (container, name):
        if not container.streams.audio:
            raise ValueError(f'{name} has no sound track')
        return container.streams.audio[0].codec_context.channels


def audio_bit_depth(source: Source) -> int:
    """Returns the FLAC depth that keeps a sound file's values: 16, or 24 where it holds more.

    Lossy formats have no depth of their own and get 16; 32-bit wav is cut to 24.
    """
    format_ = _pcm_format(source)
    return 24 if format_ and format_[1] not in ('PCM_16', 'PCM_U8', 'PCM_S8') else 16


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """Packs an RGB picture [H, W, 3] uint8."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', quality=quality)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Returns the RGB picture [H, W, 3] uint8 of any picture file that Pillow reads."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            check_picture_size('the picture', *image.size)
            return np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f'cannot decode a picture of {len(data)} bytes: {error}') from error


def read_picture(source: str | os.PathLike, short_side: int | None = None) -> np.ndarray:
    """Decodes a still picture as [H, W, 3] uint8, turned as its camera was held.

    Args:
      short_side: see read_frames.
    """
    with _one_sentence(source), Image.open(_checked(source)) as image:
        check_picture_size(_name(source), *image.size)
        turned = ImageOps.exif_transpose(image).convert('RGB')
        size = scaled(*turned.size, short_side)
        return np.asarray(turned.resize(size, Image.Resampling.BICUBIC))


def resize_picture(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture [H, W, 3] uint8 at another size, by Pillow's antialiased bilinear."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def encode_flac(samples: np.ndarray, sample_rate_hz: int, bits: int) -> bytes:
    """Packs float32 [N, K] in [-1, 1) as FLAC of 16 or 24 bits, without loss at that depth."""
    if bits not in (16, 24) or not len(samples):
        raise ValueError(f'FLAC needs 16 or 24 bits and some samples, not {bits}, {len(samples)}')
    full = 2.0 ** (bits - 1)
    integers = np.clip(np.rint(samples * full), -full, full - 1).astype(np.int32) << (32 - bits)
    buffer = io.BytesIO()
    # integers: libsndfile scales floats by full - 1 when it writes, by full when it reads
    soundfile.write(buffer, integers, sample_rate_hz, format='FLAC', subtype=f'PCM_{bits}')
    return buffer.getvalue()


def decode_flac(data: bytes, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Returns samples start to stop as float32 [N, 2]; only that part is decoded."""
    with _opened_pcm(io.BytesIO(data)) as (sound, name):
        stop = sound.frames if stop is None else min(stop, sound.frames)
        _check_sound(name, sound.frames, sound.samplerate)
        sound.seek(min(start, sound.frames))
        return _stereo(sound.read(max(0, stop - start), dtype='float32', always_2d=True))


def flac_length(data: bytes) -> int:
    """Samples of each channel, by the file's header."""
    with _opened_pcm(io.BytesIO(data)) as (sound, _):
        return sound.frames


def _stereo(samples: np.ndarray) -> np.ndarray:
    return np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples


def _check_sound(
    name: str, num_samples: int, rate: int, max_duration_s: float | None = None
) -> None:
    max_duration_s = max_duration_s or MAX_DURATION_S
    if not num_samples:
        raise ValueError(f'{name} holds no sound samples')
    if not 0 < rate <= MAX_SAMPLE_RATE_HZ or num_samples > max_duration_s * rate:
        raise ValueError(
            f'{name} claims {num_samples} samples at {rate} Hz; the limits are '
            f'{max_duration_s:.0f} s and {MAX_SAMPLE_RATE_HZ} Hz'
        )


def _name(source: Source) -> str:
    is_path = isinstance(source, str | os.PathLike)
    return str(source) if is_path else str(getattr(source, 'name', 'the media stream'))


@contextlib.contextmanager
def _one_sentence(source: Source) -> Iterator[None]:
    """Turns what the libraries raise about bad media into one ValueError that names the file."""
    try:
        yield
    except (
        av.FFmpegError,
        soundfile.SoundFileError,
        EOFError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        reason = getattr(error, 'strerror', None) or str(error).splitlines()[0]
        raise ValueError(f'cannot decode {_name(source)}: {reason}') from error


@contextlib.contextmanager
def _opened(source: Source) -> Iterator[tuple[av.container.InputContainer, str]]:
    target = _checked(source)
    if not hasattr(target, 'read'):
        target = f'file:{target}'  # never a URL, whatever the name looks like
    # a playlist inside must not reach for the network either
    options = {'protocol_whitelist': 'file'}
    with _one_sentence(source), av.open(target, container_options=options, **TITLES) as container:
        yield container, _name(source)


@contextlib.contextmanager
def _opened_pcm(source: Source) -> Iterator[tuple[soundfile.SoundFile, str]]:
    with _one_sentence(source), soundfile.SoundFile(_checked(source)) as sound:
        yield sound, _name(source)


def _checked(source: Source) -> Source:
    """The source, rewound if it is a file object, once it is known to hold something."""
    if hasattr(source, 'read'):
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
    else:
        if not Path(source).is_file():
            raise FileNotFoundError(f'{source} does not exist or is no file; check the path')
        size = Path(source).stat().st_size
    if not size:
        raise ValueError(f'{_name(source)} is empty (0 bytes); copy it again')
    return source


def _pcm_format(source: Source) -> tuple[int, str] | None:
    """Channels and sample type of a wav or FLAC source; None for any other format."""
    if hasattr(source := _checked(source), 'read'):
        magic = source.read(12)
        source.seek(0)
    else:
        with Path(source).open('rb') as file:
            magic = file.read(12)
    if magic[:4] != b'fLaC' and (magic[:4] not in (b'RIFF', b'RF64') or magic[8:] == b'AVI '):
        return None
    with _opened_pcm(source) as (sound, _):
        return sound.channels, sound.subtype


def openl3_pictures(images: np.ndarray, size: int) -> np.ndarray:
    """Pictures `[..., H, W, 3]` of bytes as openl3 0.3.1 gives them to its network of size 224.

    One that has the network's size is in [-1, 1]. A larger one is in [0, 1]; its short side
    becomes 256 if it is more, bilinear and without antialias, and the square in its middle counts.

    Source: openl3 0.3.1, which holds scikit-image below 0.15; 0.4 names what that did by default.
    """
    height, width = images.shape[-3:-1]
    short, most = min(height, width), size * 8 // 7
    if short < size:
        raise ValueError(f'pictures are {width}x{height}: OpenL3 takes sides of {size} and more')
    if (height, width) == (size, size):
        return images / np.float32(127.5) - 1
    scale = min(1.0, most / short)
    x = _middle(images, -3, round(scale * height), size)
    return _middle(x, -2, round(scale * width), size) / np.float32(255)


def _middle(x: np.ndarray, axis: int, resized: int, size: int) -> np.ndarray:
    """The middle `size` of an axis that is resized, bilinear and without antialias."""
    places = (np.arange(size) + resized // 2 - size // 2 + 0.5) * (x.shape[axis] / resized) - 0.5
    places = np.clip(places, 0, x.shape[axis] - 1)
    first = np.minimum(places.astype(int), x.shape[axis] - 2)
    share = np.float32(places - first).reshape(-1, *[1] * (-1 - axis))
    return x.take(first, axis) * (1 - share) + x.take(first + 1, axis) * share
