"""Pooling of maps, with the edges as PyTorch treats them."""

import flax.linen as nn

from avsc_jax.types import Array, Float


def max_pool(x: Float[Array, 'B H W K']) -> Float[Array, 'B H2 W2 K']:
    """The largest of 3 by 3 at every second place; what is outside never is the largest."""
    around = ((1, 1), (1, 1))
    return nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=around)


def average_pool_3(x: Float[Array, 'B H W K']) -> Float[Array, 'B H2 W2 K']:
    """The mean of 3 by 3 at every second place; what is outside counts as zero."""
    around = ((1, 1), (1, 1))
    return nn.avg_pool(x, window_shape=(3, 3), strides=(2, 2), padding=around)


def average_pool_2(x: Float[Array, 'B H W K']) -> Float[Array, 'B H2 W2 K']:
    """The mean of 2 by 2; an odd side's last places stand alone, and what is outside counts not."""
    beyond = tuple((0, side % 2) for side in x.shape[1:3])
    return nn.avg_pool(
        x,
        window_shape=(2, 2),
        strides=(2, 2),
        padding=beyond,
        count_include_pad=not any(sum(beyond, ())),
    )
