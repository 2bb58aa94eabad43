import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from avsc_jax import models
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.models import efficientnet

NATIVE_SIDES = {  # of pretraining, as timm states them
    'tf_efficientnet_lite0': 224,
    'tf_efficientnet_b0': 224,
    'tf_efficientnet_b1_ns': 240,
    'tf_efficientnet_b5': 456,
    'efficientnet_b5': 448,
    'tf_efficientnetv2_s': 300,
    'efficientnetv2_s': 288,
}


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('tf_efficientnet_b1_ns', 6_525_994),
        ('efficientnet_b5', 28_361_274),
        ('tf_efficientnet_b5', 28_361_274),
        ('efficientnetv2_s', 20_190_298),
        ('tf_efficientnetv2_s', 20_190_298),
    ],
)
def test_parameter_counts_with_ten_classes(name, count, parameters):
    assert parameters(name, num_classes=10) == count


@pytest.mark.parametrize(
    'name',
    [
        'efficientnetv2_small',
        pytest.param('tf_efficientnet_lite0', marks=pytest.mark.slow),
        pytest.param('tf_efficientnet_b0', marks=pytest.mark.slow),
    ],
)
def test_outputs_gradients_and_statistics_are_timm_s(name, agrees_with_golden):
    agrees_with_golden(name)


@pytest.mark.parametrize(('name', 'side'), NATIVE_SIDES.items())
def test_the_pictures_of_pretraining_end_as_one_place_for_32_pixels(name, side, outline):
    assert models.input_spec(name).shape == (1, side, side, 3)
    (logits, out), _ = outline(name)
    last = max(key for key in out if key.startswith('blocks'))
    assert out[last].shape[1:3] == (-(-side // 32),) * 2
    assert logits.shape == (1, 1000)


def test_drop_path_grows_block_by_block_and_stays_below_its_rate():
    rates = []

    def watch(method, args, kwargs, context):
        if isinstance(context.module, DropPath) and context.method_name == '__call__':
            rates.append(context.module.rate)
        return method(*args, **kwargs)

    with nn.intercept_methods(watch):
        models.variable_shapes(models.create_model('tf_efficientnet_lite0', drop_path_rate=0.16))
    # of 16 blocks, those with a shortcut
    expected = [0.01 * block for block in (2, 4, 6, 7, 9, 10, 12, 13, 14)]
    np.testing.assert_allclose(rates, expected)


@pytest.mark.parametrize('kind', ['plain', 'fused', 'separable', 'inverted'])
def test_a_block_whose_branch_is_dropped_gives_its_input(kind):
    block = efficientnet.Block(
        kind=kind,
        features=8,
        kernel=3,
        stride=1,
        expansion=1,
        squeeze=0.25,
        act=nn.silu,
        tensorflow=False,
        drop_path=0.9,
    )
    x = np.random.default_rng(0).standard_normal((1, 4, 4, 8)).astype(np.float32)

    def drop(method, args, kwargs, context):
        return 0 * args[0] if isinstance(context.module, DropPath) else method(*args, **kwargs)

    with nn.intercept_methods(drop):
        run = jax.jit(functools.partial(block.init_with_output, train=False))
        y, _ = run(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)


LIVE = [  # XLA takes minutes to compile the training step of the larger ones
    pytest.param(name, marks=[] if side <= 240 else pytest.mark.slow)
    for name, side in NATIVE_SIDES.items()
]


@pytest.mark.parity
@pytest.mark.parametrize('name', LIVE)
def test_training_is_timm_s_at_an_odd_size(name, agrees_with_timm):
    agrees_with_timm(name, 97, 131, train=True)


@pytest.mark.parity
@pytest.mark.parametrize('name', LIVE)
def test_outputs_are_timm_s_for_spectrograms(name, agrees_with_timm):
    agrees_with_timm(name, 256, 100)


@pytest.mark.parity
@pytest.mark.parametrize('name', LIVE)
def test_outputs_are_timm_s_at_the_native_size(name, agrees_with_timm):
    agrees_with_timm(name, NATIVE_SIDES[name], NATIVE_SIDES[name], rows=1)
