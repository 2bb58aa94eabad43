"""Names of clips: how tables and lists write them, and which of two lists mean the same clip."""

import pathlib
import unicodedata
import warnings
from collections.abc import Callable, Iterable

from avsc_jax.data import media
from avsc_jax.runtime.files import printable, some
from avsc_jax.scenes import ClipName, parse_clip_id

ENDINGS = media.VIDEOS + media.SOUNDS + media.PICTURES


class Note(UserWarning):
    """A remark about tables that a command shows as a line of its own."""


def plain(name: str) -> str:
    """Writes a name in one way: '/' between folders, composed letters, nothing unprintable.

    Example:
      >>> plain('audio\\\\a.wav ')
      'audio/a.wav'
    """
    name = unicodedata.normalize('NFC', printable(name.strip()).replace('\\', '/'))
    return pathlib.PurePosixPath(name).as_posix() if name else ''


def without_ending(name: str) -> str:
    """Removes the ending of a media file: 'audio/a.wav' -> 'audio/a', but 'st.pauli' stays."""
    name = plain(name)
    path = pathlib.PurePosixPath(name)
    return path.with_suffix('').as_posix() if path.suffix.lower() in ENDINGS else name


def stem(name: str) -> str:
    """Removes folders and the ending of a media file: 'audio/a.wav' -> 'a'.

    Example:
      >>> stem('video/airport-lisbon-1175-44106.mp4')
      'airport-lisbon-1175-44106'
    """
    return without_ending(name).rpartition('/')[2]


def clip_name(name: str) -> ClipName | None:
    """Reads scene, city and location from the name of a TAU clip or of its files; else None.

    Example:
      >>> clip_name('audio/airport-lisbon-1175-44106.wav').city
      'lisbon'
    """
    return parse_clip_id(name) or parse_clip_id(stem(name))


def key(name: str) -> str:
    """Returns what a clip is called everywhere: a TAU clip's stem, any other clip's whole name.

    Example:
      >>> key('audio/airport-lisbon-1175-44106.wav'), key('bus/a.wav')
      ('airport-lisbon-1175-44106', 'bus/a.wav')
    """
    named = clip_name(name)
    return '-'.join(named) if named else plain(name)


LEVELS: tuple[tuple[Callable[[str], str], str], ...] = (
    (plain, ''),
    (without_ending, 'without the endings of files'),
    (stem, 'without folders and endings of files'),
)


def matched(ours: Iterable[str], theirs: Iterable[str]) -> dict[str, str]:
    """Pairs names of two lists that mean the same clip; a Note says if they are not written alike.

    Names are compared as they are. Where none is in both lists, they are compared without the
    endings of media files, and then without folders too.

    Args:
      ours, theirs: names; repetitions count once.

    Returns:
      Those of our names that are among theirs -> their name.

    Raises:
      ValueError: names are only alike in a form that several names of one list share.

    Example:
      >>> matched(['bus/a.wav', 'tram/a.wav', 'b.wav'], ['tram/a.wav', 'b.wav'])
      {'tram/a.wav': 'tram/a.wav', 'b.wav': 'b.wav'}
    """
    ours, theirs = dict.fromkeys(ours), dict.fromkeys(theirs)
    for form, words in LEVELS:
        mine, other = ([(form(name), name) for name in names] for names in (ours, theirs))
        their_name = dict(other)
        if their_name.keys().isdisjoint(key for key, _ in mine):
            continue
        for pairs in (mine, other):
            if len(shared := _shared(pairs)):
                raise ValueError(
                    f'names of clips cannot be told apart {words or "as they are written"}: '
                    f'{some(shared)}; give names with the same folders and endings in all files'
                )
        pairs_of = {name: their_name[key] for key, name in mine if key in their_name}
        if words:
            one, same = next(iter(pairs_of.items()))
            warnings.warn(f'clips are joined by their names {words}: {one} is {same}', Note, 3)
        return pairs_of
    return {}


def _shared(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Lists the names whose form another name has, too."""
    first: dict[str, str] = {}
    shared: dict[str, None] = {}
    for key, name in pairs:
        if (before := first.setdefault(key, name)) != name:
            shared |= dict.fromkeys((before, name))
    return list(shared)
