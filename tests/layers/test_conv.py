import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax.layers.conv import Conv


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
    conv = Conv(1, (3, 3), (2, 2), padding='SAME')
    even = conv.apply({'params': params}, jnp.ones((1, 4, 4, 1)))[0, :, :, 0]
    odd = conv.apply({'params': params}, jnp.ones((1, 5, 5, 1)))[0, :, :, 0]
    np.testing.assert_array_equal(even, [[9, 6], [6, 4]])
    np.testing.assert_array_equal(odd, [[4, 6, 4], [6, 9, 6], [4, 6, 4]])


def test_half_precision_arithmetic_keeps_float32_parameters():
    y, params, _ = run({'dtype': jnp.bfloat16, 'use_bias': True})
    assert y.dtype == jnp.bfloat16
    assert {p.dtype for p in params.values()} == {jnp.dtype('float32')}


def test_groups_that_do_not_divide_the_channels_are_an_error():
    with pytest.raises(ValueError, match='from 6 to 8 channels cannot have 4 groups'):
        run({'groups': 4})
