"""Dropout that is cheap, and independent of how the batch is spread over devices."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.types import Array, Bool, Float, Int, UInt32


class Dropout(nn.Module):
    """Sets a share `rate` of the values to 0 and scales the rest by 1 / (1 - rate).

    A row's random numbers come from its index in the global batch, never from the device.

    Source: Srivastava et al. 2014, in the inverted form.
    """

    rate: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, 'B *axes'],
        *,
        train: bool,
        place: Int[Array, 'rows'] | None = None,
    ) -> Float[Array, 'B *axes']:
        """Drops values when `train`; the key `dropout` must be the same on every device.

        Args:
          place: the index of each row in the global batch, or, if x has k rows for each entry
            (frames of a clip), of each entry; None: x is the global batch.
        """
        if not train or self.rate == 0:
            return x
        bits = self._bits(x.shape[0], math.prod(x.shape[1:]), place)
        return jnp.where(bits.reshape(x.shape) >= self._limit, x / (1 - self.rate), 0)

    @property
    def _limit(self) -> Array:
        return jnp.uint32(round(self.rate * 2**32))

    def _bits(self, count: int, words: int, place: Array | None) -> UInt32[Array, 'B D']:
        rows = jnp.arange(count, dtype=jnp.uint32)
        if place is not None:
            each = count // len(place)
            rows = place.astype(jnp.uint32).repeat(each) * each + rows % each
        return random_bits(self.make_rng('dropout'), rows, words)


class ModalityDropout(Dropout):
    """Leaves out one of a row's modalities with probability `rate`, each as often; never the last.

    Source: Neverova et al. 2016 (ModDrop), Sec. 4.2, which drops each by itself.
    """

    @nn.compact
    def __call__(
        self,
        is_there: Bool[Array, 'B M'],
        *,
        train: bool,
        place: Int[Array, 'rows'] | None = None,
    ) -> Bool[Array, 'B M']:
        """Returns which modalities are kept: all that are there unless `train`; see Dropout."""
        if not train or self.rate == 0:
            return is_there
        count, modalities = is_there.shape
        bits = self._bits(count, 2, place)
        chosen = (bits[:, 1] % modalities)[:, None] == jnp.arange(modalities)[None]
        is_dropped = (bits[:, :1] < self._limit) & chosen
        return is_there & ~(is_dropped & is_there.all(axis=1, keepdims=True))


def random_bits(key: jax.Array, rows: UInt32[Array, 'B'], count: int) -> UInt32[Array, 'B D']:
    """Draws random words for each row that depend only on the key, the row's number and the place.

    JAX's own generator, threefry, is a chain of loops on CPU and takes a seventh of C04's whole
    training step; a hash of the counter passes through one fused loop. The seed of a row is a hash
    of the key and the row; a word is a hash of that seed and the place.

    Source: Salmon et al. 2011 (counters in place of state); the hash is `triple32` of
    Wellons, "Prospecting for hash functions", 2018.
    """
    low, high = jax.random.key_data(key)[..., -2], jax.random.key_data(key)[..., -1]
    seeds = _hash(_hash(rows ^ low) ^ high)
    places = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    return _hash(places[None, :] ^ seeds[:, None])


def _hash(x: Array) -> Array:
    x = (x ^ (x >> 17)) * jnp.uint32(0xED5AD4BB)
    x = (x ^ (x >> 11)) * jnp.uint32(0xAC4C1B51)
    x = (x ^ (x >> 15)) * jnp.uint32(0x31848BAB)
    return x ^ (x >> 14)
