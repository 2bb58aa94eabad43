"""Media files in, arrays out: the one frame picker and the one decoder.

The dataset builder, the feature extractor and predict all read through here, so that a clip gives
the same frames and samples everywhere. Files are untrusted: sizes are checked before memory is
taken, only local files are opened, and whatever is wrong becomes a ValueError that names the file.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
import soundfile
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_SIDE_PX = 8192
MAX_DURATION_S = 3600.0
MAX_SAMPLE_RATE_HZ = 192_000

# Endings of files, for those who look for some.
VIDEOS = ('.mp4', '.mkv', '.mov', '.avi', '.webm', '.m4v', '.mpg', '.mpeg', '.ts', '.wmv')
SOUNDS = ('.wav', '.flac', '.mp3', '.m4a', '.aac', '.ogg', '.opus', '.wma', '.aiff', '.aif')
PICTURES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')

Source = str | os.PathLike | BinaryIO


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


def read_frames(
    source: Source,
    rule: str,
    *,
    short_side: int | None = None,
    resize: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Frames:
    """Decodes the frames that a rule picks, exactly, and only the picture groups that hold them.

    The compressed track is held in memory meanwhile.

    Args:
      source: a path, or a binary file object.
      rule: a key of FRAME_RULES.
      short_side: pictures larger than this are scaled down to it (bicubic); None keeps the size.
      resize: what becomes of each picture [H, W, 3] uint8 as soon as it is decoded.
    """
    with opened_pictures(source) as track:
        return track.frames(rule, short_side=short_side, resize=resize)


@contextlib.contextmanager
def opened_pictures(source: Source) -> Iterator['PictureTrack']:
    """The first picture track of a file, of which several parts can be read."""
    with _opened(source) as (container, name):
        if not container.streams.video:
            raise ValueError(f'{name} has no picture track')
        yield PictureTrack(container, name)


class PictureTrack:
    """A compressed track in memory, and its frames, which are decoded when they are asked for.

    Attributes:
      duration_s: of the track; its frames are taken as evenly spaced over it.
    """

    def __init__(self, container: av.container.InputContainer, name: str):
        stream = container.streams.video[0]
        self._name, self._codec = name, stream.codec_context
        codec = self._codec
        codec.thread_count = 1  # the callers run one clip a thread
        _check_picture_size(name, codec.width, codec.height)
        self._packets = [packet for packet in container.demux(stream) if packet.size]
        rate = stream.average_rate or stream.base_rate or 25
        shown, tick = _shown_times(self._packets), stream.time_base
        # avi stores no showing times, and FFmpeg's guesses are wrong where frames are reordered
        self._numbered = shown is None or (codec.has_b_frames and container.format.name == 'avi')
        if self._numbered:
            shown = list(range(sum(1 for _ in _decoded(codec, self._packets, numbered=True))))
            tick = 1 / rate
        if not shown:
            raise ValueError(f'{name} holds no pictures; is it cut short?')
        seconds = [float((pts - shown[0]) * tick) for pts in shown]
        last = len(shown) - 1
        self.duration_s = seconds[-1] * len(shown) / last if last else float(1 / rate)
        if self.duration_s > MAX_DURATION_S:
            raise ValueError(
                f'{name} lasts {self.duration_s:.0f} s; the limit is {MAX_DURATION_S:.0f}'
            )
        self._shown, self._seconds = shown, seconds

    def frames(
        self,
        rule: str,
        *,
        start_s: float = 0.0,
        window_s: float | None = None,
        short_side: int | None = None,
        resize: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> Frames:
        """The frames that a rule picks of a part of the track; see read_frames.

        Args:
          window_s: length of the part, which tells how many; where the track ends before it, they
            are spread over what there is. None: the whole track.
        """
        if window_s is None:
            there, window_s = np.arange(len(self._shown)), self.duration_s
        else:
            seconds = np.asarray(self._seconds)
            there = np.flatnonzero((seconds >= start_s) & (seconds < start_s + window_s))
            if not len(there):
                raise ValueError(
                    f'{self._name} shows no picture from {start_s:.1f} to {start_s + window_s:.1f} '
                    's; is it cut short?'
                )
        codec, shown = self._codec, self._shown
        index = there[pick_frames(rule, len(there), duration_s=window_s)]
        size, images = _scaled(codec.width, codec.height, short_side), {}
        codec.flush_buffers()  # of what was decoded before
        wanted = {shown[i] for i in index}
        for frame in _frames_at(wanted, codec, self._packets, self._numbered):
            _check_picture_size(self._name, frame.width, frame.height)
            image = _rgb(frame, size)
            images[frame.pts] = image if resize is None else resize(image)
        if lost := [self._seconds[i] for i in index if shown[i] not in images]:
            raise ValueError(f'{self._name} is damaged or cut short: no picture at {lost[0]:.2f} s')
        return Frames(
            np.stack([images[shown[i]] for i in index]),
            index.astype(np.int32),
            np.asarray([self._seconds[i] for i in index], np.float32),
        )


def _shown_times(packets: list) -> list[int] | None:
    """Time stamps in showing order, without what an edit list cuts; None if any is missing."""
    if any(packet.pts is None for packet in packets):
        return None
    shown = sorted(packet.pts for packet in packets if not packet.is_discard)
    return shown if len(set(shown)) == len(shown) else None


def _frames_at(
    wanted: set[int], codec: av.VideoCodecContext, packets: list, numbered: bool
) -> Iterator[av.VideoFrame]:
    """Yields the frames with the wanted time stamps, decoding only the groups that hold them."""
    place = {packet.pts: i for i, packet in enumerate(packets)}
    keys = [i for i, packet in enumerate(packets) if packet.is_keyframe and not numbered]
    start, frames = 0, _decoded(codec, packets, numbered=numbered)
    for pts in sorted(wanted):
        # Decoding has to begin at the last key frame both stored and shown before the frame: one
        # stored after a key frame but shown before it may lean on the group before (open groups).
        entry = max((i for i in keys if i <= place[pts] and packets[i].pts <= pts), default=0)
        if entry > start:
            codec.flush_buffers()
            start, frames = entry, _decoded(codec, packets[entry:])
        for frame in frames:
            if frame.pts == pts:
                yield frame
                break


def _decoded(
    codec: av.VideoCodecContext, packets: list, *, numbered: bool = False
) -> Iterator[av.VideoFrame]:
    """Frames in showing order; numbered ones carry their place instead of a time stamp."""
    place = itertools.count()
    for packet in (*packets, None):
        for frame in codec.decode(packet):
            if numbered:
                frame.pts = next(place)
            yield frame


def _rgb(frame: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    """Scales and turns into RGB in one pass of swscale, then applies the camera's rotation."""
    scaled = frame.reformat(*size, format='rgb24', interpolation='BICUBIC')
    return np.rot90(scaled.to_ndarray(), round(frame.rotation / 90))


