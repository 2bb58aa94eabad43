"""Checks decoded samples: what no sound can hold is an error, peaks beyond full scale are clipped.

Training, predict and live sources all read sound through it, so that they agree.
"""

import av
import numpy as np

MOST_BEYOND = 0.01  # share of a sound's samples; with more it cannot be floats within 1


class BadSamples(ValueError):
    """The samples of a file are wrong, so that it has no answer, whatever else it holds."""


class FullScale:
    """Checks the samples of one sound block by block, and clips them to [-1, 1].

    Args:
      name: of the sound, for errors.
      num_samples: per channel, by the file's header; more may come.
    """

    def __init__(self, name: str, rate_hz: int, num_samples: float):
        self._name, self._rate_hz, self._expected = name, rate_hz, num_samples
        self._num_checked = self._num_beyond = self._num_clipped = self._num_kept = 0
        self._worst = 0.0

    @property
    def clipped(self) -> float:
        """The share of the sound's samples that were clipped so far."""
        return float(self._num_clipped / max(1, 2 * self._expected, self._num_kept))

    def check(self, samples: np.ndarray) -> None:
        """Checks decoded samples [N, K], before their channels are mixed.

        Raises:
          BadSamples: one is not finite, or more than MOST_BEYOND of the sound is beyond 1.
        """
        first_s = self._num_checked / samples.shape[1] / self._rate_hz
        worst = check_finite(self._name, samples, self._rate_hz, first_s=first_s)
        self._num_checked += samples.size
        if worst > 1:
            self._num_beyond += np.count_nonzero(np.abs(samples) > 1)
            self._worst = max(self._worst, worst)
            self._judge(max(samples.shape[1] * self._expected, self._num_checked))

    def check_frame(self, frame: av.AudioFrame) -> None:
        """Checks the samples of a decoded frame if they are floats; see `check`."""
        if frame.format.name.startswith(('flt', 'dbl')):
            with np.errstate(over='ignore'):  # beyond float32 is infinite, as libsndfile reads it
                samples = frame.to_ndarray().astype(np.float32, copy=False)
            channels = len(frame.layout.channels)
            self.check(samples.T if frame.format.is_planar else samples.reshape(-1, channels))

    def clip(self, samples: np.ndarray) -> np.ndarray:
        """Returns checked samples, after their channels were mixed, within [-1, 1]."""
        self._num_kept += samples.size
        if np.abs(samples).max(initial=0.0) <= 1:
            return samples
        self._num_clipped += np.count_nonzero(np.abs(samples) > 1)
        return np.clip(samples, -1, 1)

    def finish(self) -> None:
        """Judges the whole sound, whatever its header claimed; raises BadSamples as `check`."""
        self._expected = 0
        self._judge(self._num_checked)

    def _judge(self, num_samples: float) -> None:
        if self._num_beyond > MOST_BEYOND * num_samples:
            raise BadSamples(
                f'more than {MOST_BEYOND:.0%} of the samples of {self._name} are beyond full scale '
                f'(one is {self._worst:g}, not within 1): they look like integers stored as '
                'floats; divide them by 32768 (of 16 bits), and write the file again'
            )


def check_finite(name: str, samples: np.ndarray, rate_hz: int, *, first_s: float = 0.0) -> float:
    """Returns the largest magnitude of samples [N, K]; raises BadSamples if one is not finite.

    Args:
      name: of the sound.
      first_s: time of the first sample, for the error.
    """
    worst = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(worst):
        at, channel = np.argwhere(~np.isfinite(samples))[0]
        raise BadSamples(
            f'{name} has a sample of {samples[at, channel]} at {first_s + at / rate_hz:.3f} s in '
            f'channel {channel + 1}; samples must be numbers within 1: make it again, as PCM of '
            '16 or 24 bits or as 32-bit floats'
        )
    return worst


def clipped_field(share: float) -> dict[str, float]:
    """Returns the field of a decoded record that says how much was clipped; none if nothing was."""
    return {'clipped': share} if share else {}


def clipping_note(share: float) -> str:
    """Says how much of a sound was clipped; see `FullScale.clipped`."""
    return f'{100 * share:.2g} % of the samples of the sound are beyond full scale and clipped to 1'
