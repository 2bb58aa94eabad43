"""Times of a film's frames, and which of them a rule picks by these times."""

from fractions import Fraction

import numpy as np

from avsc_jax.data.media.frame_rules import pick_frames, pick_shown
from avsc_jax.data.media.timeline import ROUNDING

ROUNDED_S, ROUNDED = 0.002, 0.05  # gaps of a constant rate differ from the median by no more


def seconds_of(shown: np.ndarray, tick: Fraction, zero: Fraction) -> np.ndarray:
    """Turns rising time stamps in ticks into seconds after the time stamp of second 0."""
    whole, rest = divmod(zero, tick)
    return (shown - int(whole)) * tick.numerator / tick.denominator - float(rest)


def begun(places: np.ndarray, first: int, is_late: bool) -> np.ndarray:
    """Leaves out places before the first frame, which takes them if the track is not late."""
    kept = places[places >= first] if is_late else np.maximum(places, first)
    return kept if len(kept) else np.array([first])


def pick_timed(rule: str, stamps_s: np.ndarray, start_s: float, length_s: float) -> np.ndarray:
    """Returns the indices of the frames that a rule picks of a part, by number or by time.

    Args:
      stamps_s: when each frame is first shown; one of them may be before the part.
      start_s, length_s: the part.
    """
    first = np.searchsorted(stamps_s, start_s)
    is_late = stamps_s[0] - start_s > ROUNDING * length_s
    if is_late or not timing(stamps_s, 0.0, 0.0)[0]:
        places = pick_shown(rule, stamps_s, start_s=start_s, duration_s=length_s)
        return begun(places, 0, is_late)
    first = first if first < len(stamps_s) else 0
    return first + pick_frames(rule, len(stamps_s) - first, duration_s=length_s)


def timing(seconds: np.ndarray, last_s: float, usual_s: float) -> tuple[bool, float]:
    """Returns whether frames come at a constant rate, and how long the track is.

    A rate is constant where every gap lies within max(2 ms, 5 %) of the median. The last frame of
    such a track is shown for as long as the others, unless the container says over twice as long.

    Args:
      seconds: when each frame is first shown.
      last_s: for how long the last one is shown by the container; 0 if that is unknown.
      usual_s: for how long a frame is shown by the container's rate.
    """
    gaps, last = np.diff(seconds), len(seconds) - 1
    if not last:
        return True, last_s or usual_s
    usual_s = float(np.median(gaps))
    is_even = (np.abs(gaps - usual_s) <= max(ROUNDED_S, ROUNDED * usual_s)).all()
    span_s = float(seconds[-1] - seconds[0])
    if is_even and last_s <= 2 * usual_s:
        return True, span_s * len(seconds) / last
    return False, span_s + (last_s or usual_s)