def _scaled(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    scale = min(1.0, (short_side or MAX_SIDE_PX) / min(width, height))
    return round(width * scale), round(height * scale)


def _check_picture_size(name: str, width: int, height: int) -> None:
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
    with _opened(source) as (container, name):
        if not container.streams.audio:
            raise ValueError(f'{name} has no sound track')
        stream = container.streams.audio[0]
        codec = stream.codec_context
        codec.thread_count = 1
        rate = codec.sample_rate
        # FFmpeg's own mono-to-stereo step lowers the level; _stereo doubles instead
        layout = 'mono' if codec.channels == 1 else 'stereo'
        resampler = av.AudioResampler(format='flt', layout=layout, rate=rate)
        blocks, count = [], 0
        for frame in itertools.chain(container.decode(stream), [None]):
            for block in resampler.resample(frame):
                blocks.append(block.to_ndarray().reshape(-1, len(block.layout.channels)))
                count += len(blocks[-1])
            _check_sound(name, max(count, 1), rate)
        _check_sound(name, count, rate)
        return _stereo(np.concatenate(blocks)), rate


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
            _check_picture_size('the picture', *image.size)
            return np.asarray(image.convert('RGB'))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f'cannot decode a picture of {len(data)} bytes: {error}') from error


def read_picture(source: str | os.PathLike, short_side: int | None = None) -> np.ndarray:
    """Decodes a still picture as [H, W, 3] uint8, turned as its camera was held.

    Args:
      short_side: see read_frames.
    """
    with _one_sentence(source), Image.open(_checked(source)) as image:
        _check_picture_size(_name(source), *image.size)
        turned = ImageOps.exif_transpose(image).convert('RGB')
        size = _scaled(*turned.size, short_side)
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


def _check_sound(name: str, num_samples: int, rate: int) -> None:
    if not num_samples:
        raise ValueError(f'{name} holds no sound samples')
    if not 0 < rate <= MAX_SAMPLE_RATE_HZ or num_samples > MAX_DURATION_S * rate:
        raise ValueError(
            f'{name} claims {num_samples} samples at {rate} Hz; the limits are '
            f'{MAX_DURATION_S:.0f} s and {MAX_SAMPLE_RATE_HZ} Hz'
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
    with _one_sentence(source), av.open(target, container_options=options) as container:
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
        magic = source.read(4)
        source.seek(0)
    else:
        with Path(source).open('rb') as file:
            magic = file.read(4)
    if magic not in (b'RIFF', b'RF64', b'fLaC'):
        return None
    with _opened_pcm(source) as (sound, _):
        return sound.channels, sound.subtype
