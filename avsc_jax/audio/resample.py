"""Resampling of sound."""

import librosa
import numpy as np


def resampled(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resamples sound `[N]` or `[N, K]` to the wanted rate; both rates are in Hz."""
    if rate == wanted:
        return sound
    # librosa may give a sample too many, which can make a window too many
    length = max(1, len(sound) * wanted // rate)
    return librosa.resample(sound, orig_sr=rate, target_sr=wanted, axis=0)[:length]
