import pytest

from avsc_jax.models import hrnet


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
