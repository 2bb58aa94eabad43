"""Resizes, crops and normalises pictures on the device."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.types import Array, Float, UInt8


@lru_cache(maxsize=64)
def _resize_weights(
    length: int, resized: int, start: int, size: int, interpolation: str
) -> np.ndarray:
    """Returns rows start ... start + size of Pillow's resize to `resized`, as `[size, length]`.

    Keys' kernel with a = -0.5 or, for 'bilinear', a triangle; stretched by the scale when
    shrinking, each row summing to one.
    """
    scale = length / resized
    stretch = max(scale, 1.0)
    centres = (np.arange(start, start + size) + 0.5) * scale - 0.5
    x = np.abs(np.arange(length)[None, :] - centres[:, None]) / stretch
    if interpolation == 'bilinear':
        weights = np.maximum(1 - x, 0)
    elif interpolation == 'bicubic':
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    else:
        raise ValueError(f"interpolation is {interpolation!r}, it must be 'bicubic' or 'bilinear'")
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _round_to_byte(x: jax.Array) -> jax.Array:
    return jnp.clip(jnp.floor(x + 0.5), 0, 255)


def resize_and_crop(
    images: UInt8[Array, 'B H W K'],
    size: int,
    *,
    resized: int | None = None,
    keep_aspect: bool = True,
    interpolation: str = 'bicubic',
) -> Float[jax.Array, 'B size size K']:
    """Resizes with antialias and crops the centre square of side `size`; values 0 ... 255.

    Equal to Pillow's `resize` (which rounds to bytes after each of its two passes) followed by
    torchvision's centre crop, which is how CLIP and timm's networks see pictures.

    Args:
      resized: what the short side becomes before the crop, at least `size`, the default.
      keep_aspect: else both sides become `resized`.
      interpolation: 'bicubic' or 'bilinear'.

    Source: Radford et al. 2021, preprocessing of the released models.
    """
    height, width = images.shape[1:3]
    resized, short = resized or size, min(height, width)
    sides = (resized, resized)
    if keep_aspect:
        sides = (int(resized * height / short), int(resized * width / short))
    top, left = (round((n - size) / 2) for n in sides)
    rows = _resize_weights(height, sides[0], top, size, interpolation)
    columns = _resize_weights(width, sides[1], left, size, interpolation)
    x = images.astype(jnp.float32)
    high = jax.lax.Precision.HIGHEST  # bytes must not be rounded to bfloat16 on TPUs
    x = _round_to_byte(jnp.einsum('bhwk,vw->bhvk', x, columns, precision=high))
    return _round_to_byte(jnp.einsum('bhvk,uh->buvk', x, rows, precision=high))


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
