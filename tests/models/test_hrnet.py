import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax.models import hrnet


def test_answers_are_timm_s(agrees_with_golden):
    agrees_with_golden('hrnet_w18_small', train=False)


@pytest.mark.slow
def test_gradients_are_timm_s(agrees_with_golden):
    agrees_with_golden('hrnet_w18_small')


@pytest.mark.parametrize(
    ('name', 'count'), [('hrnet_w18_small', 11_158_954), ('hrnet_w18', 19_270_494)]
)
def test_parameter_counts_are_the_published_ones(name, count, parameters):
    assert parameters(name, num_classes=10) == count


def test_each_stage_has_one_branch_more_at_half_the_resolution(outline):
    (logits, out), _ = outline('hrnet_w18')
    expected = {'layer1': (56, 56, 256), 'final_layer': (7, 7, 2048), 'embedding': (2048,)}
    branches = [(56, 56, 18), (28, 28, 36), (14, 14, 72), (7, 7, 144)]
    for stage in (2, 3, 4):
        expected |= {f'stage{stage}_{branch}': branches[branch] for branch in range(stage)}
    assert {key: value.shape[1:] for key, value in out.items()} == expected
    assert logits.shape == (1, 1000)


def test_enlarging_repeats_each_value_and_cuts_what_overhangs():
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    enlarged = hrnet._enlarged(x, 2, (1, 4, 3, 1))
    np.testing.assert_array_equal(
        enlarged[0, :, :, 0], [[1, 1, 2], [1, 1, 2], [3, 3, 4], [3, 3, 4]]
    )


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('conv2.weight', 'params/conv2/kernel'),
        ('layer1.3.bn3.running_mean', 'batch_stats/layer1_3/bn3/mean'),
        ('layer1.0.downsample.0.weight', 'params/layer1_0/downsample_0/kernel'),
        ('transition1.0.0.weight', 'params/transition1_0_0/kernel'),
        ('transition1.1.0.1.bias', 'params/transition1_1_0_1/bias'),
        ('transition3.3.0.0.weight', 'params/transition3_3_0_0/kernel'),
        ('stage3.3.branches.2.3.conv1.weight', 'params/stage3_3/branches_2_3/conv1/kernel'),
        ('stage4.2.fuse_layers.0.3.1.running_var', 'batch_stats/stage4_2/fuse_layers_0_3_1/var'),
        ('stage4.2.fuse_layers.3.0.2.0.weight', 'params/stage4_2/fuse_layers_3_0_2_0/kernel'),
        ('stage4.0.fuse_layers.3.0.1.1.weight', 'params/stage4_0/fuse_layers_3_0_1_1/scale'),
        ('incre_modules.3.0.downsample.1.weight', 'params/incre_modules_3_0/downsample_1/scale'),
        ('downsamp_modules.2.0.bias', 'params/downsamp_modules_2_0/bias'),
        ('final_layer.1.running_mean', 'batch_stats/final_layer_1/mean'),
        ('classifier.bias', 'params/head/bias'),
    ],
)
def test_a_name_of_timm_s_is_one_leaf_of_ours(name, path, leaves):
    (paths,) = [paths for rule in hrnet.RULES if (paths := rule.match(name))]
    assert paths == (path,)
    assert path in leaves('hrnet_w18')


@pytest.mark.parity
@pytest.mark.parametrize(('height', 'width'), [(97, 131), (256, 100)])
def test_small_network_is_timm_s_at_other_sizes(agrees_with_timm, height, width):
    agrees_with_timm('hrnet_w18_small', height, width)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize(('height', 'width'), [(224, 224), (256, 100), (97, 131)])
def test_full_network_is_timm_s(agrees_with_timm, height, width):
    agrees_with_timm('hrnet_w18', height, width)


@pytest.mark.slow
@pytest.mark.parity
def test_full_network_trains_as_timm_s(agrees_with_timm):
    agrees_with_timm('hrnet_w18', 64, 64, rows=4, train=True)
