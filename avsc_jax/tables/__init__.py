"""Predictions tables: one row of class probabilities a frame, second or clip, and their files.

Training ends by writing a table, scoring starts by reading some.
"""

from avsc_jax.tables.files import SUFFIXES, read, truth, with_truth, write
from avsc_jax.tables.pool import VIEWS, aligned, grouped, pool, seconds
from avsc_jax.tables.predictions import Predictions

__all__ = [
    'SUFFIXES',
    'VIEWS',
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
