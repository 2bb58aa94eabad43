"""Reads a clip's files and returns its records; an error names the file.

`read` is for a binaural recording and its film, which must be as they were published.
`read_windows` is for any sound, film or picture, and cuts it into windows of one length.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import librosa
import numpy as np

from avsc_jax.data import media
from avsc_jax.data.builder.media_files import FolderFiles, MediaFiles, Member
from avsc_jax.data.media.source import name_of
from avsc_jax.scenes import parse_clip_id

SAMPLE_RATE_HZ = 48000  # that `read` demands
MAX_DIFFERENCE_S = 1.0  # in length of sound and picture without a note


class Clip(NamedTuple):
    """A labelled clip and the names of its files.

    Attributes:
      audio: name of the sound file; '' if it has none.
      video: name of the film or picture; '' if it has none.
      scene: class; '' if unknown. Where clips may have several, the tuple of those that are true.
      group: place or recording that it belongs to; '' if its id names the place.
      split: split that its list names, or ''.
    """

    clip_id: str
    audio: str
    video: str
    scene: str | tuple[str, ...]
    group: str = ''
    split: str = ''

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that are true of it: one or none, or several."""
        return self.scene if isinstance(self.scene, tuple) else (self.scene,) * bool(self.scene)


class BadMedia(ValueError):
    """A clip's files are broken or missing; `problems` has (path, reason) of each."""

    def __init__(self, problems: Iterable[tuple[str, str]]):
        self.problems = [*problems]
        super().__init__('; '.join(reason for _, reason in self.problems))


def read(
    files: MediaFiles, clip: Clip, *, frames: str, short_side: int, seconds: bool
) -> list[dict]:
    """Returns the clip's only record, or with `seconds` one per second; raises BadMedia."""
    problems: dict[str, str] = {}
    with _noted(problems, clip.audio):
        source = files.source(clip.audio)
        media.check_whole(source)
        sound, bits = media.read_sound(source), media.audio_bit_depth(source)
        samples = _binaural(source, sound)
        _note_clipping(files, clip, sound)
    with _noted(problems, clip.video):
        source = files.source(clip.video)
        media.check_whole(source)
        pictures = media.read_frames(source, frames, short_side=short_side)
    if problems:
        raise BadMedia(problems.items())
    _check_lengths(clip, len(samples) / SAMPLE_RATE_HZ, pictures)
    name = parse_clip_id(clip.clip_id)
    facts = {
        'clip_id': clip.clip_id,
        'sample_rate': SAMPLE_RATE_HZ,
        'label': _label(clip),
        'city': name.city if name else '',
        'location': name.location if name else '',
    }
    parts = [(-1, samples, slice(None))]
    if seconds:
        starts = range(0, SAMPLE_RATE_HZ * len(pictures.images), SAMPLE_RATE_HZ)
        pieces = (samples[start:][:SAMPLE_RATE_HZ] for start in starts)
        parts = [(k, piece, slice(k, k + 1)) for k, piece in enumerate(pieces)]
    return [
        facts
        | {'segment': segment, 'audio': media.encode_flac(sound, SAMPLE_RATE_HZ, bits)}
        | _encoded(pictures, chosen)
        for segment, sound, chosen in parts
    ]


