"""Keras's names of the OpenL3 networks, as they lie in the .h5 files -> `models/openl3.py`."""

import re
from collections.abc import Mapping

import numpy as np

from avsc_jax.models.rules import Rule

# A file holds the weights alone, or a whole model with its weights in this group.
GROUP = r'(?:model_weights/)?'
COUNTED = re.compile(rf'({GROUP}(?:batch_normalization|conv2d))(?:_(\d+))?(/.*)')
NORM = rf'{GROUP}(batch_normalization_\d+)/(?:.*/)?'

RULES = (
    Rule(
        rf'{GROUP}(conv2d_\d+|(?:audio|vision)_embedding_layer)/(?:.*/)?(kernel|bias):0',
        r'params/\1/\2',
    ),
    Rule(rf'{NORM}gamma:0', r'params/\1/scale'),
    Rule(rf'{NORM}beta:0', r'params/\1/bias'),
    Rule(rf'{NORM}moving_mean:0', r'batch_stats/\1/mean'),
    Rule(rf'{NORM}moving_variance:0', r'batch_stats/\1/var'),
)

# Fourier kernels and mel filters, which files for openl3 before 0.4 hold.
IGNORE = (rf'{GROUP}(mel)?spectrogram_?\d*/.*',)


def renamed(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state with its norms and its convolutions each counted from 1.

    Keras counts on over all networks that a process makes, so a published file begins anywhere.
    """
    found = {name: match for name in state if (match := COUNTED.fullmatch(name))}
    numbers = {}
    for match in found.values():
        numbers.setdefault(match[1], []).append(int(match[2] or 0))
    first = {kind: min(counted) for kind, counted in numbers.items()}
    return {
        f'{match[1]}_{int(match[2] or 0) - first[match[1]] + 1}{match[3]}'
        if (match := found.get(name))
        else name: value
        for name, value in state.items()
    }
