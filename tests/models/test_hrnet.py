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
