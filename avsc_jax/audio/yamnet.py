"""YAMNet's sound: windows of a patch each, and the log-mel patch that the network takes.

Source: Plakal and Ellis 2019, tensorflow/models, research/audioset/yamnet (params.py, features.py).
"""

import jax.numpy as jnp
import numpy as np

from avsc_jax.audio.spectrum import filter_bands, slices, straight_mel_matrix
from avsc_jax.types import Array, Float

SAMPLE_RATE_HZ = 16000
FRAME, FRAME_HOP, FFT = 400, 160, 512  # 25 ms and 10 ms
BANDS, LOW_HZ, HIGH_HZ, OFFSET = 64, 125.0, 7500.0, 0.001
FRAMES = 96  # of a patch
WINDOW = (FRAMES - 1) * FRAME_HOP + FRAME  # samples of a patch: 0.975 s
HOP_S = 0.48  # from patch to patch


def yamnet_views(sound: np.ndarray, *, hop_s: float = HOP_S) -> np.ndarray:
    """Cuts one channel `[N]` at 16 kHz to the windows of patches `[T, 15600, 1]`, as views.

    Zeros complete a sound that is shorter than a window, and the last window, as the published code
    does: a patch begins every `hop_s` as long as there is a sample that no earlier one has.

    Raises:
      ValueError: there is no sample, or the hop is shorter than a sample.
    """
    hop = round(hop_s * SAMPLE_RATE_HZ)
    if not len(sound) or hop < 1:
        raise ValueError(
            f'cannot cut {len(sound)} samples into windows every {hop_s} s: give one sample or '
            f'more and a hop of {1 / SAMPLE_RATE_HZ:.6f} s or more'
        )
    more = -(-max(0, len(sound) - WINDOW) // hop)
    full = np.pad(sound, (0, WINDOW + more * hop - len(sound)))
    return np.lib.stride_tricks.sliding_window_view(full, WINDOW)[::hop, :, None]


def yamnet_logmel(
    audio: Float[Array, '*B N K'], *, sample_rate_hz: int
) -> Float[Array, '*B 96 64 1']:
    """Returns the log-mel patch of a window of 15,600 samples, time before frequency.

    The channels are averaged. Magnitudes, not powers, go through the filters.

    Raises:
      ValueError: the sample rate is not 16 kHz, or a window has another length.

    Example:
      >>> import jax
      >>> windows = jax.ShapeDtypeStruct((3, 15600, 1), jnp.float32)
      >>> jax.eval_shape(lambda x: yamnet_logmel(x, sample_rate_hz=16000), windows).shape
      (3, 96, 64, 1)

    Source: features.py and params.py of the published code.
    """
    if sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f'YAMNet takes sound at {SAMPLE_RATE_HZ} Hz, not {sample_rate_hz}; resample'
        )
    if audio.shape[-2] != WINDOW:
        raise ValueError(
            f'yamnet_logmel takes windows of {WINDOW} samples, not {audio.shape[-2]}: cut the '
            'sound by audio.yamnet.yamnet_views'
        )
    framed = slices(audio.mean(-1), (0, 0), np.arange(FRAMES) * FRAME_HOP, FRAME)
    hann = np.hanning(FRAME + 1)[:-1].astype(np.float32)
    magnitude = jnp.abs(jnp.fft.rfft(framed * jnp.broadcast_to(hann, framed.shape), FFT))
    return jnp.log(filter_bands(magnitude, mel_filters()) + OFFSET)[..., None]


def mel_filters() -> np.ndarray:
    """Returns the filters `[64, 257]`."""
    return straight_mel_matrix(SAMPLE_RATE_HZ, FFT, BANDS, LOW_HZ, HIGH_HZ)


def yamnet_facts(sample_rate_hz: int) -> dict:
    """Describes window, filters and level of `yamnet_logmel` in plain data."""
    return {
        'channels': 'their mean',
        'window': {
            'samples': FRAME,
            'hop': FRAME_HOP,
            'count': FRAMES,
            'shape': 'periodic Hann',
            'padding': {'zeros': [0, 0]},
            'transform': FFT,
        },
        'filters': {
            'mel_bands': BANDS,
            'low_hz': LOW_HZ,
            'high_hz': HIGH_HZ,
            'htk': True,
            'norm': None,
        },
        'of': 'the roots of the squares',
        'level': f'ln(x + {OFFSET})',
        'layout': ['columns', 'bands', '1'],
    }
