"""Where sound and windows lie in time."""

GAP_S = 0.1  # between time stamps of sound, which are rounded


class Clock:
    """Where sound belongs by its time stamps, which have gaps, and begin anew in joined files.

    Times are in seconds; what is `so_far` has been placed already.
    """

    def __init__(self):
        self._start_s: float | None = None

    def place(self, stamp_s: float | None, so_far_s: float) -> float:
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
