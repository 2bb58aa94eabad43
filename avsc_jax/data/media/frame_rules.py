"""Rules that pick frames of a clip, by name."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from avsc_jax.data.media.timeline import num_pieces


def evenly_spaced(n: int, count: int) -> np.ndarray:
    """Returns int((k + 0.5) n / count): of n frames, the middle ones of `count` equal parts."""
    return (2 * np.arange(count) + 1) * n // (2 * count)


def _even(count: int) -> Callable[[int, float], np.ndarray]:
    return lambda n, duration_s: evenly_spaced(n, count)


def _nearest(times_s: np.ndarray, n: int, duration_s: float) -> np.ndarray:
    """Returns the frames nearest to the times, frame i being shown at i * duration / n."""
    return np.minimum(np.floor(times_s * n / duration_s + 0.5), n - 1).astype(int)


def _second_centres(n: int, duration_s: float) -> np.ndarray:
    # round, not int: ten seconds at 29.97 frames a second end at 9.98 s
    return _nearest(np.arange(num_pieces(duration_s, 1)) + 0.5, n, duration_s)


def _openl3(n: int, duration_s: float) -> np.ndarray:
    """Picks a frame for each of OpenL3's sound frames: 96 of a 10 s clip, 6 of a 1 s clip."""
    count = np.clip(round(10 * duration_s) - 4, 1, 96)
    return np.linspace(0, n - 1, int(count)).astype(int)


def _hou(n: int, duration_s: float) -> np.ndarray:
    """Picks 0.4, 1.4 ... 9.4 s of a clip; 0.05, 0.15 ... 0.95 s of a one-second piece."""
    k = np.arange(10)
    return _nearest(0.05 + 0.1 * k if duration_s < 2 else 0.4 + k, n, duration_s)


def _hitachi(n: int, duration_s: float) -> np.ndarray:
    """Picks 12 frames of a clip; 5 of a one-second piece."""
    return _even(5 if duration_s < 2 else 12)(n, duration_s)


class FrameRule(NamedTuple):
    """A rule that picks frames of a clip.

    Attributes:
      indices: number of frames, duration in seconds -> indices of the picked frames.
      words: the same rule for readers.
    """

    indices: Callable[[int, float], np.ndarray]
    words: str


_EVEN = 'frames int((k + 0.5) n / {}) of n, k = 0, 1 ...'
_NEAREST = 'the frames nearest to {} s, frame i of n being shown at i * duration / n'
# Source: Okazaki 2021 (clip12, evaluation5, both by length in hitachi; the papers are silent on the
# offset), Wang 2021 (second_centres), the official DCASE 2021 1B baseline (openl3), Hou 2021 (hou).
FRAME_RULES = {
    'clip12': FrameRule(_even(12), _EVEN.format(12)),
    'second_centres': FrameRule(_second_centres, _NEAREST.format('0.5, 1.5 ...')),
    'evaluation5': FrameRule(_even(5), _EVEN.format(5)),
    'openl3': FrameRule(
        _openl3,
        'the integer parts of numbers from 0 to n - 1, equally spaced and as many as '
        'round(10 duration) - 4, at least 1 and at most 96',
    ),
    'hou': FrameRule(
        _hou,
        _NEAREST.format('0.4, 1.4 ... 9.4, or in a clip of less than 2 s 0.05, 0.15 ... 0.95'),
    ),
    'hitachi': FrameRule(_hitachi, _EVEN.format('12, or of a clip of less than 2 s 5,')),
}


def pick_frames(rule: str, num_frames: int, *, duration_s: float) -> np.ndarray:
    """Returns the indices of the frames that a rule picks, in showing order, perhaps repeated.

    Args:
      rule: a key of FRAME_RULES.
      num_frames: frames in the clip, at least 1.
      duration_s: length of the picture track, over which the frames are evenly spaced.
    """
    if rule not in FRAME_RULES:
        raise ValueError(f'frame rule {rule!r} is not one of {", ".join(FRAME_RULES)}')
    if num_frames < 1 or not duration_s > 0:
        raise ValueError(f'cannot pick frames from {num_frames} frames in {duration_s} s')
    return FRAME_RULES[rule].indices(num_frames, duration_s)


def frame_facts(rule: str | None, **more: Any) -> dict:
    """Returns a rule's name and words as plain data; None stands for a record's own frames."""
    return {'rule': rule, 'picks': FRAME_RULES[rule].words if rule else None, **more}
