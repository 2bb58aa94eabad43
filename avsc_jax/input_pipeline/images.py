"""Resizes spectrograms and normalises pictures, on the device."""

import jax
import numpy as np

from avsc_jax.types import Array, Float


def resize_bilinear(
    x: Float[Array, 'B H W K'], size: tuple[int, int]
) -> Float[jax.Array, 'B h w K']:
    """Resizes without antialias, as torch's bilinear `interpolate(align_corners=False)`."""
    shape = (x.shape[0], *size, x.shape[3])
    return jax.image.resize(
        x, shape, 'bilinear', antialias=False, precision=jax.lax.Precision.HIGHEST
    )


def normalize(
    images: Float[Array, 'B H W K'], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, 'B H W K']:
    """Returns (images / 255 - mean) / std per channel."""
    scale = 1 / (255 * np.asarray(std, np.float32))
    shift = np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    return images * scale.reshape(1, 1, 1, -1) - shift.reshape(1, 1, 1, -1)
