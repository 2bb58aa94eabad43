"""The names in the baseline's published checkpoints -> `models/openl3_baseline.py`.

They are `train/{audio,video,audio_video}_model/model.pt` of
github.com/shanwangshan/TAU-urban-audio-visual-scenes; B03's own two layers are
`train_combine/audio_video_model/model.pt`, and need the stems of the first two: see `joined`.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from avsc_jax.models.rules import batch_norm, linear

STEM = (
    *linear(r'model\.0', 'stem/fc1'),
    *batch_norm(r'model\.1', 'stem/bn1'),
    *linear(r'model\.4', 'stem/fc2'),
)


def _frozen(rule):
    """The rule of a leaf of B03's stems, which it keeps by the names of its inputs."""
    path = rule.paths.replace('stem/', '')
    return dataclasses.replace(
        rule, pattern=rf'(\w+_embedding)\.{rule.pattern}', paths=rf'batch_stats/\1/{path}'
    )


RULES = (
    *STEM,
    *batch_norm(r'model\.5', 'bn2'),
    *linear(r'model\.8', 'fc3'),
    *batch_norm(r'model\.9', 'bn3'),
    *linear(r'model\.12', 'head'),
    *map(_frozen, STEM),
    *linear(r'joined\.model\.0', 'fusion'),
    *linear(r'joined\.model\.1', 'head'),
)

# Of a subnetwork whose stem B03 takes, the rest.
IGNORE = (r'.*\.num_batches_tracked', r'\w+_embedding\.model\.(5|8|9|12)\..*')


def joined(
    audio: Mapping[str, np.ndarray],
    video: Mapping[str, np.ndarray],
    combined: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """One state for `convert('openl3_baseline_audio_video', ...)` from the three files' states."""
    files = {'audio_embedding': audio, 'image_embedding': video, 'joined': combined}
    return {
        f'{file}.{name}': value for file, state in files.items() for name, value in state.items()
    }
