import jax
import numpy as np
import pytest
from flax import traverse_util

from avsc_jax import models, weights
from avsc_jax.weights import random


def pictures(rows: int) -> np.ndarray:
    """Smooth pictures: eight by eight random colours, enlarged."""
    coarse = np.random.default_rng(0).standard_normal((rows, 8, 8, 3), dtype=np.float32)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_the_values_are_fixed_for_all_time():
    """random:0 names these numbers in caches and run folders, so they must not change."""
    model = models.create_model('clip_late_fusion', widths=(4, 4, 4))
    params = weights.random_variables(model, 0)['params']
    kernel = params['head']['kernel']
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(
        kernel[:, 0], [0.919805646, -0.225136951, 0.600260794, -1.2949295], rtol=1e-6
    )


def test_the_seed_and_the_path_decide():
    model = models.create_model('clip_late_fusion', widths=(4, 4, 4))
    first, again, other = (weights.random_variables(model, seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    a, b = first['params']['clip_rn101'], first['params']['clip_vit_b32']
    assert not np.array_equal(a['fc1']['kernel'], b['fc1']['kernel'])
    assert not np.array_equal(a['fc1']['kernel'], other['params']['clip_rn101']['fc1']['kernel'])


def test_nothing_is_compiled():
    model = models.create_model('clip_rn101', width=8, layers=(1, 1, 1, 1), image_size=32)
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event)
    )
    weights.random_variables(model, 0)
    assert not [event for event in events if 'backend_compile' in event]
    jax.jit(lambda x: x * 3 + 1)(np.float32(2))
    assert [event for event in events if 'backend_compile' in event]


@pytest.mark.parametrize(
    ('name', 'options', 'count', 'example'),
    [
        ('clip_rn101', {'width': 8}, 33, 'layer3_22/bn3'),
        ('resnet50', {'width': 8}, 16, 'layer4_2/bn3'),
        ('resnet18', {'width': 8}, 8, 'layer1_0/bn2'),
        ('resnest14d', {'width': 8}, 4, 'layer1_0/bn3'),
        ('regnetx_002', {}, 13, 's4_b7/conv3/bn'),
        # of 5 bottlenecks, 4 + 6 + 8 basic blocks, and 2 + 7 + 16 norms between branches
        ('hrnet_w18_small', {'width': 4}, 5 + 18 + 25, 'stage4_0/fuse_layers_3_0_2_1'),
    ],
)
def test_each_residual_branch_begins_small(name, options, count, example):
    variables = weights.random_variables(models.create_model(name, **options), 0)
    leaves = traverse_util.flatten_dict(variables, sep='/')
    small = [path for path, value in leaves.items() if path.endswith('scale') and value.max() < 1]
    assert len(small) == count and f'params/{example}/scale' in small
    assert {value for path in small for value in np.unique(leaves[path])} == {np.float32(0.1)}


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        pytest.param('clip_rn101', {'width': 8}, marks=pytest.mark.slow),
        pytest.param('clip_rn50x4', {'width': 8}, marks=pytest.mark.slow),
        ('resnet18', {'width': 16}),
        ('regnetx_002', {'layers': (1, 1, 4, 1), 'widths': (24, 48, 96, 192)}),
        pytest.param('hrnet_w18_small', {'blocks': 1, 'width': 8}, marks=pytest.mark.slow),
    ],
)
def test_deep_random_networks_keep_pictures_apart(name, options):
    """From stem to embedding: finite, of moderate size, and not the same for every picture."""
    model = models.create_model(name, image_size=64, **options)
    _, out = jax.jit(model.apply)(weights.random_variables(model, 0), pictures(16))
    for stage, values in out.items():
        values = np.asarray(values)
        assert 0.05 < values.std() < 10, stage
        assert values.std(axis=0).mean() > 0.2 * values.std(), stage
    embedding = np.asarray(out['embedding'] - out['embedding'].mean(axis=0, keepdims=True))
    strengths = np.square(np.linalg.svd(embedding, compute_uv=False))
    assert strengths[0] < 0.8 * strengths.sum()  # more than one direction


def test_a_network_of_too_many_weights_is_refused_before_any_is_drawn(monkeypatch):
    model = models.create_model('clip_late_fusion')
    monkeypatch.setattr(random, 'MAX_VALUES', 1000)
    monkeypatch.setattr(random, '_values', None)
    with pytest.raises(ValueError, match=r'ClipLateFusion would have [\d,]+ random'):
        random.random_variables(model, 0)
