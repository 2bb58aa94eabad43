"""Opens untrusted media files safely, and holds their limits and known file name endings."""

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypedDict

import av
import soundfile

from avsc_jax.runtime import nearest

MAX_SIDE_PX = 8192
MAX_DURATION_S = 3600.0
LENGTH_SLACK = 1e-4  # share by which a file may pass a limit: encoders pad, and times are rounded
MAX_HELD_S = 3600.0  # for which a film shows one picture
MAX_SAMPLE_RATE_HZ = 192_000
OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # at most

# File name endings, for code that searches folders.
VIDEOS = ('.mp4', '.mkv', '.mov', '.avi', '.webm', '.m4v', '.mpg', '.mpeg', '.ts', '.wmv')
SOUNDS = ('.wav', '.flac', '.mp3', '.m4a', '.aac', '.ogg', '.opus', '.wma', '.aiff', '.aif')
PICTURES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')

# FFmpeg's names of the formats that are read. Left out are those that lead to other files and
# devices (playlists, concat, sdp, numbered pictures, lavfi), text, and stills, which Pillow reads.
FILM_FORMATS = (
    'mov', 'matroska', 'webm', 'avi', 'mpeg', 'mpegts', 'mpegvideo', 'm4v', 'asf', 'flv', 'ogg',
    'mxf', 'nut', 'rm', 'dv', 'ivf', 'h264', 'hevc', 'mjpeg', 'gif', 'apng',
)  # fmt: skip
SOUND_FORMATS = (
    'wav', 'w64', 'aiff', 'flac', 'mp3', 'aac', 'caf', 'ac3', 'eac3', 'dts', 'amr', 'au', 'ape',
    'wv', 'tta', 'tak', 'mpc', 'mpc8', 'voc', 'xwma',
)  # fmt: skip
CONTAINER_OPTIONS = {
    'protocol_whitelist': 'file',
    'format_whitelist': ','.join(FILM_FORMATS + SOUND_FORMATS),
}
HEAD_BYTES = 4096
# Bytes that no text has, in ASCII, UTF-8, or an encoding of one or two bytes for a character.
_NO_TEXT = bytes({*range(32)} - {*b'\t\n\f\r\x1b'})
# Formats whose tracks are known when their first packets come, which may be late; FFmpeg looks for
# them as far as PATIENCE says, and keeps in memory what it has passed.
UNLISTED = ('mpeg', 'mpegts', 'flv')
PATIENCE = {'probesize': str(256 << 20), 'analyzeduration': str(3600 * 10**6)}

MediaFile = str | os.PathLike | BinaryIO


class TooLong(ValueError):
    """The error of a file that lasts longer than is allowed."""


def is_too_long(duration_s: float, most_s: float) -> bool:
    """Returns whether a file lasts longer than allowed, by more than its last packet may."""
    return duration_s > most_s * (1 + LENGTH_SLACK)


class _Titles(TypedDict, total=False):
    metadata_errors: str


# Titles may be in any encoding, which PyAV accepts without this option since version 19.
TITLES: _Titles = {'metadata_errors': 'replace'} if int(av.__version__.split('.')[0]) < 19 else {}


def check_whole(source: MediaFile) -> None:
    """Raises ValueError for a wav, aiff, avi, mp4, mkv or ogg file that ends before it says.

    Decoders read some of those without an error, as if they were short.
    """
    path = checked(source)
    with contextlib.nullcontext(path) if hasattr(path, 'read') else Path(path).open('rb') as file:
        size = file.seek(0, io.SEEK_END)
        end = _claimed_end(file, size)
    if end > size + 1:  # some writers count a padding byte that they leave out
        raise ValueError(
            f'{name_of(source)} is cut short: {size:,} of {end:,} bytes; copy it again'
        )


def _claimed_end(file: BinaryIO, size: int) -> int:
    """Returns the size in bytes that a file's own headers claim; 0 if they claim none."""
    file.seek(0)
    head, end = file.read(28), 0
    if head[:4] in (b'RIFF', b'FORM'):
        claimed = int.from_bytes(head[4:8], 'little' if head[:4] == b'RIFF' else 'big')
        return 8 + claimed if claimed != 0xFFFFFFFF else 0  # written to a pipe: unknown
    if head[:4] == b'RF64' and head[12:16] == b'ds64':
        claimed = int.from_bytes(head[20:28], 'little')
        return 8 + claimed if claimed != 0xFFFFFFFFFFFFFFFF else 0
    if head[:4] == b'OggS':
        return _last_page_end(file, size)
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


