"""Reads a media file as windows of one length, however long the file is.

Windows stand side by side, see media.num_pieces; where the last one would end after the file, it
ends with it. All times are by the file's clock, see `media.timeline`; the later end of sound and
picture decides how many windows there are. A window that has only one of them says why the other is
missing; one that has neither is left out. At most two windows are in memory.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from avsc_jax.data import media, stored_pictures
from avsc_jax.runtime.files import stamp

MAX_DURATION_S = 24 * 3600.0
LEAST_S = 0.1  # what is missing is told from here on (see media.Extent.told) if it costs pictures

Spans = list[tuple[float, float]]
Track = media.SoundTrack | media.PictureTrack


@dataclasses.dataclass(frozen=True)
class Wants:
    """The inputs that a system needs from a file.

    Attributes:
      frames: rule that picks its frames, a key of media.FRAME_RULES; None if it needs none.
      short_side: of these frames; see media.Pick.
      media: rule that picks the pictures that OpenL3 reads straight from a video file, or None.
      media_size: side of OpenL3's pictures in pixels.
      jpeg_quality: of the records whose pictures the frames shall equal; None leaves them raw.
    """

    audio: bool
    frames: str | None
    short_side: int | None
    media: str | None
    media_size: int = 224
    window_s: float = 10.0
    jpeg_quality: int | None = None

    def to_json(self) -> dict:
        """Returns all fields as plain data for `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping) -> 'Wants':
        """Rebuilds what `to_json` returned."""
        return cls(**stored)

    def picks(self) -> dict[str, media.Pick]:
        """Returns the picks by kind of frames: 'frame' and 'media'."""
        picks = {}
        if self.frames:
            stored = stored_pictures.resize_of({'jpeg_quality': self.jpeg_quality})
            picks['frame'] = media.Pick(self.frames, self.short_side, stored)
        if self.media:
            resize = partial(media.openl3_pictures, size=self.media_size)
            picks['media'] = media.Pick(self.media, None, resize)
        return picks


def read(file: Path, wants: Wants, *, max_duration_s: float = MAX_DURATION_S) -> Iterator[dict]:
    """Yields the windows of a file in order, if it does not change meanwhile.

    A window is a record of the inputs that are wanted, with its `start_s` and `end_s` in the file,
    `missing`: 'sound' or 'picture' -> why the window has none, and `partly`: the same of one that
    is missing in a part of the window only, see media.Extent.is_there. The first window tells of
    those that are left out. Of a file of several stills it has their number, `num_pictures`;
    `clipped`, if anything was, is the share of the file's samples up to here that were beyond full
    scale.

    Raises:
      ValueError: no wanted input of the file, or of a window, can be read, or the sound has samples
        that cannot be right, or the file lasts longer than `max_duration_s`, or it has changed.
    """
    before = stamp(file)
    yield from _read(file, wants, max_duration_s)
    if stamp(file) != before:
        raise ValueError(
            f'{file} has changed while it was read; give the command again when it is complete'
        )


def _read(file: Path, wants: Wants, max_duration_s: float) -> Iterator[dict]:
    """Yields the windows of a file; see `read`."""
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
    opened = {what: t for what, t in tracks.items() if not isinstance(t, ValueError)}
    every = _spans(opened.values(), wants.window_s)
    spans = [s for s in every if any(t.extent.is_there(*s) for t in opened.values())] or every[:1]
    give = {'sound': partial(_sounds, wants.window_s), 'picture': partial(_pictures, picks)}
    fields = {what: _fields(track, spans, give[what]) for what, track in tracks.items()}
    for start_s, length_s in spans:
        record = {'start_s': start_s, 'end_s': start_s + length_s, 'num_windows': len(spans)}
        record |= {'missing': {}, 'partly': {}}
        told = (start_s, length_s)
        if len(spans) < len(every) and start_s == spans[0][0]:
            told = (0.0, sum(every[-1]))
        for what, parts in fields.items():
            part = next(parts)
            if isinstance(part, ValueError):
                record['missing'][what] = str(part)
                continue
            record |= part
            noticed_s = wants.window_s if has_all_pictures(part, picks) else LEAST_S
            if why := tracks[what].extent.told(what, *told, window_s=noticed_s):
                record['partly'][what] = f'{file} has {why}'
        if len(record['missing']) == len(tracks):
            raise ValueError('; '.join(dict.fromkeys(record['missing'].values())))
        yield record


def _still(file: Path, audio: bool, picks: Mapping[str, media.Pick]) -> dict:
    """Returns the only window of a still picture."""
    no_sound = f'{file} is a still picture and has no sound'
    if not picks:
        raise ValueError(no_sound)
    (part,) = media.StillTrack(file).parts([(0.0, 0.0)], [*picks.values()])
    missing = {'sound': no_sound} if audio else {}
    record = {'start_s': 0.0, 'end_s': 0.0, 'num_windows': 1, 'missing': missing, 'partly': {}}
    several = {'num_pictures': count} if (count := media.num_pictures(file)) > 1 else {}
    return record | several | _named(picks, part)


def _opened(kind: type[Track], file: Path, max_duration_s: float) -> Track | ValueError:
    try:
        return kind(file, max_duration_s=max_duration_s)
    except media.TooLong as error:
        longer = 'predict takes longer ones with a larger --max_hours'
        raise ValueError(f'{error}; cut it; {longer}') from error
    except ValueError as error:
        return error


def _spans(tracks: Iterable[Track], window_s: float) -> Spans:
    """Returns start and length of each window in seconds."""
    ends = [track.extent.end_s for track in tracks]
    first_s, last_s = min(ends, default=0.0), max(ends, default=0.0)
    count_s = first_s if last_s - first_s < media.ROUNDING * window_s else last_s
    starts = media.window_starts(count_s, window_s, last_s)
    return [(start_s, min(window_s, last_s - start_s)) for start_s in starts]


def _fields(
    track: Track | ValueError,
    spans: Spans,
    give: Callable[[Track, Spans], Iterator[dict | ValueError]],
) -> Iterator[dict | ValueError]:
    """Yields a track's fields of each window, or the error because of which it has none."""
    if isinstance(track, ValueError):
        yield from itertools.repeat(track)
    try:
        yield from give(track, spans)
    except media.BadSamples:
        raise
    except ValueError as error:
        yield from itertools.repeat(error)


def _sounds(window_s: float, track: media.SoundTrack, spans: Spans) -> Iterator[dict | ValueError]:
    facts = {'sample_rate': track.rate_hz, 'channels': track.channels}
    for part in track.parts(spans, most_s=window_s):
        if isinstance(part, ValueError):
            yield part
        else:
            yield {'audio': part, **facts, **media.clipped_field(track.clipped)}


def _pictures(
    picks: Mapping[str, media.Pick], track: media.PictureTrack, spans: Spans
) -> Iterator[dict | ValueError]:
    for part in track.parts(spans, [*picks.values()]):
        yield part if isinstance(part, ValueError) else _named(picks, part)


def _named(picks: Iterable[str], parts: Iterable[media.Frames]) -> dict:
    """Returns the fields of a record that hold each pick's frames, their times and `filled`."""
    record = {}
    for name, frames in zip(picks, parts, strict=True):
        images = 'frames' if name == 'frame' else f'{name}_frames'
        record |= {images: list(frames.images), f'{name}_times': frames.times_s}
        record[f'{name}_filled'] = frames.filled
    return record


def has_all_pictures(record: Mapping, picks: Iterable[str]) -> bool:
    """Returns whether a record has all pictures that its rules ask for, but for a rounded last one.

    Args:
      picks: their names, see Wants.picks; it is true of those that the record does not have.
    """
    asked = [record[f'{name}_filled'] for name in picks if f'{name}_filled' in record]
    return all(filled[:-1].all() for filled in asked)
