import flax.linen as nn
import jax
import numpy as np
import pytest

from avsc_jax.layers.drop_path import DropPath
from avsc_jax.models import regnet, resnest, resnet


def test_answers_and_gradients_are_timm_s(agrees_with_golden):
    agrees_with_golden('resnet18')


@pytest.mark.parametrize(('name', 'count'), [('resnet18', 11_181_642), ('resnet50', 23_528_522)])
def test_parameter_counts_are_the_published_ones(name, count, parameters):
    assert parameters(name, num_classes=10) == count


def test_stages_halve_the_grid_and_end_in_2048_channels(outline):
    (logits, out), _ = outline('resnet50')
    assert {key: value.shape[1:] for key, value in out.items()} == {
        'layer1': (56, 56, 256),
        'layer2': (28, 28, 512),
        'layer3': (14, 14, 1024),
        'layer4': (7, 7, 2048),
        'embedding': (2048,),
    }
    assert logits.shape == (1, 1000)


@pytest.mark.parametrize(
    'block',
    [
        resnet.BasicBlock(width=16),
        resnet.Bottleneck(width=4),
        resnest.Bottleneck(width=4, stride=1, drop_path=0.0),
        regnet.Bottleneck(width=16, group_width=8, stride=1, drop_path=0.0),
    ],
)
def test_a_block_whose_branch_is_dropped_gives_its_input(block):
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 16)).astype(np.float32)

    def drop(method, args, kwargs, context):
        return 0 * args[0] if isinstance(context.module, DropPath) else method(*args, **kwargs)

    @jax.jit
    def run(x):
        whole, variables = block.init_with_output(jax.random.key(0), x, train=False)
        with nn.intercept_methods(drop):
            return whole, block.apply(variables, x, train=False)

    whole, y = run(x)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    assert not np.array_equal(whole, y)


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('conv1.weight', 'params/conv1/kernel'),
        ('bn1.running_mean', 'batch_stats/bn1/mean'),
        ('layer3.5.conv3.weight', 'params/layer3_5/conv3/kernel'),
        ('layer4.0.downsample.0.weight', 'params/layer4_0/downsample_0/kernel'),
        ('layer4.0.downsample.1.running_var', 'batch_stats/layer4_0/downsample_1/var'),
        ('layer1.2.bn2.weight', 'params/layer1_2/bn2/scale'),
        ('fc.bias', 'params/head/bias'),
    ],
)
def test_a_name_of_timm_s_is_one_leaf_of_ours(name, path, leaves):
    (paths,) = [paths for rule in resnet.RULES if (paths := rule.match(name))]
    assert paths == (path,)
    assert path in leaves('resnet50')


@pytest.mark.parity
@pytest.mark.parametrize(('height', 'width'), [(97, 131), (256, 100)])
def test_small_network_is_timm_s_at_other_sizes(agrees_with_timm, height, width):
    agrees_with_timm('resnet18', height, width)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize(('height', 'width'), [(224, 224), (256, 100), (97, 131)])
def test_full_network_is_timm_s(agrees_with_timm, height, width):
    agrees_with_timm('resnet50', height, width)


@pytest.mark.slow
@pytest.mark.parity
def test_full_network_trains_as_timm_s(agrees_with_timm):
    agrees_with_timm('resnet50', 64, 64, rows=4, train=True)
