"""Sources that grow while they are read: media files of any container, and pipes of raw media."""

import contextlib
import dataclasses
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from avsc_jax.data import media
from avsc_jax.data.windows import Wants
from avsc_jax.predict.stream_buffer import AHEAD_S, PICTURE, POLL_S, SOUND, SoundBlock, Tape

JUDGED_S = 10.0  # as much of a live sound is awaited before its clipped share is judged
CHUNK_BYTES = 1 << 14
LEAP_S = 60.0  # time stamps that leap on by more are of another clock


@dataclasses.dataclass(frozen=True)
class Recording:
    """A media file that may still grow: wav, mkv, ts, fragmented mp4 and the like.

    Args:
      path: the file.
      patience_s: seconds without growth after which the file has ended.
    """

    path: Path
    patience_s: float = 10.0

    def readers(self, wants: Wants) -> list[Callable[[Tape], None]]:
        _check_exists(self.path)
        if not self.path.is_file():  # a pipe, which is read once
            return [partial(self._read, (SOUND, PICTURE))]
        # sound may lie far behind the pictures of its time
        return [partial(self._read, (kind,)) for kind in (SOUND, PICTURE)]

    def _read(self, kinds: Sequence[str], tape: Tape) -> None:
        name = str(self.path)
        try:
            with _opened(name, self.patience_s, tape.stop) as file:
                # a recorder writes the length last; until then it is 0, -1 or out of date
                options = media.CONTAINER_OPTIONS | {'ignore_length': '1'}
                with av.open(file, 'r', container_options=options, **media.TITLES) as container:
                    _play(container, name, tape, kinds)
        except (av.FFmpegError, EOFError) as error:
            reason = getattr(error, 'strerror', None) or error
            raise ValueError(
                f'cannot follow {name}: {reason}; name a file that is readable while '
                'it grows, as wav, mkv, ts and fragmented mp4 are'
            ) from error


@dataclasses.dataclass(frozen=True)
class Raw:
    """Pipes of raw media: sound as interleaved 32-bit floats, pictures as rgb24.

    Args:
      sound: path of the sound, '-' for standard input, or None.
      frames: path of the pictures, '-' for standard input, or None.
      frame_size: width and height of the pictures.
      frame_rate: pictures per second.
      patience_s: see Recording; a pipe ends when its writer does.
    """

    sound: str | None = '-'
    rate_hz: int = 48000
    channels: int = 2
    frames: str | None = None
    frame_size: tuple[int, int] = (0, 0)
    frame_rate: float = 25.0
    patience_s: float = 10.0

    def readers(self, wants: Wants) -> list[Callable[[Tape], None]]:
        given = {SOUND: self.sound, PICTURE: self.frames}
        wanted = {SOUND: wants.audio, PICTURE: wants.frames or wants.media}
        if not any(given[kind] and wanted[kind] for kind in given):
            flag = '--follow and --rate' if wants.audio else '--frames'
            raise ValueError(f'the model does not take what is given; give what it takes by {flag}')
        for path in filter(None, (self.sound, self.frames)):
            _check_exists(path)
        readers: list[Callable[[Tape], None]] = []
        readers += [self._read_sound] if self.sound else []
        return readers + ([self._read_frames] if self.frames else [])

    def _read_sound(self, tape: Tape) -> None:
        assert self.sound
        width = 4 * self.channels
        tracks = (SOUND,) if tape.wants.audio else ()
        with tape.track(*tracks), _opened(self.sound, self.patience_s, tape.stop) as file:
            name = f'the sound of {self.sound}, read as `ffmpeg -f f32le` writes it,'
            rest, scale = b'', _scale(name, self.rate_hz)
            while data := file.read(CHUNK_BYTES):
                data = rest + data
                end = len(data) // width * width  # of the last complete sample
                rest = data[end:]
                samples = np.frombuffer(data[:end], '<f4').reshape(-1, self.channels)
                if tracks and end:
                    scale.check(samples)
                    kept = scale.clip(_stereo(samples))
                    facts = self.rate_hz, self.channels, scale.clipped
                    tape.add_sound(SoundBlock(kept, *facts))

    def _read_frames(self, tape: Tape) -> None:
        assert self.frames
        width, height = self.frame_size
        tracks = (PICTURE,) if tape.wants.frames or tape.wants.media else ()
        with tape.track(*tracks), _opened(self.frames, self.patience_s, tape.stop) as file:
            count = 0
            while len(data := _exactly(file, width * height * 3)) == width * height * 3:
                if tracks:
                    image = np.frombuffer(data, np.uint8).reshape(height, width, 3)
                    frame = av.VideoFrame.from_ndarray(image, format='rgb24')
                    tape.add_picture(count / self.frame_rate, 1 / self.frame_rate, frame)
                count += 1


class _Growing:
    """A file object that waits at the end of its file for growth, until `patience_s` or `stop`."""

    def __init__(self, file: BinaryIO, patience_s: float, stop: threading.Event):
        self._file, self._patience_s, self._stop = file, patience_s, stop

    def read(self, size: int) -> bytes:
        end = time.monotonic() + self._patience_s
        while not (data := self._file.read(size)):
            if time.monotonic() >= end or self._stop.wait(POLL_S):
                return b''
        return b'' if self._stop.is_set() else data


@contextlib.contextmanager
def _opened(path: str, patience_s: float, stop: threading.Event) -> Iterator[_Growing]:
    """Opens a file, whose growth is waited for, or a pipe, whose writer ends it."""
    # no buffer: data are handed on at once
    with open(0 if path == '-' else path, 'rb', buffering=0, closefd=path != '-') as file:
        grows = stat.S_ISREG(Path(f'/dev/fd/{file.fileno()}').stat().st_mode)
        yield _Growing(file, patience_s if grows else 0.0, stop)


