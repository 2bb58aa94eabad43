"""The names themselves are tested in tests/models, where converted weights answer as timm's do."""

import json
from pathlib import Path

import numpy as np
import pytest

from avsc_jax import weights

GOLDEN = Path(__file__).parents[1] / 'models' / 'goldens' / 'swin_small.npz'
NARROW = {'window_size': 4, 'embed_dim': 16, 'depths': (2, 2, 1, 1), 'num_heads': (1, 2, 4, 8)}
OPTIONS = {**NARROW, 'image_size': 64, 'num_classes': 10}


@pytest.fixture
def state() -> dict[str, np.ndarray]:
    """timm's tensors of the small network, all zero."""
    with np.load(GOLDEN) as file:
        shapes = json.loads(file['header'].tobytes())['shapes']
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def convert(state: dict[str, np.ndarray]) -> dict:
    return weights.convert('swin_tiny_patch4_window7_224', state, **OPTIONS)


def test_what_older_files_hold_besides_is_passed_over(state):
    state['layers.0.blocks.1.attn_mask'] = np.zeros((16, 16, 16))
    state['layers.0.blocks.1.attn.relative_position_index'] = np.zeros((16, 16), int)
    params = convert(state)['params']
    assert params['layers_1_downsample']['reduction']['kernel'].shape == (64, 32)


def test_everything_amiss_is_in_one_error(state):
    del state['layers.2.downsample.norm.bias']
    state['layers.0.downsample.norm.bias'] = np.zeros(16)
    # of windows of 7 by 7
    state['layers.1.blocks.0.attn.relative_position_bias_table'] = np.zeros((169, 2))
    with pytest.raises(ValueError) as error:
        convert(state)
    missing, unexpected, misshaped = str(error.value).split('; ')
    assert missing.endswith('missing: params/layers_2_downsample/norm/bias')
    assert unexpected == 'unexpected: layers.0.downsample.norm.bias'
    assert misshaped.startswith('wrong shape: layers.1.blocks.0.attn.relative_position_bias_table')
