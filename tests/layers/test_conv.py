from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from avsc_jax.layers.conv import Conv, conv


def run(options: dict, shape=(2, 9, 7, 6)) -> tuple[jax.Array, dict, np.ndarray]:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y, variables = Conv(8, **options).init_with_output(jax.random.key(0), x)
    return y, variables['params'], x


def test_bias_is_added_per_channel():
    x = jnp.ones((1, 2, 2, 3))
    params = {'kernel': jnp.zeros((1, 1, 3, 2)), 'bias': jnp.array([1.0, -2.0])}
    y = Conv(2, use_bias=True).apply({'params': params}, x)
    np.testing.assert_array_equal(y[0, 1, 1], [1.0, -2.0])


@pytest.mark.parametrize(
    ('options', 'padding'),
    [
        # 9 x 7 places: (9, 7) at stride 1, (5, 4) at stride 2, (3, 3) at stride 3
        ({'kernel_size': (5, 3)}, ((2, 2), (1, 1))),
        ({'kernel_size': (5, 3), 'strides': (2, 2)}, ((2, 2), (1, 1))),
        ({'kernel_size': (4, 4), 'strides': (2, 3)}, ((1, 2), (1, 2))),
        ({'kernel_size': (2, 2), 'dilation': (1, 3), 'groups': 2}, ((0, 1), (1, 2))),
        ({'strides': (2, 2)}, ((0, 0), (0, 0))),
    ],
)
def test_same_padding_is_tensorflow_s(options, padding):
    """As many zeros as give ceil(side / stride) places, an odd one below and on the right."""
    same, _, _ = run({**options, 'padding': 'SAME'})
    explicit, _, _ = run({**options, 'padding': padding})
    np.testing.assert_array_equal(same, explicit)


def test_same_padding_follows_the_size_of_the_input():
    params = {'kernel': jnp.ones((3, 3, 1, 1))}
    layer = Conv(1, (3, 3), (2, 2), padding='SAME')
    even = layer.apply({'params': params}, jnp.ones((1, 4, 4, 1)))[0, :, :, 0]
    odd = layer.apply({'params': params}, jnp.ones((1, 5, 5, 1)))[0, :, :, 0]
    np.testing.assert_array_equal(even, [[9, 6], [6, 4]])
    np.testing.assert_array_equal(odd, [[4, 6, 4], [6, 9, 6], [4, 6, 4]])


def test_half_precision_arithmetic_keeps_float32_parameters():
    y, params, _ = run({'dtype': jnp.bfloat16, 'use_bias': True})
    assert y.dtype == jnp.bfloat16
    assert {p.dtype for p in params.values()} == {jnp.dtype('float32')}


def test_groups_that_do_not_divide_the_channels_are_an_error():
    with pytest.raises(ValueError, match='from 6 to 8 channels cannot have 4 groups'):
        run({'groups': 4})


NONE = ((0, 0), (0, 0))
ONE = ((1, 1), (1, 1))
TWO = ((2, 2), (2, 2))


def plain(x, kernel, *, strides, padding, dilation, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=groups,
    )


# kernel [h, w, in / groups, out], groups, strides, padding, dilation; maps of 9 x 7 places
CASES = {
    '1x1': ((1, 1, 6, 8), 1, (1, 1), NONE, (1, 1)),
    '1x1, strides': ((1, 1, 6, 8), 1, (3, 2), NONE, (1, 1)),
    '1x1, padded': ((1, 1, 6, 8), 1, (1, 1), ONE, (1, 1)),
    '1x1, groups': ((1, 1, 3, 8), 2, (2, 2), NONE, (1, 1)),
    '3x3': ((3, 3, 6, 8), 1, (2, 2), ONE, (1, 1)),
    '3x1, dilated': ((3, 1, 6, 8), 1, (1, 1), ((2, 0), (0, 0)), (2, 1)),
    'groups': ((3, 3, 2, 9), 3, (1, 1), ONE, (1, 1)),
    'groups, strides': ((3, 3, 3, 8), 2, (2, 2), ONE, (1, 1)),
    'groups, some as one': ((3, 3, 20, 8), 4, (1, 1), ONE, (1, 1)),
    'two channels made of each': ((3, 3, 1, 12), 6, (1, 1), ONE, (1, 1)),
    'depthwise 3x3': ((3, 3, 1, 6), 6, (1, 1), ONE, (1, 1)),
    'depthwise 3x3, strides': ((3, 3, 1, 6), 6, (2, 2), ONE, (1, 1)),
    'depthwise 3x3, uneven': ((3, 3, 1, 6), 6, (2, 3), ((0, 1), (1, 0)), (1, 1)),
    'depthwise 3x3, dilated': ((3, 3, 1, 6), 6, (1, 2), TWO, (2, 3)),
    'depthwise 5x5': ((5, 5, 1, 6), 6, (1, 1), TWO, (1, 1)),
    'depthwise 5x5, strides': ((5, 5, 1, 6), 6, (2, 2), ((1, 2), (2, 1)), (1, 1)),
    'depthwise 5x3, dilated': ((5, 3, 1, 6), 6, (3, 2), ((4, 5), (0, 2)), (2, 1)),
    'depthwise 7x7, nothing padded': ((7, 7, 1, 6), 6, (1, 1), NONE, (1, 1)),
}


