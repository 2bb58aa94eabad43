import pytest

from avsc_jax.models import regnet


def test_answers_and_gradients_are_timm_s(agrees_with_golden):
    agrees_with_golden('regnetx_small')


@pytest.mark.parametrize(
    ('name', 'count'), [('regnetx_002', 2_319_482), ('regnetx_064', 24_600_506)]
)
def test_parameter_counts_are_the_published_ones(name, count, parameters):
    assert parameters(name, num_classes=10) == count


def test_stages_halve_the_grid(outline):
    (logits, out), _ = outline('regnetx_064')
    assert {key: value.shape[1:] for key, value in out.items()} == {
        'stem': (112, 112, 32),
        's1': (56, 56, 168),
        's2': (28, 28, 392),
        's3': (14, 14, 784),
        's4': (7, 7, 1624),
        'embedding': (1624,),
    }
    assert logits.shape == (1, 1000)


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


@pytest.mark.parity
@pytest.mark.parametrize(('height', 'width'), [(97, 131), (256, 100)])
def test_small_network_is_timm_s_at_other_sizes(agrees_with_timm, height, width):
    agrees_with_timm('regnetx_002', height, width)


@pytest.mark.slow
@pytest.mark.parity
@pytest.mark.parametrize(('height', 'width'), [(224, 224), (256, 100), (97, 131)])
def test_full_network_is_timm_s(agrees_with_timm, height, width):
    agrees_with_timm('regnetx_064', height, width)


@pytest.mark.slow
@pytest.mark.parity
def test_full_network_trains_as_timm_s(agrees_with_timm):
    agrees_with_timm('regnetx_064', 64, 64, rows=4, train=True)
