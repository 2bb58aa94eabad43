"""Decodes sound tracks, and encodes and decodes the FLAC of records."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av
import numpy as np
import soundfile

from avsc_jax.data.media.full_scale import FullScale, check_finite
from avsc_jax.data.media.source import (
    MAX_DURATION_S,
    MAX_SAMPLE_RATE_HZ,
    MediaFile,
    TooLong,
    checked,
    is_too_long,
    name_of,
    one_sentence,
    opened,
    packets_of,
)
from avsc_jax.data.media.timeline import GAP_S, ROUNDING, Clock, Extent, NoData, Stretch, start_of

FLAC_SAMPLES_PER_BYTE = 8192  # a block of 65,535 silent samples has ten bytes
MAX_FLAC_BYTES = 1 << 30  # of decoded samples; 46 minutes of stereo at 48 kHz
_TOLERANCE_S = 0.25  # of missing sound: packets claim more than the decoder gives


class Sound(NamedTuple):
    """The whole first sound track of a file.

    Attributes:
      samples: float32 [N, 2] within 1.
      rate_hz: sample rate.
      clipped: share of the samples that were beyond full scale; see `clipping_note`.
    """

    samples: np.ndarray
    rate_hz: int
    clipped: float


def read_sound(source: MediaFile, *, max_duration_s: float | None = None) -> Sound:
    """Decodes the first sound track to two channels.

    It begins at the file's second 0, and is silent where the track has no data. Mono is doubled;
    more than two channels are mixed down by FFmpeg's standard matrix. The values of wav and FLAC
    are exact, but for floats beyond full scale, which are clipped.

    Args:
      max_duration_s: of the file; None: MAX_DURATION_S.

    Raises:
      TooLong: it lasts longer.
      ValueError: the file cannot be decoded, or holds samples that no sound has; see FullScale.
    """
    blocks, count = [], 0
    if (format_ := _pcm_format(source)) and format_[0] <= 2:
        with _opened_pcm(source) as (sound, name):
            rate, count = sound.samplerate, sound.frames
            _check_sound(name, count, rate, max_duration_s)
            scale = FullScale(name, rate, count)
            samples = sound.read(dtype='float32', always_2d=True)
            scale.check(samples)
            blocks.append(scale.clip(_stereo(samples)))
    else:
        with _opened_sound(source) as (container, stream):
            name, rate = name_of(source), stream.codec_context.sample_rate
            scale = FullScale(name, rate, (max_duration_s or MAX_DURATION_S) * rate)
            for block in _sound_blocks(container, stream, scale):
                blocks.append(block)
                count += len(block)
                _check_sound(name, count, rate, max_duration_s)
            _check_sound(name, count, rate, max_duration_s)
    scale.finish()
    return Sound(np.concatenate(blocks), rate, scale.clipped)


def read_audio(source: MediaFile) -> tuple[np.ndarray, int]:
    """Decodes the first sound track: (float32 [N, 2], sample rate in Hz); see read_sound."""
    return read_sound(source)[:2]


class SoundTrack:
    """The first sound track of a file, whose parts are decoded in order.

    Attributes:
      rate_hz: sample rate.
      channels: number in the source; a decoded part has two, see read_audio.
      clipped: share of its samples that were beyond full scale, among those decoded so far.
      extent: when it has sound, by the file's clock and the headers; those of a compressed track
        are its packets', which may claim a little more than the decoder gives.
    """

    def __init__(self, source: MediaFile, *, max_duration_s: float | None = None):
        self._source, self._name = source, name_of(source)
        self._is_pcm = bool((format_ := _pcm_format(source)) and format_[0] <= 2)
        if self._is_pcm:
            with _opened_pcm(source) as (sound, _):
                self.rate_hz, self.channels, count = sound.samplerate, sound.channels, sound.frames
            self.extent = Extent(0.0, count / self.rate_hz)
        else:
            with _opened_sound(source) as (container, stream):
                codec = stream.codec_context
                self.rate_hz, self.channels = codec.sample_rate, codec.channels
                self.extent = _extent(container, stream)
            count = round(self.extent.end_s * self.rate_hz)
        _check_sound(self._name, count, self.rate_hz, max_duration_s)
        if self._is_pcm:
            self._check_end(count)
        self._num_samples = count
        self._scale = FullScale(self._name, self.rate_hz, count)

    @property
    def clipped(self) -> float:
        """Share of the samples decoded so far that were beyond full scale."""
        return self._scale.clipped

    def parts(
        self, spans: Sequence[tuple[float, float]], *, most_s: float = 0.0
    ) -> Iterator[np.ndarray | ValueError]:
        """Yields the samples [N, 2] of each part, or a ValueError for one that has none.

        The error is a NoData where the track has no sound by the rule of Extent.is_there, which
        also says where a part is silent; otherwise the file is damaged. A part is shorter where the
        track ends by less than that. The track is decoded once; only the samples since the start of
        the last part are in memory.

        Args:
          spans: start and length of each part in seconds, in order.
          most_s: a part that is shorter goes on to this length, if the decoder gives more than the
            headers claim.
        """
        blocks, held, first = self._blocks(), np.zeros((0, 2), np.float32), 0
        for start_s, length_s in spans:
            if not self.extent.is_there(start_s, length_s):
                why = self.extent.told('sound', start_s, length_s)
                yield NoData(f'{self._name} has {why}')
                continue
            start = round(start_s * self.rate_hz)
            stop = start + round(max(length_s, most_s) * self.rate_hz)
            drop = min(max(0, start - first), len(held))
            new, end, first = [held[drop:]], first + len(held), first + drop
            while end < stop and (block := next(blocks, None)) is not None:
                drop = min(max(0, start - end), len(block))
                new.append(block[drop:])
                first, end = first + drop, end + len(block)
            held = np.concatenate(new)
            yield self._part(held[: stop - start], start, end, length_s)

    def _part(
        self, part: np.ndarray, start: int, end: int, length_s: float
    ) -> np.ndarray | ValueError:
        """Returns a part with silence where it has no data, or the error of a damaged one.

        Args:
          start: number of its first sample.
          end: number of samples that the decoder has given.
        """
        rate, end_s = self.rate_hz, self.extent.end_s
        lost = np.isnan(part[:, 0])
        missing_s = min(start / rate + length_s, end_s) - end / rate
        if not len(part) or missing_s > _TOLERANCE_S:
            return self._damaged('ends', end)
        if np.count_nonzero(lost) > _TOLERANCE_S * rate:
            return self._damaged('has a gap', start + lost.argmax())
        silent = round(length_s * rate) - len(part)
        silent = silent if silent > ROUNDING * length_s * rate else 0
        return np.pad(np.nan_to_num(part), ((0, silent), (0, 0)))

    def _check_end(self, count: int) -> None:
        """Raises ValueError if the last sample is missing: libsndfile decodes no cut FLAC file."""
        with _opened_pcm(self._source) as (sound, _):
            try:
                sound.seek(count - 1)
            except soundfile.SoundFileError as error:
                raise ValueError(
                    f'{self._name} is cut short: it does not hold the {count} samples that its '
                    'header claims'
                ) from error

    def _damaged(self, how: str, sample: int) -> ValueError:
        at_s = sample / self.rate_hz
        return ValueError(
            f'{self._name} is damaged or cut short: its sound {how} at {at_s:.1f} s of '
            f'{self.extent.end_s:.1f} s'
        )

    def _blocks(self) -> Iterator[np.ndarray]:
        self._scale = scale = FullScale(self._name, self.rate_hz, self._num_samples)
        if not self._is_pcm:
            with _opened_sound(self._source) as (container, stream):
                yield from _sound_blocks(container, stream, scale, lenient=True)
            return
        with _opened_pcm(self._source) as (sound, _):
            while len(block := sound.read(self.rate_hz, dtype='float32', always_2d=True)):
                scale.check(block)
                yield scale.clip(_stereo(block))


@contextlib.contextmanager
def _opened_sound(
    source: MediaFile,
) -> Iterator[tuple[av.container.InputContainer, av.AudioStream]]:
    with opened(source) as (container, name):
        if not container.streams.audio:
            raise ValueError(f'{name} has no sound track')
        stream = container.streams.audio[0]
        if not (stream.codec_context and stream.codec_context.sample_rate):
            raise ValueError(f'{name} has a sound track of unknown kind; convert it to wav or mp4')
        stream.codec_context.thread_count = 1
        yield container, stream


def _extent(container: av.container.InputContainer, stream: av.AudioStream) -> Extent:
    """Returns when a compressed track has sound by its packets, right to a few hundredths."""
    codec, tick = stream.codec_context, float(stream.time_base)
    clock, usual_s = Clock(float(start_of(container))), codec.frame_size / codec.sample_rate
    is_fixed = codec.frame_size > 1  # mp4 says that the packet before a gap lasts until its end
    start_s, end_s, gaps = None, 0.0, list[Stretch]()
    for packet in packets_of(container, stream):
        if packet.size and not packet.is_discard:
            stamp_s = None if packet.pts is None else packet.pts * tick
            at_s = clock.place(stamp_s, end_s)
            if start_s is None:
                start_s = max(0.0, at_s)
            elif at_s - end_s > GAP_S:
                gaps.append((end_s, at_s))
            length_s = _ticks(packet) * tick
            end_s = at_s + (usual_s if is_fixed and not 0 < length_s < 2 * usual_s else length_s)
    return Extent(start_s or 0.0, end_s, tuple(gaps))


def _ticks(packet: av.Packet) -> int:
    """Returns how long a packet lasts, less than nothing where an Ogg file of one page is cut."""
    ticks = packet.duration or 0
    return ticks - (1 << 32) if 1 << 31 <= ticks < 1 << 32 else ticks  # FFmpeg's 32 bits


def _sound_blocks(
    container: av.container.InputContainer,
    stream: av.AudioStream,
    scale: FullScale,
    *,
    lenient: bool = False,
) -> Iterator[np.ndarray]:
    """Yields decoded samples [n, 2] at the file's own rate.

    Time before the first time stamp, and gaps between them, are silent.

    Args:
      scale: checks and clips them.
      lenient: gives NaN in place of packets that cannot be decoded, which raise an error otherwise.
    """
    codec, clock, count = stream.codec_context, Clock(float(start_of(container))), 0
    rate = codec.sample_rate
    has_begun = False
    # FFmpeg's own mono-to-stereo step lowers the level; _stereo doubles instead
    layout = 'mono' if codec.channels == 1 else 'stereo'
    resampler = av.AudioResampler(format='flt', layout=layout, rate=rate)
    for packet in packets_of(container, stream):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if not lenient or isinstance(error, MemoryError):
                raise
            lost = round(rate * min(1.0, float((packet.duration or 0) * stream.time_base)))
            yield np.full((lost, 2), np.nan, np.float32)
            count += lost
            continue
        for frame in frames if packet.size else [*frames, None]:
            if frame:
                scale.check_frame(frame)
                gap_s = clock.place(frame.time, count / rate) - count / rate
                gap = round(rate * gap_s) if gap_s > (GAP_S if has_begun else 0) else 0
                has_begun = True
                count += gap
                for start in range(0, gap, rate):
                    yield np.zeros((min(rate, gap - start), 2), np.float32)
            for block in resampler.resample(frame):
                samples = block.to_ndarray().reshape(-1, len(block.layout.channels))
                count += len(samples)
                yield scale.clip(_stereo(samples))


def audio_channels(source: MediaFile) -> int:
    """Returns the number of channels of the first sound track, of which `read_audio` makes two."""
    if format_ := _pcm_format(source):
        return format_[0]
    with _opened_sound(source) as (_, stream):
        return stream.codec_context.channels


def audio_bit_depth(source: MediaFile) -> int:
    """Returns the FLAC depth that keeps a sound file's values: 16, or 24 where it holds more.

    Lossy formats have no depth of their own and get 16; 32-bit wav is cut to 24.
    """
    format_ = _pcm_format(source)
    return 24 if format_ and format_[1] not in ('PCM_16', 'PCM_U8', 'PCM_S8') else 16


@contextlib.contextmanager
def _opened_pcm(source: MediaFile) -> Iterator[tuple[soundfile.SoundFile, str]]:
    file = checked(source)
    if not hasattr(file, 'read'):
        file = os.fsencode(file)  # soundfile does not know names that are not UTF-8
    with one_sentence(source), soundfile.SoundFile(file) as sound:
        yield sound, name_of(source)


def _pcm_format(source: MediaFile) -> tuple[int, str] | None:
    """Returns channels and sample type of a wav or FLAC source; None for any other format.

    A wav of GSM, in which libsndfile cannot seek, counts as another one.
    """
    if hasattr(source := checked(source), 'read'):
        magic = source.read(12)
        source.seek(0)
    else:
        with Path(source).open('rb') as file:
            magic = file.read(12)
    if magic[:4] != b'fLaC' and (magic[:4] not in (b'RIFF', b'RF64') or magic[8:] == b'AVI '):
        return None
    with _opened_pcm(source) as (sound, _):
        return (sound.channels, sound.subtype) if sound.seekable() else None


def encode_flac(samples: np.ndarray, sample_rate_hz: int, bits: int) -> bytes:
    """Encodes float32 [N, K] in [-1, 1) as FLAC of 16 or 24 bits, lossless at that depth.

    Raises:
      ValueError: samples are missing, or not finite.
    """
    if bits not in (16, 24) or not len(samples):
        raise ValueError(
            f'FLAC needs 16 or 24 bits and at least one sample, not {bits} bits and '
            f'{len(samples)} samples'
        )
    check_finite('the sound to encode', samples, sample_rate_hz)
    full = 2.0 ** (bits - 1)
    integers = np.clip(np.rint(samples * full), -full, full - 1).astype(np.int32) << (32 - bits)
    buffer = io.BytesIO()
    # integers: libsndfile scales floats by full - 1 when it writes, by full when it reads
    soundfile.write(buffer, integers, sample_rate_hz, format='FLAC', subtype=f'PCM_{bits}')
    return buffer.getvalue()


def decode_flac(data: bytes | BinaryIO, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Returns samples start to stop as float32 [N, 2]; only that part is read and decoded."""
    file, size = _sized(data)
    with _opened_pcm(file) as (sound, name):
        stop = sound.frames if stop is None else min(stop, sound.frames)
        _check_flac(size, name, sound)
        sound.seek(min(start, sound.frames))
        return _stereo(sound.read(max(0, stop - start), dtype='float32', always_2d=True))


