"""Rules that pick frames of a clip, by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from avsc_jax.data.media.timeline import num_pieces
from avsc_jax.runtime import nearest

ROUNDED_S = 1e-5  # time stamps that differ by less are equal

_VARIABLE = (
    'where a gap between frames differs from the median by more than 2 ms and 5 %: the frame on '
    'screen, the last one that begins at or before the time at which an even rate would show it'
)
_EVEN = 'frames int((k + 0.5) n / {}) of n, k = 0, 1 ...'


def evenly_spaced(n: int, count: int) -> np.ndarray:
    """Returns int((k + 0.5) n / count): of n frames, the middle ones of `count` equal parts."""
    return (2 * np.arange(count) + 1) * n // (2 * count)


def _even(count: int) -> 'FrameRule':
    return FrameRule(
        lambda n, duration_s: evenly_spaced(n, count),
        lambda duration_s: (np.arange(count) + 0.5) * duration_s / count,
        _EVEN.format(count),
    )


def _at(times_s: Callable[[float], np.ndarray], words: str) -> 'FrameRule':
    """Makes the rule that picks the frames nearest to times, frame i of n at i * duration / n."""

    def nearest(n: int, duration_s: float) -> np.ndarray:
        places = np.floor(times_s(duration_s) * n / duration_s + 0.5)
        return np.minimum(places, n - 1).astype(int)

    words = f'the frames nearest to {words} s, frame i of n being shown at i * duration / n'
    return FrameRule(nearest, times_s, words)


def _second_centres(duration_s: float) -> np.ndarray:
    # round, not int: ten seconds at 29.97 frames a second end at 9.98 s
    return np.arange(num_pieces(duration_s, 1)) + 0.5


def _openl3(duration_s: float, end: float) -> np.ndarray:
    """Spaces OpenL3's frames evenly up to `end`: 96 of a 10 s clip, 6 of a 1 s clip."""
    count = max(1, round(10 * duration_s) - 4)
    return np.linspace(0, end, count if duration_s > 10.5 else min(count, 96))


def _hou(duration_s: float) -> np.ndarray:
    """Returns 0.4, 1.4 ... 9.4 s of a clip; 0.05, 0.15 ... 0.95 s of a one-second piece."""
    times_s = 0.05 + 0.1 * np.arange(10) if duration_s < 2 else 0.4 + np.arange(10)
    return times_s[: max(1, np.count_nonzero(times_s < duration_s))]


def _hitachi(duration_s: float) -> 'FrameRule':
    """Returns the rule for 12 frames of a clip; for 5 of a one-second piece."""
    return _even(5 if duration_s < 2 else 12)


class FrameRule(NamedTuple):
    """A rule that picks frames of a clip.

    Attributes:
      indices: number of frames, duration in seconds -> indices of the picked frames, if the frames
        are evenly spaced.
      times_s: duration -> the times from the clip's start at which a frame is picked otherwise.
      words: the same rule for readers.
    """

    indices: Callable[[int, float], np.ndarray]
    times_s: Callable[[float], np.ndarray]
    words: str


# Source: Okazaki 2021 (clip12, evaluation5, both by length in hitachi; the papers are silent on the
# offset), Wang 2021 (second_centres), the official DCASE 2021 1B baseline (openl3), Hou 2021 (hou).
FRAME_RULES = {
    'clip12': _even(12),
    'second_centres': _at(_second_centres, '0.5, 1.5 ...'),
    'evaluation5': _even(5),
    'openl3': FrameRule(
        lambda n, duration_s: _openl3(duration_s, n - 1).astype(int),
        lambda duration_s: _openl3(duration_s, duration_s),
        'the integer parts of numbers from 0 to n - 1, equally spaced and as many as '
        'round(10 duration) - 4, at least 1, and at most 96 where the duration is 10.5 s or less',
    ),
    'hou': _at(_hou, '0.4, 1.4 ... 9.4, or in a clip of less than 2 s 0.05, 0.15 ... 0.95'),
    'hitachi': FrameRule(
        lambda n, duration_s: _hitachi(duration_s).indices(n, duration_s),
        lambda duration_s: _hitachi(duration_s).times_s(duration_s),
        _EVEN.format('12, or of a clip of less than 2 s 5,'),
    ),
}


def pick_frames(rule: str, num_frames: int, *, duration_s: float) -> np.ndarray:
    """Returns the indices of the frames that a rule picks, in showing order, perhaps repeated.

    Args:
      rule: a key of FRAME_RULES.
      num_frames: frames in the clip, at least 1.
      duration_s: length of the picture track, over which the frames are evenly spaced.
    """
    _check(rule, num_frames, duration_s)
    return FRAME_RULES[rule].indices(num_frames, duration_s)


def num_asked(rule: str, duration_s: float) -> int:
    """Returns how many frames a rule asks for of a part that has them all."""
    return len(FRAME_RULES[rule].times_s(duration_s))


def pick_shown(rule: str, stamps_s: np.ndarray, *, start_s: float, duration_s: float) -> np.ndarray:
    """Returns the indices of the frames on screen at a rule's times: the last stamps not after.

    A time before the first stamp has no frame, and the index -1.

    Args:
      rule: a key of FRAME_RULES.
      stamps_s: times from which frames are shown, rising, at least 1.
      start_s, duration_s: the part of the clip in which the rule picks.
    """
    _check(rule, len(stamps_s), duration_s)
    times_s = start_s + FRAME_RULES[rule].times_s(duration_s)
    return np.searchsorted(stamps_s, times_s + ROUNDED_S, 'right') - 1


def _check(rule: str, num_frames: int, duration_s: float) -> None:
    nearest.check('the frame rule', rule, FRAME_RULES)
    if num_frames < 1 or not duration_s > 0:
        raise ValueError(f'cannot pick frames from {num_frames} frames in {duration_s} s')


def frame_facts(rule: str | None, **more: Any) -> dict:
    """Returns a rule's name and words as plain data; None stands for a record's own frames."""
    words = FRAME_RULES[rule].words if rule else None
    return {'rule': rule, 'picks': words, 'variable_rate': rule and _VARIABLE, **more}
