"""Times of a film's frames, and which of them a rule picks: of files and of live sources alike."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from avsc_jax.data.media.frame_rules import num_asked, pick_frames, pick_shown
from avsc_jax.data.media.timeline import ROUNDING

ROUNDED_S, ROUNDED = 0.002, 0.05  # gaps of a constant rate differ from the median by no more


class Picked(NamedTuple):
    """The frames that a rule picks of a part.

    Attributes:
      places: their numbers `[T]` in showing order, perhaps repeated.
      filled: for each time that the rule asks for, whether it has a frame: T of them have one.
    """

    places: np.ndarray
    filled: np.ndarray


class Stamps(NamedTuple):
    """When the frames of a film, or of a stretch of it, are shown.

    Attributes:
      seconds: when each is first shown.
      end_s: when the last one ends.
      is_constant: they come at a constant rate; see `timing`.
    """

    seconds: np.ndarray
    end_s: float
    is_constant: bool

    def pick(self, rule: str, start_s: float, length_s: float) -> Picked:
        """Picks the frames of a part by a rule: by number if the rate is constant, else by time.

        The rule picks over the length, or up to the end of the frames. At its times before the
        first frame there is none; if that comes within ROUNDING of the part, it takes them.
        """
        asked = num_asked(rule, length_s)
        first_s, length_s = float(self.seconds[0]), min(length_s, self.end_s - start_s)
        late_s = max(0.0, first_s - start_s)
        if self.is_constant:
            first, end = np.searchsorted(self.seconds, (start_s, start_s + length_s))
            first = first if start_s > 0 else 0
            if first == end:  # the one before is still shown
                first, end = max(0, first - 1), max(1, first)
            rate = len(self.seconds) / (self.end_s - first_s)
            before = round(late_s * rate)  # frames that there would be
            places = pick_frames(rule, int(end - first) + before, duration_s=length_s)
            places = places + first - before
        else:
            places = pick_shown(rule, self.seconds, start_s=start_s, duration_s=length_s)
            first = 0
        filled = np.arange(asked) < len(places)
        if late_s > ROUNDING * length_s:
            begun = places >= first
            begun[-1] |= not begun.any()
            filled[: len(places)] = begun
            places = places[begun]
        return Picked(np.maximum(places, first), filled)


def seconds_of(shown: np.ndarray, tick: Fraction, zero: Fraction) -> np.ndarray:
    """Turns rising time stamps in ticks into seconds after the time stamp of second 0."""
    whole, rest = divmod(zero, tick)
    return (shown - int(whole)) * tick.numerator / tick.denominator - float(rest)


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
