import pytest

from avsc_jax.models import resnest


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('conv1.0.weight', 'params/conv1_0/kernel'),
        ('conv1.4.running_var', 'batch_stats/conv1_4/var'),
        ('bn1.bias', 'params/bn1/bias'),
        ('layer3.5.conv2.conv.weight', 'params/layer3_5/conv2/conv/kernel'),
        ('layer3.5.conv2.bn0.bias', 'params/layer3_5/conv2/bn0/bias'),
        ('layer3.5.conv2.fc1.bias', 'params/layer3_5/conv2/fc1/bias'),
        ('layer1.0.downsample.1.weight', 'params/layer1_0/downsample_1/kernel'),
        ('layer4.0.downsample.2.running_mean', 'batch_stats/layer4_0/downsample_2/mean'),
        ('fc.weight', 'params/head/kernel'),
    ],
)
def test_a_name_of_timm_s_is_one_leaf_of_ours(name, path, leaves):
    (paths,) = [paths for rule in resnest.RULES if (paths := rule.match(name))]
    assert paths == (path,)
    assert path in leaves('resnest50d')
