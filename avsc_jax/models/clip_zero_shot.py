"""CLIP without training, models C01 to C03: an image's features against those of class names."""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.linear import Linear
from avsc_jax.types import Array, Float


class ClipZeroShot(nn.Module):
    """Scaled cosine between an encoder's features and the text features of each class.

    Its head is not trained but made from texts, by `text_head`.

    Attributes:
      encoder: the network whose features are taken, `width` wide.
      logit_scale: CLIP's own scale at the end of its training, its upper bound.

    Source: Radford et al. 2021, Section 3.1.2; Okazaki et al. 2021, Section 2.3.
    """

    encoder: str
    width: int
    num_classes: int = 10
    logit_scale: float = 100.0

    @property
    def input_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {f'features/{self.encoder}': jax.ShapeDtypeStruct((1, self.width), jnp.float32)}

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        (name,) = self.input_spec
        embedding = unit(inputs[name])
        out = {'embedding': embedding}
        if not self.num_classes:
            return embedding, out
        cosine = Linear(self.num_classes, use_bias=False, name='head')(embedding)
        return self.logit_scale * cosine, out


def text_head(embedding: Float[Array, 'C D']) -> dict:
    """Makes the network's variables from a text embedding for each class."""
    return {'params': {'head': {'kernel': unit(embedding).T}}}


def unit(x: Float[Array, 'B D']) -> Float[Array, 'B D']:
    """Scales rows to unit vectors."""
    # the bound keeps the zeros of an initialisation from becoming NaN
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


MODELS = {'clip_zero_shot': functools.partial(ClipZeroShot, encoder='clip_rn101', width=512)}
