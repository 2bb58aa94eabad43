"""The clock of a file, by which its sound, its pictures and its windows stand.

Second 0 of a file is its container's start: the earliest first time stamp of sound and pictures. A
stretch in which a track has no data is missing: nothing is moved into it, and nothing repeated.
"""

import dataclasses
from fractions import Fraction

import av
from av.stream import Disposition

GAP_S = 0.1  # time stamps of sound are rounded: a smaller difference is no gap
ROUNDING = 0.05  # share of a window; a shorter stretch is missing by rounding alone, and not told

Stretch = tuple[float, float]  # from second, to second


class NoData(ValueError):
    """The error of a part of a file in which a track has no data; the file is not damaged."""


@dataclasses.dataclass(frozen=True)
class Extent:
    """The seconds of a file in which one of its tracks has data.

    Attributes:
      start_s, end_s: begin of its first and end of its last data, by the file's clock.
      gaps: stretches between them without data.
    """

    start_s: float
    end_s: float
    gaps: tuple[Stretch, ...] = ()

    def is_there(self, start_s: float, length_s: float) -> bool:
        """Returns whether a track counts as there in a window: it has data for half of it or more.

        Where it does not, the window has no sound, or no picture. Where it does, its data stand at
        their own seconds: sound is silent in missing stretches of the window, and where it ends
        more than ROUNDING before it; pictures are those that are shown, and none before the first
        one and after the last one.
        """
        stretches = self.missing(start_s, length_s)
        end_s = start_s + length_s
        missing_s = sum(min(to_s, end_s) - max(from_s, start_s) for from_s, to_s in stretches)
        return length_s - missing_s >= length_s / 2 - 1e-6

    def missing(self, start_s: float, length_s: float) -> list[Stretch]:
        """Returns the stretches without data that reach into a window, as long as they are."""
        stretches = [(0.0, self.start_s), *self.gaps, (self.end_s, float('inf'))]
        end_s = start_s + length_s
        return [(a, b) for a, b in stretches if a < b and a < end_s and b > start_s]

    def told(self, what: str, start_s: float, length_s: float, *, window_s: float = 0.0) -> str:
        """Says what is missing, such as 'no sound from 0.0 to 20.0 s'; '' where ROUNDING is more.

        Args:
          what: 'sound' or 'picture'.
          start_s, length_s: the seconds that are told of.
          window_s: the window whose share is ROUNDING; default: these seconds.
        """
        end_s, least_s = start_s + length_s, ROUNDING * (window_s or length_s)
        stretches = self.missing(start_s, length_s)
        noticed = [(a, b) for a, b in stretches if min(b, end_s) - max(a, start_s) > least_s]
        words = [
            f'after {a:.1f} s' if b == float('inf') else f'from {a:.1f} to {b:.1f} s'
            for a, b in noticed
        ]
        return f'no {what} {" and ".join(words)}' if words else ''


def tick_of(stream: av.stream.Stream) -> Fraction:
    """Returns the length of a stream's tick in seconds; PyAV 19 has a type of its own for it."""
    return Fraction(stream.time_base.numerator, stream.time_base.denominator)


def start_of(container: av.container.InputContainer) -> Fraction:
    """Returns the time stamp in seconds at which a file's clock begins, exactly."""
    streams = [
        stream
        for stream in (*container.streams.audio, *container.streams.video)
        if stream.start_time is not None and not stream.disposition & Disposition.attached_pic
    ]
    return min((s.start_time * tick_of(s) for s in streams), default=Fraction(0))


class Clock:
    """Turns time stamps of sound, which may have gaps or restart, into positions in the file.

    Args:
      start_s: time stamp of the file's second 0.
    """

    def __init__(self, start_s: float = 0.0):
        self._start_s = start_s

    def place(self, stamp_s: float | None, so_far_s: float) -> float:
        """Returns the position in seconds of the sound that a time stamp belongs to.

        Args:
          stamp_s: time stamp; None if there is none. It restarts in files that were joined.
          so_far_s: end of the sound that was placed before.
        """
        if stamp_s is None:
            return so_far_s
        if stamp_s - self._start_s < so_far_s - GAP_S:
            self._start_s = stamp_s - so_far_s
        return stamp_s - self._start_s


def num_pieces(total: float, length: float) -> int:
    """Returns how many pieces of a length something is cut into: the nearest number, at least one.

    Exactly half of a piece counts where that makes the number even.
    """
    return max(1, round(total / length))


def window_starts(count_s: float, window_s: float, end_s: float) -> list[float]:
    """Returns where windows begin that stand side by side, the last one ending by `end_s`.

    Args:
      count_s: the seconds that are cut into windows: the nearest number of them, and half a window
        always counts, for the last one overlaps the one before and needs no zeros.
    """
    count = max(1, int(count_s / window_s + 0.5))
    starts = (max(0.0, min(k * window_s, end_s - window_s)) for k in range(count))
    return [round(start_s, 6) for start_s in starts]  # of one that ends at 40 s: 30, not 29.99...
