"""Conversion of EfficientAT's files, whose names and shapes goldens/mn10_as.npz of models lists.

That the networks compute what its own code does is tested in tests/models/test_backbones.py.
"""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from avsc_jax import models, weights

GOLDEN = Path(__file__).parents[1] / 'models/goldens/mn01_as.npz'
CLASSES = 10


@pytest.fixture
def state() -> dict[str, np.ndarray]:
    """A file's tensors, drawn at random, with the source's own names."""
    with np.load(GOLDEN) as file:
        shapes = json.loads(file['header'].tobytes())['shapes']
    draw = np.random.default_rng(0)
    drawn = {name: draw.random(shape, np.float32) for name, shape in shapes.items()}
    counters = [name for name in shapes if name.endswith('running_var')]
    return drawn | {
        name.replace('running_var', 'num_batches_tracked'): np.array(7) for name in counters
    }


def test_each_tensor_fills_one_variable(state):
    variables = weights.convert('mn01_as', state, num_classes=CLASSES)
    params, gate = variables['params'], 'conc_se_layers.0.fc1.weight'
    np.testing.assert_array_equal(
        params['features_0_0']['kernel'][:, :, 0, 3], state['features.0.0.weight'][3, 0]
    )
    name = next(name for name in state if name.endswith(gate))
    assert name == 'features.4.block.1.' + gate  # in this width, its block widens nothing
    reduce = params['features_4']['block_1_conc_se_layers_0']['conv_reduce']
    np.testing.assert_array_equal(reduce['kernel'][0, 0], state[name].T)
    np.testing.assert_array_equal(params['head']['kernel'], state['classifier.5.weight'].T)
    sizes = sum(value.size for name, value in state.items() if 'num_batches' not in name)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == sizes


@pytest.mark.parametrize(
    ('changed', 'sentence'),
    [
        ({'classifier.2.bias': None}, r'missing: params/classifier_2/bias; unexpected: none'),
        ({'classifier.6.bias': np.zeros(3)}, r'unexpected: classifier\.6\.bias'),
        (
            {'features.16.0.weight': np.zeros((6, 16, 1, 1), np.float32)},
            r'wrong shape: features\.16\.0\.weight \(6, 16, 1, 1\) for params/features_16_0/kernel',
        ),
        (  # mn10_as_fc, with another head
            {'classifier.2.weight': None, 'classifier.0.weight': np.zeros((527, 96, 1, 1))},
            r'missing: params/classifier_2/kernel; unexpected: classifier\.0\.weight',
        ),
    ],
)
def test_another_file_is_one_sentence(state, changed, sentence):
    wrong = {name: value for name, value in (state | changed).items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        weights.convert('mn01_as', wrong, num_classes=CLASSES)


def test_a_file_of_another_width_is_refused(state):
    with pytest.raises(ValueError, match=r'wrong shape: features\.0\.0\.weight|wrong shape: feat'):
        weights.convert('mn10_as', state, num_classes=CLASSES)


def test_fine_tuning_keeps_all_but_the_last_layer(state):
    variables = weights.convert('mn01_as', state, head='drop', num_classes=3)
    assert variables['params']['head']['kernel'].shape == (128, 3)
    hidden = variables['params']['classifier_2']['kernel']
    np.testing.assert_array_equal(hidden, state['classifier.2.weight'].T)


def test_the_tags_are_audioset_s_527_in_the_order_of_yamnet_s():
    names, fewer = weights.class_names('mn10_as'), weights.class_names('yamnet')
    assert len(names) == len({*names}) == models.create_model('mn10_as').num_classes == 527
    assert tuple(name for name in names if name in fewer) == fewer
    left_out = sorted({*names} - {*fewer})
    assert left_out[:2] == ['Battle cry', 'Female singing'] and len(left_out) == 6


@pytest.mark.parity
def test_a_file_that_torch_writes_is_read_and_used_whole(tmp_path):
    if 'AVSC_EFFICIENTAT' not in os.environ:
        pytest.skip('AVSC_EFFICIENTAT names no clone of fschmid56/EfficientAT')
    import torch
    import torch_peers

    network = torch_peers.import_efficientat('models.mn.model').get_model(width_mult=0.1)
    path = tmp_path / 'mn01_as.pt'
    torch.save(network.state_dict(), path)
    variables = weights.convert('mn01_as', weights.read(path))
    parameters = sum(value.numel() for value in network.parameters())
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == parameters == 123_783
    labels = torch_peers.import_efficientat('helpers.utils').labels
    assert weights.class_names('mn01_as') == tuple(labels)