def read_windows(
    files: FolderFiles,
    clip: Clip,
    *,
    frames: str,
    short_side: int,
    window_s: float,
    sample_rate_hz: int,
) -> list[dict]:
    """Returns the clip's records, one per window; raises BadMedia.

    Windows stand side by side, see media.num_pieces, over the seconds that have both sound and
    pictures, by each file's clock; where the last one would end after them, it ends with them. One
    with a gap of more than half its length, see media.Extent.is_there, is left out. Seconds shorter
    than a window give one of their own length: nothing is repeated, and rules pick fewer pictures.
    """
    problems: dict[str, str] = {}
    sound = pictures = None
    with _noted(problems, clip.audio):
        if clip.audio:
            sound = _sound(files, clip, sample_rate_hz)
    with _noted(problems, clip.video):
        if clip.video:
            pictures = _pictures(files, clip)
    if problems:
        raise BadMedia(problems.items())
    tracks = {'sound': sound, 'picture': pictures}
    extents = {what: track.extent for what, track in tracks.items() if track}
    with _noted(problems, clip.audio or clip.video):
        spans = _spans(files, clip, extents, window_s)
    if problems:
        raise BadMedia(problems.items())
    several = len(spans) > 1
    records = [_facts(clip, start_s if several else None, sample_rate_hz) for start_s, _ in spans]
    with _noted(problems, clip.audio):
        if sound:
            bits = media.audio_bit_depth(files.root / clip.audio)
            for record, span, samples in zip(
                records, spans, _checked(sound.parts(spans)), strict=True
            ):
                samples = _resampled(samples, sound.rate_hz, sample_rate_hz, span[1])
                record['audio'] = media.encode_flac(samples, sample_rate_hz, bits)
            _note_clipping(files, clip, sound)
    with _noted(problems, clip.video):
        if pictures:
            parts = pictures.parts(spans, [media.Pick(frames, short_side)])
            for record, (picked,) in zip(records, _checked(parts), strict=True):
                record |= _encoded(picked)
    if problems:
        raise BadMedia(problems.items())
    return records


def _spans(
    files: FolderFiles, clip: Clip, extents: Mapping[str, media.Extent], window_s: float
) -> list[tuple[float, float]]:
    """Returns start and length of each window of a clip, and notes what is left out of it."""
    start_s = max(extent.start_s for extent in extents.values())
    end_s = min(extent.end_s for extent in extents.values())
    if start_s <= media.ROUNDING * window_s:
        start_s = 0.0
    if end_s == float('inf'):  # of still pictures alone
        return [(0.0, window_s)]
    if end_s <= start_s:
        raise ValueError(
            f'{clip.audio} has no second in common with the pictures of {clip.video}: the later '
            f'one begins at {start_s:.1f} s, the other one ends at {end_s:.1f} s'
        )
    starts = media.window_starts(end_s - start_s, window_s, end_s - start_s)
    every = [(start_s + at_s, min(window_s, end_s - start_s - at_s)) for at_s in starts]
    spans = [s for s in every if all(extent.is_there(*s) for extent in extents.values())]
    told = [extent.told(what, 0.0, end_s, window_s=window_s) for what, extent in extents.items()]
    for why in filter(None, told):
        files.note(clip.clip_id, f'{why}: a window with less than half of it is left out')
    if not spans:
        raise ValueError(f'{clip.clip_id} has {" and ".join(filter(None, told))}')
    _note_lengths(files, clip, extents, window_s, len(every))
    return spans


def _encoded(pictures: media.Frames, chosen: slice = slice(None)) -> dict[str, Any]:
    """Returns the fields of a record that hold its pictures, all or some of them."""
    return {
        'frames': [media.encode_jpeg(image) for image in pictures.images[chosen]],
        'frame_index': pictures.index[chosen],
        'frame_times': pictures.times_s[chosen],
    }


def _binaural(source: Path | Member, sound: media.Sound) -> np.ndarray:
    samples, rate = sound.samples, sound.rate_hz
    if rate != SAMPLE_RATE_HZ:
        raise ValueError(f'{name_of(source)} is sampled at {rate} Hz, not at {SAMPLE_RATE_HZ}')
    # a file that was never filled has only zeros; a microphone never gives that
    if not samples.any():
        raise ValueError(f'{name_of(source)} is silent: every sample is zero')
    if np.array_equal(samples[:, 0], samples[:, 1]):
        raise ValueError(f'{name_of(source)} is mono; a binaural recording has two channels')
    return samples


def _check_lengths(clip: Clip, sound_s: float, pictures: media.Frames) -> None:
    """Raises BadMedia if the picked frames show that the film is late, or not as long as sound."""
    times_s = pictures.times_s
    if not pictures.filled.all():
        reason = f'has no picture before {times_s[0]:.1f} s; a clip must be whole'
        raise BadMedia([(clip.video, f'{clip.video} {reason}')])
    if times_s[-1] >= sound_s:
        reason = f'lasts {sound_s:.1f} s, but {clip.video} shows a picture at {times_s[-1]:.1f} s'
        raise BadMedia([(clip.audio, f'{clip.audio} {reason}')])
    spacing_s = np.diff(times_s, prepend=-times_s[0]).max()  # the first picture is half of it late
    if sound_s - times_s[-1] > 0.25 + 1.5 * spacing_s:
        reason = f'ends soon after {times_s[-1]:.1f} s, but {clip.audio} lasts {sound_s:.1f} s'
        raise BadMedia([(clip.video, f'{clip.video} {reason}')])


