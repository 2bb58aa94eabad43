"""Predictions tables: one row of class probabilities for each frame, second or clip.

Training writes a table for each split; scoring and ensembles read them.
"""

from avsc_jax.tables.names import Note, clip_name, matched, stem
from avsc_jax.tables.pool import VIEWS, aligned, grouped, pool, renamed, seconds, with_classes
from avsc_jax.tables.predictions import Predictions, cautioned, check_exclusive, joined, rows
from avsc_jax.tables.table_files import SUFFIXES, check_classes, read, write
from avsc_jax.tables.truth_files import label_sets, truth, truth_and_groups, with_truth

__all__ = [
    'SUFFIXES',
    'VIEWS',
    'Note',
    'Predictions',
    'aligned',
    'cautioned',
    'check_classes',
    'check_exclusive',
    'clip_name',
    'grouped',
    'joined',
    'label_sets',
    'matched',
    'pool',
    'read',
    'renamed',
    'rows',
    'seconds',
    'stem',
    'truth',
    'truth_and_groups',
    'with_classes',
    'with_truth',
    'write',
]