def _last_page_end(file: BinaryIO, size: int) -> int:
    """Returns where the last page of an Ogg file ends by its header: some bytes, and their sum."""
    start = max(0, size - OGG_PAGE_BYTES)
    file.seek(start)
    tail = file.read()
    page = tail.rfind(b'OggS')
    num_parts = tail[page + 26] if 0 <= page < len(tail) - 26 else 0
    parts = tail[page + 27 : page + 27 + num_parts]
    return start + page + 27 + num_parts + sum(parts) if page >= 0 else 0


@contextlib.contextmanager
def opened(source: MediaFile) -> Iterator[tuple[av.container.InputContainer, str]]:
    """Opens a media file with FFmpeg; yields the container, and the file's name for errors."""
    target = checked(source)
    if not hasattr(target, 'read'):
        target = f'file:{target}'  # never a URL, whatever the name looks like
    _check_no_text(source)
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_sentence(source))
        container = stack.enter_context(_container(target, name_of(source)))
        if container.format.name in UNLISTED and not _are_known(container):
            if hasattr(target, 'read'):
                target.seek(0)
            container = stack.enter_context(_container(target, name_of(source), **PATIENCE))
        yield container, name_of(source)


def _container(target: MediaFile, name: str, **more: str) -> av.container.InputContainer:
    try:
        return av.open(target, container_options=CONTAINER_OPTIONS | more, **TITLES)
    except av.error.ArgumentError as error:  # FFmpeg's of a format that is not listed
        raise ValueError(
            f'cannot decode {name}: its format is none of those that are read, or it is damaged; '
            'save it as mp4, mkv, wav or flac'
        ) from error


def _check_no_text(source: MediaFile) -> None:
    """Raises ValueError for text, in which some readers would look for sound to its end."""
    if is_open := hasattr(source, 'read'):
        source.seek(0)
    with contextlib.nullcontext(source) if is_open else Path(source).open('rb') as file:
        head = file.read(HEAD_BYTES)
    if is_open:
        source.seek(0)
    if len(head.translate(None, _NO_TEXT)) == len(head):
        raise ValueError(f'cannot decode {name_of(source)}: it is no media, but text')


def packets_of(
    container: av.container.InputContainer, *streams: av.stream.Stream
) -> Iterator[av.Packet]:
    """Yields the packets of some tracks, and those that empty their decoders at the end.

    Tracks that come up while a file is read are left out: PyAV does not know them, and stumbles
    over them at the end, or at the beginning of a damaged file, which then has no packets.
    """
    indices = [stream.index for stream in streams]
    with contextlib.suppress(IndexError):
        for packet in container.demux(*streams) if streams else ():
            if packet.stream_index in indices:
                yield packet


def _are_known(container: av.container.InputContainer) -> bool:
    """Returns whether there are sound and pictures of which enough was read to decode them."""
    sounds = [stream.codec_context for stream in container.streams.audio]
    pictures = [stream.codec_context for stream in container.streams.video]
    return (
        bool(sounds and pictures)
        and all(codec is not None and codec.sample_rate for codec in sounds)
        and all(codec is not None and codec.width for codec in pictures)
    )


def checked(source: MediaFile) -> MediaFile:
    """Returns the source, rewound if it is a file object, unless it is missing or empty."""
    if hasattr(source, 'read'):
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
    else:
        if not Path(source).is_file():
            meant = nearest.path(Path(source))
            raise FileNotFoundError(
                f'{source} does not exist or is not a file{meant}; check the path'
            )
        size = Path(source).stat().st_size
    if not size:
        raise ValueError(f'{name_of(source)} is empty (0 bytes); copy it again')
    return source


def name_of(source: MediaFile) -> str:
    is_path = isinstance(source, str | os.PathLike)
    return str(source) if is_path else str(getattr(source, 'name', 'the media stream'))


@contextlib.contextmanager
def one_sentence(source: MediaFile) -> Iterator[None]:
    """Turns the libraries' errors about bad media into one ValueError that names the file."""
    try:
        yield
    except (av.FFmpegError, soundfile.SoundFileError, EOFError) as error:
        reason = getattr(error, 'strerror', None) or str(error).splitlines()[0]
        raise ValueError(f'cannot decode {name_of(source)}: {reason}') from error
