"""Checks before training that clips of a data set's length fit all that comes after training."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from avsc_jax import tables
from avsc_jax.input_pipeline import clip_rows, examples
from avsc_jax.input_pipeline.encoders import FrozenSpec


def check(config: ConfigDict, specs: Sequence[FrozenSpec], window_s: float) -> None:
    """Raises ValueError if clips of `window_s` seconds cannot be trained on, or not be scored.

    A table of one made-up clip takes the way that the test split takes after training.

    Args:
      specs: the encoders; those of runs that are not trained yet may be missing.
    """
    clip_rows.check_length(config, window_s, str(config.model.get('name', 'the network')))
    if not specs and 'frames' not in config and 'piece_s' not in config:
        return  # all inputs are made by runs that are not trained yet
    settings = examples.preprocessing(config, specs)
    try:
        count = clip_rows.of_clip(settings, specs, window_s)
        if 'test' in config.data:
            _scored(config, count)
    except ValueError as error:
        raise ValueError(
            f'clips of {window_s:g} s do not fit this config: {error} '
            '(--config.data.window_s sets the length of clips of your own)'
        ) from error


def _scored(config: ConfigDict, count: int) -> None:
    """Makes the tables that a run writes, of one clip with `count` rows."""
    table = tables.Predictions(
        clip_id=np.repeat('clip', count),
        segment=np.arange(count, dtype=np.int32) if count > 1 else np.int32([-1]),
        label=np.zeros(count, np.int32),
        probs=np.full((count, 2), 0.5),
        meta={'classes': ['a', 'b'], 'granularity': config.data['items']},
    )
    if 'frames_per_item' in config:
        table = tables.grouped(table, config.frames_per_item)
    if 'views' in config:
        tables.VIEWS[config.views](table)