def flac_length(data: bytes) -> int:
    """Returns the number of samples per channel by the file's header."""
    file, size = _sized(data)
    with _opened_pcm(file) as (sound, name):
        _check_flac(size, name, sound)
        return sound.frames


def _sized(data: bytes | BinaryIO) -> tuple[BinaryIO, int]:
    """Returns bytes or a file as a file, at its beginning, and its number of bytes."""
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return file, size


def _check_flac(num_bytes: int, name: str, sound: soundfile.SoundFile) -> None:
    """Raises ValueError if FLAC claims more samples than its bytes or a record can hold."""
    _check_sound(name, sound.frames, sound.samplerate)
    most = min(FLAC_SAMPLES_PER_BYTE * num_bytes, MAX_FLAC_BYTES // 4 // max(2, sound.channels))
    if sound.frames > most:
        raise ValueError(
            f'{name} claims {sound.frames:,} samples in {num_bytes:,} bytes; at most {most:,} can '
            'be there'
        )


def _stereo(samples: np.ndarray) -> np.ndarray:
    return np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples


def _check_sound(
    name: str, num_samples: int, rate: int, max_duration_s: float | None = None
) -> None:
    max_duration_s = max_duration_s or MAX_DURATION_S
    if not num_samples:
        raise ValueError(f'{name} holds no sound samples')
    if not 0 < rate <= MAX_SAMPLE_RATE_HZ or is_too_long(num_samples / rate, max_duration_s):
        raise (TooLong if 0 < rate <= MAX_SAMPLE_RATE_HZ else ValueError)(
            f'{name} claims {num_samples} samples at {rate} Hz; the limits are '
            f'{max_duration_s:.0f} s and {MAX_SAMPLE_RATE_HZ} Hz'
        )
