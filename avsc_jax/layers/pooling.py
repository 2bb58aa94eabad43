"""Pooling of feature maps, with PyTorch's treatment of the edges."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from avsc_jax.types import Array, Float

AROUND = ((0, 0), (1, 1), (1, 1), (0, 0))


def max_pool(x: Float[Array, 'B H W K']) -> Float[Array, 'B H2 W2 K']:
    """Takes the maximum of windows of 3x3 with stride 2 and padding 1 (of minus infinity).

    The gradient goes to the first of equal values, as in PyTorch. XLA's own gradient takes a tenth
    of a ResNet's training step on CPU, because it carries the index of every place along.
    """
    if jax.default_backend() == 'onnx':  # for export: an operator of its own, see `layers.conv`
        padded = jnp.pad(x, AROUND, constant_values=-jnp.inf)
        return nn.max_pool(padded, window_shape=(3, 3), strides=(2, 2), padding='VALID')
    return _max_pool(x)


@jax.custom_vjp
def _max_pool(x):
    return _largest(x)[0]


def _max_pool_forward(x):
    largest, tap = _largest(x)
    return largest, (tap, x)


def _max_pool_backward(saved, grad):
    tap, x = saved
    height, width = (
        side - 2 * pooled for side, pooled in zip(x.shape[1:3], tap.shape[1:3], strict=True)
    )
    zero = jnp.zeros((), grad.dtype)
    total = 0
    for k, (i, j) in enumerate(_TAPS):
        places = ((0, 0, 0), (i - 1, height + 2 - i, 1), (j - 1, width + 2 - j, 1), (0, 0, 0))
        total += lax.pad(jnp.where(tap == k, grad, zero), zero, places)
    return (total,)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)

_TAPS = [(i, j) for i in range(3) for j in range(3)]


def _largest(x):
    """Returns each window's maximum, and the index (0 to 8) of its first place in the window."""
    height, width = (-(-side // 2) for side in x.shape[1:3])
    padded = jnp.pad(x, AROUND, constant_values=-jnp.inf)
    largest = tap = None
    for k, (i, j) in enumerate(_TAPS):
        seen = padded[:, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2]
        if k == 0:
            largest, tap = seen, jnp.zeros(seen.shape, jnp.int32)
        else:
            tap = jnp.where(seen > largest, k, tap)
            largest = jnp.maximum(seen, largest)
    return largest, tap


def largest(x: Float[Array, 'B T K']) -> Float[Array, 'B K']:
    """Takes the maximum over the second axis; its gradient goes to the first of equal values.

    The gradient of `x.max` divides by the number of values that equal the maximum. XLA may compute
    x again for it with other rounding, so that no value does: with its optimisations off, that
    gave NaN.
    """
    places = x.argmax(axis=1, keepdims=True)
    return jnp.take_along_axis(x, places, axis=1)[:, 0]


def average_pool_3(x: Float[Array, 'B H W K']) -> Float[Array, 'B H2 W2 K']:
    """Takes the mean of windows of 3x3 with stride 2 and padding 1; the padding counts as zeros."""
    around = AROUND[1:3]
    if jax.default_backend() == 'onnx':  # jax2onnx overlooks padding in numbers
        x, around = jnp.pad(x, AROUND), 'VALID'
    return nn.avg_pool(x, window_shape=(3, 3), strides=(2, 2), padding=around)


def average_pool_2(x: Float[Array, 'B H W K']) -> Float[Array, 'B H2 W2 K']:
    """Takes the mean of windows of 2x2 with stride 2; an odd side's last window is narrower."""
    beyond = tuple((0, side % 2) for side in x.shape[1:3])
    return nn.avg_pool(
        x,
        window_shape=(2, 2),
        strides=(2, 2),
        padding=beyond,
        count_include_pad=not any(sum(beyond, ())),
    )
