"""OpenL3's sound: windows of a second, and the log-mel spectrogram that the network takes.

Source: Cramer et al. 2019, Sec. 3; the figures are those of openl3 0.3.1 and of the kapre 0.1.4
that it calls, whose own filters and kernels lie in the weight files of that time.
"""

import warnings
from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import librosa
import numpy as np

from avsc_jax.audio.spectrum import decibels, filter_bands, mel_facts, slices
from avsc_jax.types import Array, Float

SAMPLE_RATE_HZ = WINDOW = 48000
FFT, FFT_HOP, MELS = 2048, 242, 256
COLUMNS = -(-WINDOW // FFT_HOP)

Version = Literal['0.3.1', '0.4-kapre', '0.4-librosa']


def openl3_windows(
    audio: Float[Array, '*B N K'], *, sample_rate_hz: int, hop_s: float = 0.1, centre: bool = True
) -> Float[Array, '*B T 48000 1']:
    """Cuts windows of one second, channels averaged; window k begins at k * hop_s.

    Zeros complete the last window. T is 96 for ten seconds and 6 for one; clips that last a little
    longer than ten seconds give more, of which the scene systems take the first 96.

    Args:
      centre: half a second of zeros comes first, and window k has k * hop_s in its middle.
    """
    _check_rate(sample_rate_hz)
    windows, hop, pads = _layout(audio.shape[-2], hop_s, centre)
    return slices(audio.mean(-1), pads, np.arange(windows) * hop, WINDOW)[..., None]


def openl3_views(
    sound: np.ndarray, *, hop_s: float = 0.1, centre: bool = True, most: int | None = None
) -> np.ndarray:
    """Cuts one channel `[N]` at 48 kHz to windows `[T, 48000, 1]`, as views that take no memory.

    Args:
      most: the largest number of windows; later ones are left out.
    """
    _, hop, pads = _layout(len(sound), hop_s, centre)
    every = np.lib.stride_tricks.sliding_window_view(np.pad(sound, pads), WINDOW)
    return every[::hop][:most, :, None]


def _layout(num: int, hop_s: float, centre: bool) -> tuple[int, int, tuple[int, int]]:
    """Returns the number of windows of so many samples, their hop, and zeros before and after."""
    hop = int(hop_s * SAMPLE_RATE_HZ)
    if not num or hop < 1:
        raise ValueError(
            f'cannot cut {num} samples into windows every {hop_s} s: give one sample or more and a '
            f'hop of {1 / SAMPLE_RATE_HZ:.6f} s or more'
        )
    before = WINDOW // 2 if centre else 0
    windows = 1 + max(0, -(-(num + before - WINDOW) // hop))
    after = (windows - 1) * hop + WINDOW - before - num
    return windows, hop, (before, after)


def openl3_mel256(
    audio: Float[Array, '*B N K'], *, sample_rate_hz: int, version: Version = '0.3.1'
) -> Float[Array, '*B 256 199 1']:
    """Log-mel spectrogram of a window of one second: 0 at its maximum, -80 and more elsewhere.

    The channels are averaged. A silent window is 0 all over, as in openl3.

    Args:
      version: of openl3. '0.3.1': HTK's mel scale on the power, then the root. The later ones take
        Slaney's scale, on the magnitude; '0.4-kapre' begins its frames at the first sample,
        '0.4-librosa' mirrors the window's ends, as librosa did when its references were made.

    Raises:
      ValueError: the sample rate is not 48 kHz, or a window is not of one second.

    Example:
      >>> windows = jax.ShapeDtypeStruct((3, 48000, 1), jnp.float32)
      >>> jax.eval_shape(lambda x: openl3_mel256(x, sample_rate_hz=48000), windows).shape
      (3, 256, 199, 1)
    """
    _check_rate(sample_rate_hz)
    if audio.shape[-2] != WINDOW:
        raise ValueError(
            f'openl3_mel256 takes windows of {WINDOW} samples, not {audio.shape[-2]}: cut the '
            'sound by openl3_windows'
        )
    one = partial(_spectrogram, version=version)
    windows = audio.mean(-1).reshape(-1, WINDOW)
    # On a CPU a few windows at a time, because their spectra then stay in its cache.
    spectrograms = jax.lax.platform_dependent(
        windows, cpu=partial(jax.lax.map, one, batch_size=2), default=jax.vmap(one)
    )
    return spectrograms.reshape(*audio.shape[:-2], MELS, COLUMNS, 1)


def _spectrogram(window: Float[Array, 'N'], *, version: Version) -> Float[Array, '256 199 1']:
    missing = (COLUMNS - 1) * FFT_HOP + FFT - WINDOW
    if version == '0.4-librosa':
        window = jnp.pad(window, FFT // 2, mode='reflect')
        pads = (0, 0)
    else:  # TensorFlow's 'same' padding, and all of it at the end
        before = missing // 2 if version == '0.3.1' else 0
        pads = (before, missing - before)
    framed = slices(window, pads, np.arange(COLUMNS) * FFT_HOP, FFT)
    hann = np.hanning(FFT + 1)[:-1].astype(np.float32)
    spectrum = jnp.fft.rfft(framed * hann[None])
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    if version == '0.3.1':
        bands = jnp.sqrt(filter_bands(power, _filters(htk=True)))
    else:
        bands = filter_bands(jnp.sqrt(power), _filters(htk=False))
    level = decibels(bands)
    return (level - level.max()).T[..., None]


@lru_cache
def _filters(*, htk: bool) -> np.ndarray:
    with (
        warnings.catch_warnings()
    ):  # about filters between two bins, with which the network was trained
        warnings.simplefilter('ignore')
        return librosa.filters.mel(
            sr=SAMPLE_RATE_HZ, n_fft=FFT, n_mels=MELS, htk=htk, norm='slaney'
        )


def _check_rate(sample_rate_hz: int) -> None:
    if sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f'OpenL3 takes sound at {SAMPLE_RATE_HZ} Hz, not {sample_rate_hz}; resample'
        )


def openl3_facts(sample_rate_hz: int, version: Version = '0.3.1') -> dict:
    """Describes window, filters and level of `openl3_mel256` in plain data."""
    missing = (COLUMNS - 1) * FFT_HOP + FFT - WINDOW
    before = missing // 2 if version == '0.3.1' else 0
    mirrored = version == '0.4-librosa'
    half = FFT // 2
    padding = {'reflect': [half, half]} if mirrored else {'zeros': [before, missing - before]}
    first = version == '0.3.1'
    return {
        'window': {
            'samples': FFT,
            'hop': FFT_HOP,
            'count': COLUMNS,
            'shape': 'periodic Hann',
            'padding': padding,
        },
        'filters': mel_facts(MELS, sample_rate_hz, htk=first) | {'norm': 'slaney'},
        'of': 'the squares, and then the root' if first else 'the roots of the squares',
        'level': '10 log10(max(x, 1e-10)), no less than 80 below the greatest, less the greatest',
        'layout': ['bands', 'columns', '1'],
    }