def _exactly(file: _Growing, size: int) -> bytes:
    """Reads `size` bytes, fewer only at the end of the file."""
    data = bytearray()
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return bytes(data)


def _check_exists(path: str | Path) -> None:
    if str(path) != '-' and (not Path(path).exists() or Path(path).is_dir()):
        raise FileNotFoundError(f'{path} is no file or pipe; name one that is being written')


def _play(
    container: av.container.InputContainer, name: str, tape: Tape, kinds: Sequence[str]
) -> None:
    """Decodes those of the wanted tracks that are of some kinds onto the tape."""
    wanted = {SOUND: tape.wants.audio, PICTURE: tape.wants.frames or tape.wants.media}
    tracks = {SOUND: container.streams.audio, PICTURE: container.streams.video}
    streams = {tracks[kind][0]: kind for kind in wanted if wanted[kind] and tracks[kind]}
    if not streams:
        raise ValueError(f'{name} has no {" and no ".join(k for k in wanted if wanted[k])} track')
    streams = {stream: kind for stream, kind in streams.items() if kind in kinds}
    start_s = None  # of the file's clock
    if any(stream.start_time is not None for stream in container.streams):
        start_s = float(media.start_of(container))
    sound = partial(_SoundReader, name=name)
    reader_of: dict[str, Callable[..., Callable]] = {SOUND: sound, PICTURE: _PictureReader}
    with tape.track(*streams.values()):
        starts = {SOUND: start_s, PICTURE: start_s}
        if container.format.name == 'avi':  # it stores no showing times, see media.PictureTrack
            starts[PICTURE] = None
        readers = {s.index: reader_of[kind](s, tape, starts[kind]) for s, kind in streams.items()}
        for packet in media.packets_of(container, *streams):
            try:
                frames = packet.decode()
            except av.InvalidDataError:  # one damaged packet; the next ones may be good
                continue
            for frame in frames:
                readers[packet.stream_index](frame)
            if tape.stop.is_set():
                return


class _SoundReader:
    """Writes the frames of a sound track to the tape, at their time stamps.

    Args:
      start_s: time stamp of the file's second 0; None takes the first one.
      name: of the sound, for errors.
    """

    def __init__(self, _: av.AudioStream, tape: Tape, start_s: float | None, *, name: str):
        self._tape, self._start_s, self._name = tape, start_s, name
        self._clock: media.Clock | None = None
        self._rate_hz = 0  # known with the first frame: a track may begin late
        self._end_s = 0.0

    def _begin(self, frame: av.AudioFrame) -> None:
        self._channels, self._rate_hz = len(frame.layout.channels), frame.sample_rate
        self._scale = _scale(self._name, self._rate_hz)
        # FFmpeg's own mono-to-stereo step lowers the level
        layout = 'mono' if self._channels == 1 else 'stereo'
        self._resampler = av.AudioResampler(format='flt', layout=layout, rate=self._rate_hz)

    def __call__(self, frame: av.AudioFrame) -> None:
        if not self._rate_hz:
            self._begin(frame)
        self._scale.check_frame(frame)
        if is_first := self._clock is None:
            start_s = self._start_s if self._start_s is not None else frame.time or 0.0
            self._clock = media.Clock(start_s)
        at_s = self._clock.place(frame.time, self._end_s)
        gap_s = at_s - self._end_s
        if gap_s > LEAP_S and not is_first:  # of another clock: it goes on from its last time
            self._clock, at_s = media.Clock((frame.time or 0.0) - self._end_s), self._end_s
        elif is_first or gap_s > media.GAP_S:
            self._end_s = max(self._end_s, at_s)
            self._tape.go_on(SOUND, self._end_s)
        for block in self._resampler.resample(frame):
            samples = block.to_ndarray().reshape(-1, len(block.layout.channels))
            kept = self._scale.clip(_stereo(samples))
            facts = self._rate_hz, self._channels, self._scale.clipped
            self._tape.add_sound(SoundBlock(kept, *facts), self._end_s)
            self._end_s += len(samples) / self._rate_hz


class _PictureReader:
    """Writes the frames of a picture track to the tape, at their time stamps.

    Args:
      start_s: time stamp of the file's second 0; None takes the first one.
    """

    def __init__(self, stream: av.VideoStream, tape: Tape, start_s: float | None):
        self._tape, self._length_s = tape, float(1 / (stream.average_rate or 25))
        self._zero_s, self._has_begun = start_s, False
        self._end_s = 0.0

    def __call__(self, frame: av.VideoFrame) -> None:
        at_s = self._end_s
        if frame.time is not None:
            since_s = frame.time - (self._zero_s or 0.0)
            expected_s = max(self._end_s, self._tape.end_s)
            # a stream that restarts or leaps goes on from its last time
            if self._zero_s is not None and (
                self._end_s - AHEAD_S < since_s < expected_s + LEAP_S or not self._has_begun
            ):
                at_s = max(0.0, since_s)
            self._zero_s = frame.time - at_s
        self._tape.go_on(PICTURE, at_s)
        self._has_begun = True
        self._end_s = max(self._end_s, at_s + self._length_s)
        self._tape.add_picture(at_s, self._length_s, frame)


def _scale(name: str, rate_hz: int) -> media.FullScale:
    return media.FullScale(name, rate_hz, JUDGED_S * rate_hz)


def _stereo(samples: np.ndarray) -> np.ndarray:
    return np.broadcast_to(samples, (len(samples), 2))  # mono is doubled
