"""Predictions tables: one row of class probabilities for each frame, second or clip.

Training writes a table for each split; scoring and ensembles read them.
"""

from avsc_jax.tables.files import SUFFIXES, read, truth, with_truth, write
from avsc_jax.tables.pool import aligned, grouped, pool, seconds
from avsc_jax.tables.predictions import Predictions

__all__ = [
    'SUFFIXES',
    'Predictions',
    'aligned',
    'grouped',
    'pool',
    'read',
    'seconds',
    'truth',
    'with_truth',
    'write',
]
