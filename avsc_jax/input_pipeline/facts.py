"""Front ends and frame rules in plain data: all that another program needs to make the same.

Spectra are squared magnitudes of the discrete Fourier transform of windowed frames, bins 0 to half
the window. Filters are matrices `[bands, bins]` that the squares are multiplied by.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from avsc_jax.audio import frontends, ioacas, openl3

_EVEN = 'frames int((k + 0.5) n / {}) of n, k = 0, 1 ...'
_NEAREST = 'the frames nearest to {} s, frame i of n being shown at i * duration / n'
FRAME_RULES = {
    'clip12': _EVEN.format(12),
    'evaluation5': _EVEN.format(5),
    'hitachi': _EVEN.format('12, or of a clip of less than 2 s 5,'),
    'second_centres': _NEAREST.format('0.5, 1.5 ...'),
    'openl3': 'the integer parts of numbers from 0 to n - 1, equally spaced and as many as '
    'round(10 duration) - 4, at least 1 and at most 96',
    'hou': _NEAREST.format('0.4, 1.4 ... 9.4, or in a clip of less than 2 s 0.05, 0.15 ... 0.95'),
}


def frames(rule: str | None, **more: Any) -> dict:
    """A rule that picks frames of a clip, by name and in words; None: the record's."""
    return {'rule': rule, 'picks': FRAME_RULES.get(rule or ''), **more}


def front_end(name: str, *, sample_rate_hz: int, **options: Any) -> dict:
    """Name, sample rate, options and constants of a front end."""
    about = {'name': name, 'sample_rate_hz': sample_rate_hz, 'options': options}
    return about | _FACTS[name](sample_rate_hz, **options)


def filters(name: str, *, sample_rate_hz: int, **options: Any) -> np.ndarray | None:
    """The matrix of a front end whose filters are not simply librosa's."""
    window = ioacas.window_and_hop(sample_rate_hz)[0]
    if name == 'ioacas_bark':
        bend = options.get('traunmueller', False)
        return ioacas.bark_matrix(sample_rate_hz, window, ioacas.BANDS, bend)
    if name == 'ioacas_scalogram':
        return ioacas.scalogram_matrix(sample_rate_hz, window)
    return None


def _hitachi_logmel(sample_rate_hz: int, lineage: bool = False) -> dict:
    half = frontends.HITACHI_WINDOW // 2
    facts = {
        'channels': 'their mean',
        'window': {
            'samples': frontends.HITACHI_WINDOW,
            'hop': frontends.HITACHI_HOP,
            'shape': 'periodic Hann',
            'padding': {'zeros': [half, half]},
        },
        'filters': _mel(frontends.HITACHI_MELS, sample_rate_hz, htk=lineage),
        'layout': ['bands', 'columns', 'level, delta, delta-delta'],
    }
    if lineage:
        return facts | {
            'level': 'ln(x + 1e-8), then (level - least) / (most - least) over the whole piece',
            'deltas': 'd[t] = (x[t+1] - x[t-1]) / 10 + (x[t+2] - x[t-2]) / 5, and of that again; '
            'without the 4 columns at each end',
        }
    return facts | {
        'level': '10 log10(max(x, 1e-10)), no less than 80 below the greatest of the piece',
        'deltas': 'along the columns: librosa.feature.delta, width 9, order 1 and order 2, both '
        'of the level',
    }


def _openl3_mel256(sample_rate_hz: int, version: str = '0.3.1') -> dict:
    lacking = (openl3.COLUMNS - 1) * openl3.FFT_HOP + openl3.FFT - openl3.WINDOW
    before = lacking // 2 if version == '0.3.1' else 0
    mirrored = version == '0.4-librosa'
    half = openl3.FFT // 2
    padding = {'reflect': [half, half]} if mirrored else {'zeros': [before, lacking - before]}
    first = version == '0.3.1'
    return {
        'window': {
            'samples': openl3.FFT,
            'hop': openl3.FFT_HOP,
            'count': openl3.COLUMNS,
            'shape': 'periodic Hann',
            'padding': padding,
        },
        'filters': _mel(openl3.MELS, sample_rate_hz, htk=first) | {'norm': 'slaney'},
        'of': 'the squares, and then the root' if first else 'the roots of the squares',
        'level': '10 log10(max(x, 1e-10)), no less than 80 below the greatest, less the greatest',
        'layout': ['bands', 'columns', '1'],
    }


def _mel(bands: int, sample_rate_hz: int, *, htk: bool) -> dict:
    """In the words of `librosa.filters.mel`; HTK's triangles have height 1."""
    scale = {'htk': htk, 'norm': None if htk else 'slaney'}
    return {'mel_bands': bands, 'low_hz': 0, 'high_hz': sample_rate_hz / 2} | scale


def _ioacas(sample_rate_hz: int, difference_scale: float = 1.0) -> dict:
    window, hop = ioacas.window_and_hop(sample_rate_hz)
    return {
        'channels': ['(left + right) / 2', '(left - right) * difference_scale'],
        'difference_scale': difference_scale,
        'window': {
            'samples': window,
            'hop': hop,
            'shape': 'periodic Hann',
            'padding': {'reflect': [window // 2, window // 2]},
        },
        'level': f'ln(x + {ioacas.EPSILON})',
        'layout': ['windows', 'channels', 'bands'],
    }


def _ioacas_logmel(sample_rate_hz: int, **options: Any) -> dict:
    return _ioacas(sample_rate_hz, **options) | {
        'filters': _mel(ioacas.BANDS, sample_rate_hz, htk=False)
    }


def _ioacas_bark(sample_rate_hz: int, traunmueller: bool = False, **options: Any) -> dict:
    return _ioacas(sample_rate_hz, **options) | {'filters': 'filters.npz'}


def _ioacas_scalogram(sample_rate_hz: int, scattering: bool = False, **options: Any) -> dict:
    filters = 'first-order scattering: only system.bin has it' if scattering else 'filters.npz'
    return _ioacas(sample_rate_hz, **options) | {'filters': filters}


_FACTS: Mapping[str, Callable[..., dict]] = {
    'hitachi_logmel': _hitachi_logmel,
    'openl3_mel256': _openl3_mel256,
    'ioacas_logmel': _ioacas_logmel,
    'ioacas_bark': _ioacas_bark,
    'ioacas_scalogram': _ioacas_scalogram,
}
