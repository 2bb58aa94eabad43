"""Weights of networks: `convert('clip_rn101', read('clip_rn101.safetensors'))` -> Flax variables.

Conversion is strict: a name that is missing, unexpected or of the wrong shape is an error.
"""

from avsc_jax.weights.conversion import convert
from avsc_jax.weights.files import fingerprint, identify, load, read
from avsc_jax.weights.random import random_variables
from avsc_jax.weights.sources import SOURCES

__all__ = [
    'SOURCES',
    'convert',
    'fingerprint',
    'identify',
    'load',
    'random_variables',
    'read',
]
