"""Positions of sound and of windows in a file."""

GAP_S = 0.1  # time stamps of sound are rounded: a smaller difference is no gap


class Clock:
    """Turns time stamps of sound, which may have gaps or restart, into positions in the track."""

    def __init__(self):
        self._start_s: float | None = None

    def place(self, stamp_s: float | None, so_far_s: float) -> float:
        """Returns the position in seconds of the sound that a time stamp belongs to.

        Args:
          stamp_s: time stamp; None if there is none. It restarts in files that were joined.
          so_far_s: end of the sound that was placed before.
        """
        if stamp_s is None:
            return so_far_s
        if self._start_s is None or stamp_s - self._start_s < so_far_s - GAP_S:
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
    return [max(0.0, min(k * window_s, end_s - window_s)) for k in range(count)]
