"""Decision-level functions over class probabilities: pooling, averaging and calibration.

Pure functions of arrays [N, C] or [M, N, C]. numpy arrays in, numpy arrays out; jax arrays in, jax
arrays out, also under jit and vmap. The type of the probabilities is kept. Searches and fits work
on the host.
"""

from avsc_jax.ensemble.decision import gate, hitachi, restrict
from avsc_jax.ensemble.fit import fit_clamp, fit_temperature, fit_vector_scale, search_weights
from avsc_jax.ensemble.rules import (
    clamp,
    geometric_mean,
    mean,
    piecewise_clamp,
    pool,
    renormalize,
    temperature_scale,
    vector_scale,
)

__all__ = [
    'clamp',
    'fit_clamp',
    'fit_temperature',
    'fit_vector_scale',
    'gate',
    'geometric_mean',
    'hitachi',
    'mean',
    'piecewise_clamp',
    'pool',
    'renormalize',
    'restrict',
    'search_weights',
    'temperature_scale',
    'vector_scale',
]
