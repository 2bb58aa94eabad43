"""Predictions tables: one row of class probabilities for each frame, second or clip.

Training writes a table for each split; scoring and ensembles read them.
"""

from avsc_jax.tables.pool import VIEWS, aligned, grouped, pool, seconds
from avsc_jax.tables.predictions import Predictions
from avsc_jax.tables.table_files import SUFFIXES, read, write
from avsc_jax.tables.truth_files import truth, with_truth

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