@pytest.mark.parametrize('platform', ['cpu', 'gpu', 'onnx'])
@pytest.mark.parametrize('case', CASES)
def test_every_lowering_is_the_plain_convolution(case, platform):
    """In values and in both gradients."""
    shape, groups, strides, padding, dilation = CASES[case]
    options = dict(strides=strides, padding=padding, dilation=dilation, groups=groups)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 9, 7, shape[2] * groups)).astype(np.float32)
    kernel = rng.standard_normal(shape).astype(np.float32)

    def values_and_gradients(function, x, kernel):
        y, pull = jax.vjp(partial(function, **options), x, kernel)
        return y, *pull(jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    ours = jax.jit(partial(values_and_gradients, partial(conv, platform=platform)))(x, kernel)
    expected = jax.jit(partial(values_and_gradients, plain))(x, kernel)
    for got, wanted in zip(ours, expected, strict=True):
        assert got.shape == wanted.shape
        # float32: of hundreds of products
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=2e-5)


def test_depthwise_gradients_of_half_precision_are_summed_in_float32():
    """16 images of ones: 16 x 32 x 32 is no bfloat16 sum of ones, which ends at 256."""
    x = jnp.ones((16, 32, 32, 2), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 1, 2), jnp.bfloat16)
    options = dict(strides=(1, 1), padding=ONE, groups=2, platform='cpu')
    grad = jax.grad(lambda k: conv(x, k, **options).astype(jnp.float32).sum())(kernel)
    assert grad.dtype == jnp.bfloat16
    assert float(grad[1, 1, 0, 0]) == 16 * 32 * 32


INITIAL = Conv(64, (3, 5), groups=2, use_bias=True, torch_initial=True)


def test_initial_values_are_pytorch_s_where_asked_for():
    """Uniform within 1 / sqrt(inputs of an output), kernel and bias; else normal and zero."""
    x, bound = np.zeros((1, 8, 8, 32), np.float32), (3 * 5 * 16) ** -0.5
    drawn = INITIAL.init(jax.random.key(0), x)['params']
    for values, near in ((drawn['kernel'], 0.02), (drawn['bias'], 0.25)):
        quantiles = np.quantile(values, np.linspace(0, 1, 5)) / bound
        np.testing.assert_allclose(quantiles, np.linspace(-1, 1, 5), atol=near)
        assert np.abs(values).max() <= bound
    usual = Conv(64, (3, 5), groups=2, use_bias=True).init(jax.random.key(0), x)['params']
    assert np.std(usual['kernel']) == pytest.approx(2**0.5 * bound, rel=0.02)
    assert not usual['bias'].any()


@pytest.mark.parity
def test_initial_values_are_distributed_as_pytorch_s():
    torch = pytest.importorskip('torch')
    torch.manual_seed(0)
    peer = torch.nn.Conv2d(32, 64, (3, 5), groups=2)
    drawn = INITIAL.init(jax.random.key(0), np.zeros((1, 8, 8, 32), np.float32))['params']
    places, bound = np.linspace(0, 1, 9), (3 * 5 * 16) ** -0.5
    for ours, theirs, near in (
        (drawn['kernel'], peer.weight, 0.02),
        (drawn['bias'], peer.bias, 0.5),  # of 64 values
    ):
        found, expected = (np.quantile(np.asarray(v), places) for v in (ours, theirs.detach()))
        np.testing.assert_allclose(found, expected, atol=near * bound)
