"""Resampling of sound."""

import numpy as np
import soxr


def resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resamples sound `[N]` or `[N, K]` to the wanted rate; both rates are in Hz.

    Equal to librosa.resample, which calls the same function, but loads for seconds.
    """
    if rate == wanted:
        return sound
    given = {'in_rate': rate, 'out_rate': wanted, 'quality': 'soxr_hq'}
    made = np.apply_along_axis(soxr.resample, 0, sound, **given)
    # it may give a sample too many, which can make a window too many
    length = max(1, len(sound) * wanted // rate)
    missing = max(0, length - len(made))
    made = np.pad(made[:length], [(0, missing)] + [(0, 0)] * (sound.ndim - 1))
    return made.astype(sound.dtype, copy=False)