def _sound(files: FolderFiles, clip: Clip, rate_hz: int) -> media.SoundTrack:
    path = files.root / clip.audio
    media.check_whole(path)
    track = media.SoundTrack(path)
    if track.rate_hz != rate_hz:
        files.note(clip.clip_id, f'sound of {track.rate_hz} Hz is resampled to {rate_hz} Hz')
    if track.channels != 2:
        how = 'doubled' if track.channels == 1 else f'mixed down from {track.channels}'
        files.note(clip.clip_id, f'the channels are made two: {how}')
    return track


def _pictures(files: FolderFiles, clip: Clip) -> media.PictureTrack | media.StillTrack:
    path = files.root / clip.video
    if path.suffix.lower() in media.PICTURES:
        if (count := media.num_pictures(path)) > 1:
            files.note(clip.clip_id, media.first_note(count))
        return media.StillTrack(path)
    media.check_whole(path)
    return media.PictureTrack(path)


def _checked(parts: Iterable) -> Iterator:
    """Yields the parts of a track; raises the first one that is an error."""
    for part in parts:
        if isinstance(part, ValueError):
            raise part
        yield part


def _resampled(samples: np.ndarray, from_hz: int, to_hz: int, length_s: float) -> np.ndarray:
    """Resamples a window to its length; headers claim a little more than decoders give."""
    if from_hz != to_hz:
        samples = librosa.resample(samples, orig_sr=from_hz, target_sr=to_hz, axis=0)
    length = round(length_s * to_hz)
    return np.pad(samples[:length], ((0, max(0, length - len(samples))), (0, 0)))


def _facts(clip: Clip, start_s: float | None, sample_rate_hz: int) -> dict:
    """Returns a record without sound and pictures.

    Args:
      start_s: where its window begins; None for the only window.
    """
    return {
        'clip_id': clip.clip_id if start_s is None else f'{clip.clip_id}@{round(start_s, 2):g}s',
        'segment': -1,
        'audio': b'',
        'sample_rate': sample_rate_hz,
        'frames': [],
        'frame_index': [],
        'frame_times': [],
        'label': _label(clip),
        'city': '',
        'location': clip.group,
    }


def _label(clip: Clip) -> str | int | list[str]:
    """Returns the label of a clip's records, as TFDS encodes it."""
    return [*clip.scene] if isinstance(clip.scene, tuple) else clip.scene or -1


def _note_clipping(
    files: MediaFiles | FolderFiles, clip: Clip, sound: media.Sound | media.SoundTrack
) -> None:
    if sound.clipped:
        files.note(clip.clip_id, media.clipping_note(sound.clipped))


def _note_lengths(
    files: FolderFiles,
    clip: Clip,
    extents: Mapping[str, media.Extent],
    window_s: float,
    num_windows: int,
) -> None:
    lengths = [e.end_s - e.start_s for e in extents.values() if e.end_s < float('inf')]
    if min(lengths) < (1 - media.ROUNDING) * window_s:
        done = 'its sound and pictures keep their own length'
        files.note(clip.clip_id, f'a file is shorter than {window_s:g} s: {done}')
    if num_windows > 1:
        done = f'it is cut into windows of {window_s:g} s, which are clips of their own'
        files.note(clip.clip_id, f'a file is longer: {done}')
    if max(lengths) - min(lengths) > MAX_DIFFERENCE_S:
        done = f'sound and picture differ by over {MAX_DIFFERENCE_S:g} s: the longer one is cut'
        files.note(clip.clip_id, done)


@contextlib.contextmanager
def _noted(problems: dict[str, str], name: str) -> Iterator[None]:
    """Records an error of the block as the problem of a file, unless it has one."""
    try:
        yield
    except media.TooLong as error:
        problems.setdefault(name, f'{error}; cut it into shorter files')
    except (ValueError, OSError) as error:
        problems.setdefault(name, str(error))
