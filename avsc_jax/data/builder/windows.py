"""One file of one's own in, its records out: as many windows of one length as it lasts.

Windows stand side by side; a rest of half a window or more gives another one, which ends where the
file ends. A file that is shorter than a window gives one: its sound is repeated, its pictures are
picked over what there is. So all records have equally much sound and equally many pictures.
"""

import collections
import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np

from avsc_jax.data import media
from avsc_jax.data.builder.clip_reader import BadMedia

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
    sound = pictures = None
    with _noted(problems, clip.audio):
        if clip.audio:
            sound = _sound(files, clip, sample_rate_hz)
    with _noted(problems, clip.video):
        if clip.video:
            pictures = _pictures(files.root / clip.video)
    if problems:
        raise BadMedia([*problems.items()])
    lengths = [track.duration_s for track in (sound, pictures) if track and track.duration_s]
    _tell_lengths(files, clip, lengths, window_s)
    shortest = min(lengths, default=window_s)
    starts = media.window_starts(shortest, window_s, shortest)
    records = [
        _facts(clip, start_s if len(starts) > 1 else None, sample_rate_hz) for start_s in starts
    ]
    spans = [(start_s, window_s) for start_s in starts]
    with _noted(problems, clip.audio):
        if sound:
            bits = media.audio_bit_depth(files.root / clip.audio)
            for record, samples in zip(records, _whole(sound.parts(spans)), strict=True):
                samples = _filled(samples, sound.rate_hz, sample_rate_hz, window_s)
                record['audio'] = media.encode_flac(samples, sample_rate_hz, bits)
    with _noted(problems, clip.video):
        if pictures:
            parts = pictures.parts(spans, [media.Pick(frames, short_side)])
            for record, (found,) in zip(records, _whole(parts), strict=True):
                record['frames'] = [media.encode_jpeg(image) for image in found.images]
                record |= {'frame_index': found.index, 'frame_times': found.times_s}
    if problems:
        raise BadMedia([*problems.items()])
    return records


class Still(NamedTuple):
    """A picture in the way of a track that lasts as long as the sound."""

    path: Path
    duration_s = 0.0

    def parts(
        self, spans: Sequence[tuple[float, float]], picks: Sequence[media.Pick]
    ) -> Iterator[list[media.Frames]]:
        """The picture, once for each part, whatever the rule."""
        images = [media.read_picture(self.path, pick.short_side) for pick in picks]
        found = [
            media.Frames(image[None], np.zeros(1, np.int32), np.zeros(1, np.float32))
            for image in images
        ]
        return itertools.repeat(found, len(spans))


def _sound(files: OwnFiles, clip: OwnClip, rate_hz: int) -> media.SoundTrack:
    path = files.root / clip.audio
    media.check_whole(path)
    track = media.SoundTrack(path)
    if track.rate_hz != rate_hz:
        files.note(clip.clip_id, f'sound of {track.rate_hz} Hz is resampled to {rate_hz} Hz')
    if track.channels != 2:
        how = 'doubled' if track.channels == 1 else f'mixed down from {track.channels}'
        files.note(clip.clip_id, f'the channels are made two: {how}')
    return track


def _pictures(path: Path) -> media.PictureTrack | Still:
    if path.suffix.lower() in media.PICTURES:
        return Still(path)
    media.check_whole(path)
    return media.PictureTrack(path)


def _whole(parts: Iterable) -> Iterator:
    for part in parts:
        if isinstance(part, ValueError):
            raise part
        yield part


def _filled(samples: np.ndarray, from_hz: int, to_hz: int, window_s: float) -> np.ndarray:
    """A window at another rate, as long as all are: what is shorter is repeated."""
    if from_hz != to_hz:
        samples = librosa.resample(samples, orig_sr=from_hz, target_sr=to_hz, axis=0)
    length = round(window_s * to_hz)
    return np.tile(samples, (-(-length // len(samples)), 1))[:length]


def _facts(clip: OwnClip, start_s: float | None, sample_rate_hz: int) -> dict:
    """A record without sound and pictures.

    Args:
      start_s: None of the only window.
    """
    return {
        'clip_id': clip.clip_id if start_s is None else f'{clip.clip_id}@{round(start_s, 2):g}s',
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
    if len(media.window_starts(shortest, window_s, shortest)) > 1:
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
