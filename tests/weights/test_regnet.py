import pytest

from avsc_jax.models import regnet


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('stem.conv.weight', 'params/stem/conv/kernel'),
        ('stem.bn.running_var', 'batch_stats/stem/bn/var'),
        ('s3.b10.conv2.conv.weight', 'params/s3_b10/conv2/conv/kernel'),
        ('s4.b1.downsample.bn.weight', 'params/s4_b1/downsample/bn/scale'),
        ('head.fc.weight', 'params/head/kernel'),
    ],
)
def test_a_name_of_timm_s_is_one_leaf_of_ours(name, path, leaves):
    (paths,) = [paths for rule in regnet.RULES if (paths := rule.match(name))]
    assert paths == (path,)
    assert path in leaves('regnetx_064')
