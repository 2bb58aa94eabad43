"""Sample rates of sound."""

import librosa
import numpy as np


def resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Sound `[N]` or `[N, K]` at the wanted rate in Hz."""
    if rate == wanted:
        return sound
    # librosa may give a sample more, and that a window more than the sound has
    length = max(1, len(sound) * wanted // rate)
    return librosa.resample(sound, orig_sr=rate, target_sr=wanted, axis=0)[:length]
