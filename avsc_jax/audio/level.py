"""The level of sound: its root mean square, and a gain that lifts what is quiet."""

import numpy as np

QUIET_RMS = 0.01  # -40 dB; measured: below it YAMNet hears more and more silence in recordings
LIFTED_RMS = 0.05  # -26 dB, where its answers change no more with the level
FLOOR_RMS = 1e-4  # -80 dB: below it is the noise of a recorder, or nothing


def rms(sound: np.ndarray) -> float:
    """Returns the root mean square of samples in [-1, 1]; 0 of no samples."""
    return float(np.sqrt(np.square(sound, dtype=np.float64).mean())) if sound.size else 0.0


def lifted(sound: np.ndarray) -> np.ndarray:
    """Lifts quiet sound to LIFTED_RMS; what is louder, or below FLOOR_RMS, stays as it is.

    Samples may pass full scale then, which no front end minds.
    """
    level = rms(sound)
    if not FLOOR_RMS <= level < LIFTED_RMS:
        return sound
    return (sound * (LIFTED_RMS / level)).astype(sound.dtype)
