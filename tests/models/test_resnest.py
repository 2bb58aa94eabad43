import pytest

from avsc_jax.models import resnest


def test_answers_and_gradients_are_timm_s(agrees_with_golden):
    agrees_with_golden('resnest14d')


@pytest.mark.parametrize(('name', 'count'), [('resnest14d', 8_583_178), ('resnest50d', 25_454_730)])
def test_parameter_counts_are_the_published_ones(name, count, parameters):
    assert parameters(name, num_classes=10) == count


def test_stages_halve_the_grid(outline):
    (logits, out), _ = outline('resnest50d')
    assert {key: value.shape[1:] for key, value in out.items()} == {
        'layer1': (56, 56, 256),
        'layer2': (28, 28, 512),
        'layer3': (14, 14, 1024),
        'layer4': (7, 7, 2048),
        'embedding': (2048,),
    }
    assert logits.shape == (1, 1000)


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


@pytest.mark.parity
@pytest.mark.parametrize(('height', 'width'), [(97, 131), (256, 100)])
def test_small_network_is_timm_s_at_other_sizes(agrees_with_timm, height, width):
    agrees_with_timm('resnest14d', height, width)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize(('height', 'width'), [(224, 224), (256, 100), (97, 131)])
def test_full_network_is_timm_s(agrees_with_timm, height, width):
    agrees_with_timm('resnest50d', height, width)


@pytest.mark.slow
@pytest.mark.parity
def test_full_network_trains_as_timm_s(agrees_with_timm):
    agrees_with_timm('resnest50d', 64, 64, rows=4, train=True)
