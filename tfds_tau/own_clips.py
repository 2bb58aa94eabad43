"""One file of one's own in, its records out: as many windows of one length as it lasts.

Windows stand side by side; a rest of half a window or more gives another one, which ends where the
file ends. A file that is shorter than a window gives one: its sound is repeated, its pictures are
picked over what there is. So all records have equally much sound and equally many pictures.
"""

import collections
import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import librosa
import numpy as np

from avsc_jax.data import media
from tfds_tau.clips import BadMedia, check_whole

APART_S = 1.0  # how much sound and picture may differ in length before somebody should know
SHORT = 0.95  # of a window; what lasts less is short


class OwnClip(NamedTuple):
    """A file, or one with sound and one with pictures; '' is what it has not."""

    clip_id: str
    audio: str
    video: str
    scene: str
    group: str


class OwnFiles:
    """Files by their paths below a folder; takes note of what is done to them.

    Attributes:
      notes: what was done -> the clips that it was done to.
    """

    def __init__(self, root: Path):
        self.root = root
        self.notes: dict[str, list[str]] = collections.defaultdict(list)
        self._lock = threading.Lock()

    def __contains__(self, name: str) -> bool:
        return not name or (self.root / name).is_file()

    def stamp(self, name: str) -> list[int]:
        """See MediaFiles.stamp."""
        if not name or name not in self:
            return []
        facts = (self.root / name).stat()
        return [facts.st_size, facts.st_mtime_ns]

    def note(self, clip_id: str, told: str) -> None:
        with self._lock:
            self.notes[told].append(clip_id)


def read(
    files: OwnFiles,
    clip: OwnClip,
    *,
    frames: str,
    short_side: int,
    window_s: float,
    sample_rate_hz: int,
) -> list[dict]:
    """Returns the clip's records, one a window; raises BadMedia."""
    problems: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        sound = track = None
        with _noted(problems, clip.audio):
            if clip.audio:
                sound = _sound(files, clip, sample_rate_hz)
        with _noted(problems, clip.video):
            if clip.video:
                track = stack.enter_context(_pictures(files.root / clip.video))
        if problems:
            raise BadMedia([*problems.items()])
        lengths = [len(sound.samples) / sample_rate_hz] if sound else []
        lengths += [track.duration_s] if track and track.duration_s else []
        _tell_lengths(files, clip, lengths, window_s)
        starts = windows(min(lengths, default=window_s), window_s)
        records = []
        with _noted(problems, clip.video):
            for start_s in starts:
                record = _facts(clip, start_s if len(starts) > 1 else None, sample_rate_hz)
                if sound:
                    record['audio'] = sound.window(start_s, window_s)
                if track:
                    picked = dict(start_s=start_s, window_s=window_s, short_side=short_side)
                    found = track.frames(frames, **picked)
                    record['frames'] = [media.encode_jpeg(image) for image in found.images]
                    record |= {'frame_index': found.index, 'frame_times': found.times_s}
                records.append(record)
    if problems:
        raise BadMedia([*problems.items()])
    return records


def windows(duration_s: float, window_s: float) -> list[float]:
    """Where each window begins."""
    count = max(1, math.floor(duration_s / window_s + 0.5))
    return [max(0.0, min(k * window_s, duration_s - window_s)) for k in range(count)]


class Sound(NamedTuple):
    """All samples of a file `[N, 2]` at one rate, and how many bits keep them."""

    samples: np.ndarray
    rate_hz: int
    bits: int

    def window(self, start_s: float, window_s: float) -> bytes:
        """FLAC of a part; what is shorter is repeated."""
        length = round(window_s * self.rate_hz)
        start = max(0, min(round(start_s * self.rate_hz), len(self.samples) - length))
        part = self.samples[start : start + length]
        part = np.tile(part, (-(-length // len(part)), 1))[:length]
        return media.encode_flac(part, self.rate_hz, self.bits)


class Still(NamedTuple):
    """A picture in the way of a track that lasts as long as the sound."""

    path: Path
    duration_s = 0.0

    def frames(self, rule: str, *, short_side: int, **_: Any) -> media.Frames:
        """The picture, once, whatever the rule."""
        image = media.read_picture(self.path, short_side)
        return media.Frames(image[None], np.zeros(1, np.int32), np.zeros(1, np.float32))


def _sound(files: OwnFiles, clip: OwnClip, rate_hz: int) -> Sound:
    path = files.root / clip.audio
    check_whole(path)
    samples, rate = media.read_audio(path)
    channels, bits = media.audio_channels(path), media.audio_bit_depth(path)
    if rate != rate_hz:
        files.note(clip.clip_id, f'sound of {rate} Hz is resampled to {rate_hz} Hz')
        samples = librosa.resample(samples, orig_sr=rate, target_sr=rate_hz, axis=0)
    if channels != 2:
        how = 'doubled' if channels == 1 else f'mixed down from {channels}'
        files.note(clip.clip_id, f'the channels are made two: {how}')
    return Sound(samples, rate_hz, bits)


def _pictures(path: Path) -> contextlib.AbstractContextManager[media.PictureTrack | Still]:
    if path.suffix.lower() in media.PICTURES:
        return contextlib.nullcontext(Still(path))
    check_whole(path)
    return media.opened_pictures(path)


def _facts(clip: OwnClip, start_s: float | None, sample_rate_hz: int) -> dict:
    """A record without sound and pictures.

    Args:
      start_s: None of the only window.
    """
    return {
        'clip_id': clip.clip_id if start_s is None else f'{clip.clip_id}@{start_s:g}s',
        'segment': -1,
        'audio': b'',
        'sample_rate': sample_rate_hz,
        'frames': [],
        'frame_index': [],
        'frame_times': [],
        'label': clip.scene,
        'city': '',
        'location': clip.group,
    }


def _tell_lengths(
    files: OwnFiles, clip: OwnClip, lengths: Sequence[float], window_s: float
) -> None:
    shortest, longest = min(lengths, default=window_s), max(lengths, default=window_s)
    if shortest < SHORT * window_s:
        told = 'the sound is repeated, the pictures are picked over what there is'
        files.note(clip.clip_id, f'a file is shorter than {window_s:g} s: {told}')
    if len(windows(shortest, window_s)) > 1:
        told = f'it is cut into windows of {window_s:g} s, which are clips of their own'
        files.note(clip.clip_id, f'a file is longer: {told}')
    if longest - shortest > APART_S:
        told = f'sound and picture differ by more than {APART_S:g} s: the longer one is cut'
        files.note(clip.clip_id, told)


@contextlib.contextmanager
def _noted(problems: dict[str, str], name: str) -> Iterator[None]:
    """Takes note of what is wrong with a file."""
    try:
        yield
    except (ValueError, OSError) as error:
        problems.setdefault(name, str(error))
