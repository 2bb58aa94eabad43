"""One clip's two files in, its records out; what is wrong with them is told for each file."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from avsc_jax.data import media
from avsc_jax.data.builder.media_files import MediaFiles, Member
from avsc_jax.scenes import parse_clip_id

SAMPLE_RATE_HZ = 48000


class Clip(NamedTuple):
    """One item to build: the names of its two files, and its scene ('' where unknown)."""

    clip_id: str
    audio: str
    video: str
    scene: str


class BadMedia(ValueError):
    """Files that a clip cannot be made of: (path, reason) of each."""

    def __init__(self, problems: list[tuple[str, str]]):
        super().__init__('; '.join(reason for _, reason in problems))
        self.problems = problems


def read(
    files: MediaFiles, clip: Clip, *, frames: str, short_side: int, seconds: bool
) -> list[dict]:
    """Returns the clip's records: one, or one a second; raises BadMedia."""
    found, problems = [], []
    for name in (clip.audio, clip.video):
        try:
            source = files.source(name)
            media.check_whole(source)
            if name == clip.audio:
                found += [_sound(source), media.audio_bit_depth(source)]
            else:
                found += [media.read_frames(source, frames, short_side=short_side)]
        except (ValueError, OSError) as error:
            problems.append((name, str(error)))
    if problems:
        raise BadMedia(problems)
    samples, bits, pictures = found
    _check_lengths(clip, len(samples) / SAMPLE_RATE_HZ, pictures.times_s)
    name = parse_clip_id(clip.clip_id)
    shared = {
        'clip_id': clip.clip_id,
        'sample_rate': SAMPLE_RATE_HZ,
        'label': clip.scene or -1,
        'city': name.city if name else '',
        'location': name.location if name else '',
    }

    def record(segment: int, sound: np.ndarray, chosen: slice) -> dict:
        return shared | {
            'segment': segment,
            'audio': media.encode_flac(sound, SAMPLE_RATE_HZ, bits),
            'frames': [media.encode_jpeg(image) for image in pictures.images[chosen]],
            'frame_index': pictures.index[chosen],
            'frame_times': pictures.times_s[chosen],
        }

    if not seconds:
        return [record(-1, samples, slice(None))]
    pieces = (samples[k * SAMPLE_RATE_HZ :][:SAMPLE_RATE_HZ] for k in range(len(pictures.images)))
    return [record(k, piece, slice(k, k + 1)) for k, piece in enumerate(pieces)]


def _sound(source: Path | Member) -> np.ndarray:
    samples, rate = media.read_audio(source)
    if rate != SAMPLE_RATE_HZ:
        raise ValueError(f'{_name(source)} is sampled at {rate} Hz, not at {SAMPLE_RATE_HZ}')
    # what a file is filled with before its content arrives; no microphone gives it
    if not samples.any():
        raise ValueError(f'{_name(source)} is silent: every sample is zero')
    if np.array_equal(samples[:, 0], samples[:, 1]):
        raise ValueError(f'{_name(source)} is mono; a binaural recording has two channels')
    return samples


def _check_lengths(clip: Clip, sound_s: float, times_s: np.ndarray) -> None:
    """Sound and pictures of a clip are equally long, as far as the picked frames can tell."""
    if times_s[-1] >= sound_s:
        reason = f'lasts {sound_s:.1f} s, but {clip.video} shows a picture at {times_s[-1]:.1f} s'
        raise BadMedia([(clip.audio, f'{clip.audio} {reason}')])
    spacing_s = np.diff(times_s, prepend=-times_s[0]).max()  # the first picture is half of it late
    if sound_s - times_s[-1] > 0.25 + 1.5 * spacing_s:
        reason = f'ends soon after {times_s[-1]:.1f} s, but {clip.audio} lasts {sound_s:.1f} s'
        raise BadMedia([(clip.video, f'{clip.video} {reason}')])


def _name(source: Path | Member) -> str:
    return str(source) if isinstance(source, Path) else source.name
