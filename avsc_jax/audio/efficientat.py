"""EfficientAT's sound: the log-mel spectrogram that its networks of AudioSet take.

Source: Schmid et al. 2023, Sec. 3; the figures are those of `AugmentMelSTFT` in evaluation mode, in
models/preprocess.py of fschmid56/EfficientAT.
"""

import jax.numpy as jnp
import numpy as np

from avsc_jax.audio.spectrum import filter_bands, slices, straight_mel_matrix
from avsc_jax.types import Array, Float

SAMPLE_RATE_HZ = 32000
FRAME, FRAME_HOP, FFT = 800, 320, 1024  # 25 ms and 10 ms
BANDS, LOW_HZ, HIGH_HZ, OFFSET = 128, 0.0, 15000.0, 1e-5
EMPHASIS = 0.97
SHIFT, SCALE = 4.5, 5.0  # of the logarithm, so that values lie about 0
WINDOW_S = 10.0  # of the sounds that the networks were trained on


def efficientat_logmel(
    audio: Float[Array, '*B N K'], *, sample_rate_hz: int
) -> Float[Array, '*B 128 T 1']:
    """Returns the log-mel spectrogram of a sound, a column each 10 ms: 1,000 of ten seconds.

    The channels are averaged.

    Raises:
      ValueError: the sample rate is not 32 kHz, or the sound is shorter than half a transform.

    Example:
      >>> import jax
      >>> sound = jax.ShapeDtypeStruct((3, 320000, 2), jnp.float32)
      >>> jax.eval_shape(lambda x: efficientat_logmel(x, sample_rate_hz=32000), sound).shape
      (3, 128, 1000, 1)
    """
    if sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f'EfficientAT takes sound at {SAMPLE_RATE_HZ} Hz, not {sample_rate_hz}; resample'
        )
    if audio.shape[-2] < FFT // 2 + 2:
        raise ValueError(
            f'efficientat_logmel takes {FFT // 2 + 2} samples or more, whose ends are mirrored, '
            f'not {audio.shape[-2]}: complete the sound by zeros'
        )
    mono = audio.mean(-1)
    sharp = mono[..., 1:] - EMPHASIS * mono[..., :-1]
    half = [(0, 0)] * (sharp.ndim - 1) + [(FFT // 2, FFT // 2)]
    # torch puts the window in the middle of a transform; where it lies changes no square
    starts = np.arange(1 + sharp.shape[-1] // FRAME_HOP) * FRAME_HOP + (FFT - FRAME) // 2
    framed = slices(jnp.pad(sharp, half, mode='reflect'), (0, 0), starts, FRAME)
    hann = np.hanning(FRAME).astype(np.float32)
    spectrum = jnp.fft.rfft(framed * jnp.broadcast_to(hann, framed.shape), FFT)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    level = jnp.log(filter_bands(power, mel_filters()) + OFFSET)
    return (jnp.swapaxes(level, -1, -2)[..., None] + SHIFT) / SCALE


def mel_filters() -> np.ndarray:
    """Returns the filters `[128, 513]`, which are Kaldi's."""
    return straight_mel_matrix(SAMPLE_RATE_HZ, FFT, BANDS, LOW_HZ, HIGH_HZ)


def efficientat_facts(sample_rate_hz: int) -> dict:
    """Describes window, filters and level of `efficientat_logmel` in plain data."""
    return {
        'channels': 'their mean',
        'before': f'x[n + 1] - {EMPHASIS} x[n], which is a sample shorter',
        'window': {
            'samples': FRAME,
            'hop': FRAME_HOP,
            'count': '1 + samples // hop',
            'shape': 'symmetric Hann',
            'padding': {'reflect': [FFT // 2, FFT // 2]},
            'first': (FFT - FRAME) // 2,
            'transform': FFT,
        },
        'filters': {
            'mel_bands': BANDS,
            'low_hz': LOW_HZ,
            'high_hz': HIGH_HZ,
            'htk': True,
            'norm': None,
            'sides': 'straight over mels',
        },
        'of': 'the squares',
        'level': f'(ln(x + {OFFSET}) + {SHIFT}) / {SCALE}',
        'layout': ['bands', 'columns', '1'],
    }
