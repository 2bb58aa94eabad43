import functools

import jax
import numpy as np
import pytest
from flax import traverse_util

from avsc_jax import models, weights

NARROW = {'width': 8, 'layers': (1, 1, 1, 1)}


@functools.cache
def source_state(classes: int) -> dict[str, np.ndarray]:
    """Random variables under the names and in the layout of torchvision and timm."""
    model = models.create_model('resnet18', **NARROW, num_classes=classes)
    leaves = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
    state = {}
    for path, value in traverse_util.flatten_dict(weights.random_variables(model, 0)).items():
        _, *modules, leaf = path
        name = (
            '.'.join([*modules, leaves.get(leaf, leaf)]).replace('head', 'fc').replace('_0', '.0')
        )
        name = name.replace('downsample_1', 'downsample.1')
        if leaf == 'kernel':
            value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
        state[name] = value
    return state


def test_names_of_torchvision_come_back_as_the_same_variables():
    variables = weights.convert('resnet18', source_state(5), **NARROW, num_classes=5)
    model = models.create_model('resnet18', **NARROW, num_classes=5)
    expected = weights.random_variables(model, 0)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_another_number_of_classes_is_taken_only_with_the_head_dropped():
    state = source_state(5)
    with pytest.raises(ValueError, match=r'wrong shape: fc.bias \(5,\) for .* \(3,\)'):
        weights.convert('resnet18', state, **NARROW, num_classes=3)
    first, again, other = (
        weights.convert('resnet18', state, head='drop', key=key, **NARROW, num_classes=3)
        for key in (0, jax.random.key(0), 1)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = first['params'].pop('head')['kernel'], other['params'].pop('head')['kernel']
    assert kernels[0].shape == (64, 3)
    assert not np.array_equal(*kernels)
    kept = weights.convert('resnet18', state, **NARROW, num_classes=5)
    del kept['params']['head']
    jax.tree.map(np.testing.assert_array_equal, first, kept)


def test_converted_files_drop_their_heads_too():
    converted = weights.convert('resnet18', source_state(5), **NARROW, num_classes=5)
    state = traverse_util.flatten_dict(converted, sep='/')
    options = {**NARROW, 'num_classes': 3}
    variables = weights.convert('resnet18', state, head='drop', **options)
    jax.tree.map(
        np.testing.assert_array_equal,
        variables,
        weights.convert('resnet18', source_state(5), head='drop', **options),
    )


def test_features_take_weights_with_classes_once_the_head_is_dropped():
    features = weights.convert('resnet18', source_state(5), head='drop', **NARROW, num_classes=0)
    assert 'head' not in features['params']


def test_dropping_the_head_drops_nothing_else():
    state = dict(source_state(5))
    del state['bn1.bias']
    with pytest.raises(ValueError, match='missing: params/bn1/bias; unexpected: none'):
        weights.convert('resnet18', state, head='drop', **NARROW, num_classes=3)
    with pytest.raises(ValueError, match="head is 'new', it must be 'keep' or 'drop'"):
        weights.convert('resnet18', state, head='new')


@pytest.mark.slow
@pytest.mark.parity
def test_torchvision_s_names_and_answers_are_ours(torchvision):
    import torch

    network = torchvision.models.resnet50().eval()
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    images = np.random.default_rng(0).standard_normal((1, 64, 64, 3)).astype(np.float32)
    variables = weights.convert('resnet50', state)
    logits, _ = jax.jit(models.create_model('resnet50').apply)(variables, images)
    with torch.no_grad():
        expected = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * abs(expected).max())
