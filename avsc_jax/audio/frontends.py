"""Front ends by name: `f(audio [..., N, K] float32, *, sample_rate_hz) -> features`, K channels."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from avsc_jax.audio import efficientat
from avsc_jax.audio.efficientat import efficientat_facts, efficientat_logmel
from avsc_jax.audio.hitachi import hitachi_facts, hitachi_logmel
from avsc_jax.audio.ioacas import (
    BANDS,
    bark_facts,
    bark_matrix,
    ioacas_bark,
    ioacas_logmel,
    ioacas_scalogram,
    logmel_facts,
    scalogram_facts,
    scalogram_matrix,
    window_and_hop,
)
from avsc_jax.audio.openl3 import openl3_facts, openl3_mel256
from avsc_jax.audio.yamnet import mel_filters, yamnet_facts, yamnet_logmel
from avsc_jax.runtime import nearest, options
from avsc_jax.types import Array

__all__ = [
    'FRONT_ENDS',
    'FrontEnd',
    'efficientat_logmel',
    'hitachi_logmel',
    'ioacas_bark',
    'ioacas_logmel',
    'ioacas_scalogram',
    'openl3_mel256',
    'yamnet_logmel',
]


def no_facts(sample_rate_hz: int, **options: Any) -> dict:
    """Returns no facts, for a front end that only its code describes."""
    return {}


def no_filters(sample_rate_hz: int, **options: Any) -> None:
    """Returns no matrix, for a front end without filters or whose facts describe them."""


class FrontEnd(NamedTuple):
    """A front end and its description for other programs.

    Attributes:
      function: pure and jittable, `f(audio, *, sample_rate_hz, **options)`.
      facts: `facts(sample_rate_hz, **options)`: all that another program needs to rebuild it, in
        plain data. Spectra are squared magnitudes of the discrete Fourier transform of windowed
        frames, bins 0 to half the window; filters are matrices that the squares are multiplied by.
      filters: `filters(sample_rate_hz, **options)`: the matrix `[bands, bins]` where the filters
        are not simply librosa's, else None.
      gives_rows: each frame of features is a row of its own, like an encoder's embedding.
      resamples: records of another sample rate than a config's are resampled, and not refused.
      is_scaled: its values lie about 0 as its network's weights expect them, and so are not
        standardised by what is measured of the training rows.
    """

    function: Callable[..., Array]
    facts: Callable[..., dict] = no_facts
    filters: Callable[..., np.ndarray | None] = no_filters
    gives_rows: bool = False
    resamples: bool = False
    is_scaled: bool = False


def _bark_filters(sample_rate_hz: int, traunmueller: bool = False, **options: Any) -> np.ndarray:
    return bark_matrix(sample_rate_hz, window_and_hop(sample_rate_hz)[0], BANDS, traunmueller)


def _scalogram_filters(sample_rate_hz: int, **options: Any) -> np.ndarray:
    return scalogram_matrix(sample_rate_hz, window_and_hop(sample_rate_hz)[0])


def _yamnet_filters(sample_rate_hz: int) -> np.ndarray:
    return mel_filters()


def _efficientat_filters(sample_rate_hz: int) -> np.ndarray:
    return efficientat.mel_filters()


FRONT_ENDS = {
    'hitachi_logmel': FrontEnd(hitachi_logmel, hitachi_facts),
    'openl3_mel256': FrontEnd(openl3_mel256, openl3_facts),
    'efficientat_logmel': FrontEnd(
        efficientat_logmel,
        efficientat_facts,
        _efficientat_filters,
        resamples=True,
        is_scaled=True,
    ),
    'yamnet_logmel': FrontEnd(yamnet_logmel, yamnet_facts, _yamnet_filters),
    'ioacas_logmel': FrontEnd(ioacas_logmel, logmel_facts, gives_rows=True),
    'ioacas_bark': FrontEnd(ioacas_bark, bark_facts, _bark_filters, gives_rows=True),
    'ioacas_scalogram': FrontEnd(
        ioacas_scalogram, scalogram_facts, _scalogram_filters, gives_rows=True
    ),
}


def find(name: str) -> FrontEnd:
    """Returns the front end of a name; raises ValueError for an unknown one."""
    nearest.check('the front end', name, FRONT_ENDS)
    return FRONT_ENDS[name]


def make(name: str, **settings: Any) -> Callable[[Array], Array]:
    """Returns a front end as a function of sound alone.

    Args:
      settings: `sample_rate_hz` and the front end's options.

    Raises:
      ValueError: the front end or one of its options is unknown.
    """
    function = find(name).function
    options.check(name, function, settings)
    return partial(function, **settings)


def facts(name: str, *, sample_rate_hz: int, **options: Any) -> dict:
    """Describes a front end by name, sample rate, options and constants, for other programs."""
    about = {'name': name, 'sample_rate_hz': sample_rate_hz, 'options': options}
    return about | find(name).facts(sample_rate_hz, **options)
