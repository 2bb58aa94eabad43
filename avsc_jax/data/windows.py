"""A media file in, its windows out: records of parts of one length, however long the file is.

Windows stand side by side; a rest of half a window or more gives another one, which ends where the
file ends. The longer one of sound and picture tells how many there are. What one of them lacks is
told in the window, and the other one goes on. In memory are two windows at most.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from avsc_jax.data import media

MAX_DURATION_S = 24 * 3600.0
ROUNDING = 0.05  # of a window; sound and picture that differ by less are equally long

Spans = list[tuple[float, float]]
Track = media.SoundTrack | media.PictureTrack


@dataclasses.dataclass(frozen=True)
class Wants:
    """What a system takes of a file.

    Attributes:
      frames: the rule that picks its frames, a key of media.FRAME_RULES; None: it takes none.
      short_side: of these frames; see media.Pick.
      media: the rule that picks the pictures that OpenL3 takes straight from a video file.
      media_size: their side.
    """

    audio: bool
    frames: str | None
    short_side: int | None
    media: str | None
    media_size: int = 224
    window_s: float = 10.0

    def to_json(self) -> dict:
        """All of it, for `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping) -> 'Wants':
        """What `to_json` gave."""
        return cls(**stored)

    def picks(self) -> dict[str, media.Pick]:
        """How frames are picked, by the name that their times have in a record."""
        found = {}
        if self.frames:
            found['frame'] = media.Pick(self.frames, self.short_side)
        if self.media:
            resize = partial(media.openl3_pictures, size=self.media_size)
            found['media'] = media.Pick(self.media, None, resize)
        return found


def read(file: Path, wants: Wants, *, max_duration_s: float = MAX_DURATION_S) -> Iterator[dict]:
    """Yields the windows of a file in order.

    A window is a record of what is wanted, with `start_s` and `end_s` and, of 'sound' and
    'picture', what is `missing` and why. Times are those of the file. ValueError where nothing that
    is wanted can be read.
    """
    picks = wants.picks()
    if file.suffix.lower() in media.PICTURES:
        yield _still(file, wants.audio, picks)
        return
    media.check_whole(file)
    tracks: dict[str, Track | ValueError] = {}
    if wants.audio:
        tracks['sound'] = _opened(media.SoundTrack, file, max_duration_s)
    if picks:
        tracks['picture'] = _opened(media.PictureTrack, file, max_duration_s)
    spans = _spans(tracks.values(), wants.window_s)
    give = {'sound': partial(_sounds, window_s=wants.window_s), 'picture': partial(_films, picks)}
    fields = {what: _fields(file, what, track, spans, give[what]) for what, track in tracks.items()}
    for start_s, length_s in spans:
        record = {'start_s': start_s, 'end_s': start_s + length_s, 'missing': {}}
        for what, each in fields.items():
            found = next(each)
            if isinstance(found, ValueError):
                record['missing'][what] = str(found)
            else:
                record |= found
        if len(record['missing']) == len(tracks):
            raise ValueError('; '.join(dict.fromkeys(record['missing'].values())))
        yield record


def _still(file: Path, audio: bool, picks: Mapping[str, media.Pick]) -> dict:
    """The only window of a picture that does not move."""
    told = f'{file} is a still picture and has no sound'
    if not picks:
        raise ValueError(told)
    found = []
    for pick in picks.values():
        image = media.read_picture(file, pick.short_side)
        image = image if pick.resize is None else pick.resize(image)
        found.append(media.Frames(image[None], np.zeros(1, np.int32), np.zeros(1, np.float32)))
    missing = {'sound': told} if audio else {}
    return {'start_s': 0.0, 'end_s': 0.0, 'missing': missing, **_pictures(picks, found)}


def _opened(kind: type[Track], file: Path, max_duration_s: float) -> Track | ValueError:
    try:
        return kind(file, max_duration_s=max_duration_s)
    except ValueError as error:
        return error


def _spans(tracks: Iterable[Track | ValueError], window_s: float) -> Spans:
    """Start and length of each window."""
    lengths = [track.duration_s for track in tracks if not isinstance(track, ValueError)]
    shortest, longest = min(lengths, default=0.0), max(lengths, default=0.0)
    count_s = shortest if longest - shortest < ROUNDING * window_s else longest
    starts = media.window_starts(count_s, window_s, longest)
    return [(start_s, min(window_s, longest - start_s)) for start_s in starts]


def _fields(
    file: Path,
    what: str,
    track: Track | ValueError,
    spans: Spans,
    give: Callable[[Track, Spans], Iterator[dict | ValueError]],
) -> Iterator[dict | ValueError]:
    """What a track gives to each record; an error stands for each window that it concerns."""
    if isinstance(track, ValueError):
        yield from itertools.repeat(track)
    # a track has nothing of a window that it fills by less than half
    filled = [(start, length) for start, length in spans if track.duration_s - start >= length / 2]
    try:
        yield from give(track, filled)
    except ValueError as error:
        yield from itertools.repeat(error)
    yield from itertools.repeat(ValueError(f'{file} has no {what} after {track.duration_s:.1f} s'))


def _sounds(
    track: media.SoundTrack, spans: Spans, *, window_s: float
) -> Iterator[dict | ValueError]:
    """Up to the window's end or the sound's: decoders give a little more than headers say."""
    facts = {'sample_rate': track.rate_hz, 'channels': track.channels}
    for part in track.parts([(start_s, window_s) for start_s, _ in spans]):
        yield part if isinstance(part, ValueError) else {'audio': part, **facts}


def _films(
    picks: Mapping[str, media.Pick], track: media.PictureTrack, spans: Spans
) -> Iterator[dict | ValueError]:
    """Where the track ends before the window, of what there is."""
    there = [(start_s, min(length_s, track.duration_s - start_s)) for start_s, length_s in spans]
    for part in track.parts(there, [*picks.values()]):
        yield part if isinstance(part, ValueError) else _pictures(picks, part)


def _pictures(picks: Iterable[str], found: Iterable[media.Frames]) -> dict:
    record = {}
    for name, frames in zip(picks, found, strict=True):
        images = 'frames' if name == 'frame' else f'{name}_frames'
        record |= {images: list(frames.images), f'{name}_times': frames.times_s}
    return record
