"""The base class of image networks: their options, the check of their input, and their head."""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.types import Array, Float

SMALLEST_SIDE = 32  # pixels of the image to one place of the last map


class Backbone(nn.Module, kw_only=True):
    """Images -> (logits, out); a subclass adds its layers and their sizes.

    Attributes:
      num_classes: 1000, as ImageNet's published weights have; 0 leaves out the head.
      image_size: side of the square images of `input_spec`; a convolutional network takes others.
      drop_rate: the dropout rate before the head.
      dtype: the type of feature maps and of the arithmetic of convolutions; parameters, statistics,
        norms and head are float32.
      remat: whether to recompute the inside of a block for its gradient, to save memory.
    """

    num_classes: int = 1000
    in_chans: int = 3
    image_size: int = 224
    drop_rate: float = 0.0
    dtype: Any = jnp.float32
    remat: bool = False

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        shape = (1, self.image_size, self.image_size, self.in_chans)
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def checked(self, images: Float[Array, 'B H W K']) -> Float[Array, 'B H W K']:
        """Returns the images in the network's type; an error if their shape does not suit it."""
        height, width, channels = images.shape[1:]
        if channels != self.in_chans or min(height, width) < SMALLEST_SIDE:
            raise ValueError(
                f'images are {height}x{width} with {channels} channels: this network takes '
                f'{self.in_chans} channels (in_chans) and sides of {SMALLEST_SIDE} pixels or more'
            )
        return images.astype(self.dtype)

    def run(self, block: nn.Module, x: Any, *, train: bool) -> Any:
        """Applies a block to one feature map or several, rematerialised if `remat` is set."""

        def call(block, x):
            return block(x, train=train)

        return nn.remat(call)(block, x) if self.remat else call(block, x)

    def drop_path_rates(self, depths: tuple[int, ...], last: float) -> Iterator[float]:
        """Returns each block's rate of stochastic depth, in equal steps from 0 to `last`."""
        count = sum(depths)
        return (last * index / max(1, count - 1) for index in range(count))

    def classified(
        self, x: Float[Array, 'B H W K'], out: dict[str, Array], *, train: bool
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        """Returns (logits, `out` with 'embedding'); without classes, the embedding and `out`."""
        embedding = x.mean(axis=(1, 2), dtype=jnp.float32)
        out = {**out, 'embedding': embedding}
        if not self.num_classes:
            return embedding, out
        x = Dropout(self.drop_rate, name='head_drop')(embedding, train=train)
        return Linear(self.num_classes, name='head')(x), out
