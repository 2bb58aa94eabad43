"""Weights of networks: reading them, converting them to Flax variables, fetching them.

`convert('clip_rn101', read('clip_rn101.pt'))` gives variables. Conversion is strict: a name that is
missing, unexpected or of the wrong shape is an error.
"""

from avsc_jax.models import published_sources, source_of
from avsc_jax.models.sources import Source
from avsc_jax.weights.cache import (
    MissingWeights,
    class_names,
    convert_file,
    download,
    download_all,
    has,
    identify,
    load,
)
from avsc_jax.weights.conversion import convert
from avsc_jax.weights.random import random_variables
from avsc_jax.weights.weight_files import SUFFIXES, fingerprint, read, write

__all__ = [
    'SOURCES',
    'SUFFIXES',
    'MissingWeights',
    'Source',
    'class_names',
    'convert',
    'convert_file',
    'download',
    'download_all',
    'fingerprint',
    'has',
    'identify',
    'load',
    'random_variables',
    'read',
    'source_of',
    'write',
]


def __getattr__(name: str):
    if name == 'SOURCES':  # gathered on first use from the networks' files
        return published_sources()
    raise AttributeError(name)
