"""Augmentation of one picture `[H, W, 3]`, float32 in [0, 1]; erasing works on the normalised one.

Each op is two: `draw_*` draws its parameters from the distribution of torchvision's transform, and
another function applies given parameters as torchvision.transforms.v2.functional does to tensors.
Source: torchvision 0.28; the defaults are those of Okazaki et al. 2021, Sec. 2.2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from avsc_jax.types import Array, Float

Picture = Float[Array, 'H W K']  # of any channels
Colors = Float[Array, 'H W 3']
Range = tuple[float, float]

ATTEMPTS = 10  # of torchvision to draw a rectangle that fits
GREY = (0.2989, 0.587, 0.114)  # ITU-R BT.601 luma, in torchvision's digits
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # in torchvision's `order`


def _uniform(key: jax.Array, limits: Range, shape: tuple[int, ...] = ()) -> jax.Array:
    return jax.random.uniform(key, shape, minval=limits[0], maxval=limits[1])


def random_affine(
    key: jax.Array,
    x: Picture,
    *,
    degrees: float = 10.0,
    translate: Range = (0.1, 0.1),
    scale: Range = (0.5, 1.5),
) -> Picture:
    """The picture turned, shifted and scaled about its centre.

    Args:
      degrees: the angle is uniform within ± this.
      translate: largest shifts as parts of the width and the height.
      scale: limits of the scale.
    """
    height, width, _ = x.shape
    return affine(x, *draw_affine(key, height, width, degrees, translate, scale))


def draw_affine(
    key: jax.Array, height: int, width: int, degrees: float, translate: Range, scale: Range
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(angle in degrees, shift right and down in whole pixels `[2]`, scale)."""
    angle_key, shift_key, scale_key = jax.random.split(key, 3)
    limits = np.array(translate) * (width, height)
    shift = jnp.round(jax.random.uniform(shift_key, (2,), minval=-limits, maxval=limits))
    return _uniform(angle_key, (-degrees, degrees)), shift, _uniform(scale_key, scale)


def affine(x: Picture, angle: ArrayLike, shift: ArrayLike, scale: ArrayLike) -> Picture:
    """Rotation clockwise by `angle` degrees, scale, then shift; nearest pixel, zeros outside."""
    height, width, channels = x.shape
    cos, sin = jnp.cos(jnp.radians(angle)) / scale, jnp.sin(jnp.radians(angle)) / scale
    right = (jnp.arange(width) - (width - 1) / 2 - shift[0])[None, :]  # from the new centre
    down = (jnp.arange(height) - (height - 1) / 2 - shift[1])[:, None]
    column = jnp.round(cos * right + sin * down + (width - 1) / 2).astype(int)
    row = jnp.round(cos * down - sin * right + (height - 1) / 2).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixel = jnp.where(inside, row * width + column, 0)
    taken = x.reshape(-1, channels).at[pixel].get(mode='promise_in_bounds')
    return jnp.where(inside[..., None], taken, 0)


def color_jitter(
    key: jax.Array,
    x: Colors,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Colors:
    """Brightness, contrast, saturation and hue changed in random order; by default not at all.

    Args:
      brightness, contrast, saturation: the factor is uniform in [max(0, 1 - this), 1 + this].
      hue: the turn of the colour wheel is uniform within ± this, at most 0.5.
    """
    if not 0 <= hue <= 0.5:
        raise ValueError(f'hue must lie in [0, 0.5], not {hue}')
    if not any((brightness, contrast, saturation, hue)):
        return x
    order, factors, turn = draw_colors(key, brightness, contrast, saturation, hue)
    return adjust_colors(x, order, factors, turn if hue else None)


def draw_colors(
    key: jax.Array, brightness: float, contrast: float, saturation: float, hue: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(order of the four operations, their factors `[3]`, turn of the hue)."""
    order_key, factor_key, hue_key = jax.random.split(key, 3)
    amounts = np.array([brightness, contrast, saturation])
    low, high = np.maximum(0, 1 - amounts), 1 + amounts
    factors = jax.random.uniform(factor_key, (3,), minval=low, maxval=high)
    return jax.random.permutation(order_key, 4), factors, _uniform(hue_key, (-hue, hue))


def adjust_colors(
    x: Colors, order: ArrayLike, factors: ArrayLike, turn: ArrayLike | None
) -> Colors:
    """Applies the operations in `order`; without a `turn` the hue stays.

    The first three are one: a mixture of the picture with black, its mean grey, or its own greys.
    """

    def step(x: Colors, operation: jax.Array) -> tuple[Colors, None]:
        grey = (x * np.array(GREY, np.float32).reshape(1, 1, 3)).sum(-1, keepdims=True)
        other = jnp.where(operation == CONTRAST, grey.mean(), grey)
        other = jnp.where(operation == BRIGHTNESS, 0, other)
        factor = jnp.where(operation == HUE, 1, factors[jnp.minimum(operation, SATURATION)])
        mixed = jnp.clip(factor * x + (1 - factor) * other, 0, 1)
        return mixed if turn is None else jnp.where(
            operation == HUE, shift_hue(x, turn), mixed
        ), None

    return jax.lax.scan(step, x, order)[0]  # unrolled, XLA compiles for minutes


def shift_hue(x: Colors, turn: ArrayLike) -> Colors:
    """Turns the colour wheel by a part of the circle, with saturation and value of HSV kept."""
    red, green, blue = x[..., 0], x[..., 1], x[..., 2]
    value = x.max(-1)
    chroma = value - x.min(-1)
    divisor = jnp.where(chroma == 0, 1, chroma)
    hue = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )  # in sixths of the circle
    k = (jnp.array([5, 3, 1]).reshape(1, 1, 3) + (hue + 6 * turn)[..., None]) % 6
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)


def gaussian_blur(
    key: jax.Array, x: Picture, *, size: int = 11, sigma: Range = (0.1, 2.0)
) -> Picture:
    """The picture blurred by `size` taps each way; sigma in pixels is uniform in its limits."""
    return blur(x, _uniform(key, sigma), size)


def blur(x: Picture, sigma: ArrayLike, size: int) -> Picture:
    """Gaussian of `size` taps along both axes, the borders mirrored (without the edge itself)."""
    height, width, channels = x.shape
    reach = size // 2
    if min(height, width) <= reach or size % 2 == 0:
        raise ValueError(f'a blur of {size} taps (odd) needs sides over {reach}, not {x.shape[:2]}')
    taps = jax.nn.softmax(-0.5 * (jnp.arange(-reach, reach + 1) / sigma) ** 2)
    # Sums of shifted products: on a CPU less than half the time of banded matrix products. The
    # colours lie in the columns, so that its vectors are long; padding both ways first is slower.
    x = jnp.pad(x.reshape(height, -1), ((reach, reach), (0, 0)), mode='reflect')
    x = sum(tap * x[k : k + height] for k, tap in enumerate(taps)).reshape(height, width, -1)
    x = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)), mode='reflect').reshape(height, -1)
    x = sum(tap * x[:, channels * k : channels * (k + width)] for k, tap in enumerate(taps))
    return x.reshape(height, width, channels)


def random_erasing(
    key: jax.Array,
    x: Picture,
    *,
    probability: float = 0.5,
    area: Range = (0.02, 0.33),
    aspect: Range = (0.3, 3.3),
) -> Picture:
    """Zeroes, with this probability, a rectangle: its area as a part of the picture's, its
    height over width log-uniform in `aspect`."""
    height, width, _ = x.shape
    return erase(x, *draw_erasing(key, height, width, probability, area, aspect))


def draw_erasing(
    key: jax.Array, height: int, width: int, probability: float, area: Range, aspect: Range
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(top, left, height, width) of the rectangle, of no height where nothing is erased."""
    chance_key, side_key, place_key = jax.random.split(key, 3)
    heights, widths = _draw_sides(side_key, height * width, area, aspect)
    fits = (heights < height) & (widths < width)
    erases = fits.any() & (jax.random.uniform(chance_key) < probability)
    h, w = jnp.where(erases, heights[fits.argmax()], 0), widths[fits.argmax()]
    return *_draw_place(place_key, height - h, width - w), h, w


def erase(
    x: Picture, top: ArrayLike, left: ArrayLike, height: ArrayLike, width: ArrayLike
) -> Picture:
    """Zeroes a rectangle."""
    row, column = jnp.arange(x.shape[0])[:, None], jnp.arange(x.shape[1])[None, :]
    hit = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    return jnp.where(hit[..., None], 0, x)


def horizontal_flip(key: jax.Array, x: Picture, *, probability: float = 0.5) -> Picture:
    """Left and right exchanged with this probability."""
    return jnp.where(jax.random.uniform(key) < probability, x[:, ::-1], x)


def random_resized_crop(
    key: jax.Array,
    x: Picture,
    *,
    size: tuple[int, int],
    area: Range = (0.08, 1.0),
    aspect: Range = (3 / 4, 4 / 3),
) -> Float[Array, 'h w K']:
    """A rectangle of the picture, resized to `size` (height, width).

    Args:
      area: limits of the rectangle's part of the picture.
      aspect: limits of its width over its height, which is log-uniform.
    """
    height, width, _ = x.shape
    return resized_crop(x, *draw_crop(key, height, width, area, aspect), size)


def draw_crop(
    key: jax.Array, height: int, width: int, area: Range, aspect: Range
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(top, left, height, width); where none of ten fits, the largest in the middle."""
    side_key, place_key = jax.random.split(key)
    widths, heights = _draw_sides(side_key, height * width, area, aspect)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    h, w = heights[fits.argmax()], widths[fits.argmax()]
    drawn = jnp.array([*_draw_place(place_key, height - h, width - w), h, w])
    h, w = min(height, round(width / aspect[0])), min(width, round(height * aspect[1]))
    middle = jnp.array([(height - h) // 2, (width - w) // 2, h, w])
    return tuple(jnp.where(fits.any(), drawn, middle))


def resized_crop(
    x: Picture,
    top: ArrayLike,
    left: ArrayLike,
    height: ArrayLike,
    width: ArrayLike,
    size: tuple[int, int],
) -> Float[Array, 'h w K']:
    """The rectangle resized bilinearly, with antialias; nothing outside it is looked at."""
    rows = _triangles(top, height, x.shape[0], size[0])
    columns = _triangles(left, width, x.shape[1], size[1])
    x = jnp.einsum('uh,hwk->uwk', rows, x, precision='highest')
    return jnp.einsum('vw,uwk->uvk', columns, x, precision='highest')


def _triangles(start: ArrayLike, length: ArrayLike, total: int, size: int) -> jax.Array:
    """`[size, total]`: how each of `size` pixels is made of those from `start` on."""
    scale = length / size
    centre = start + (jnp.arange(size)[:, None] + 0.5) * scale - 0.5
    place = jnp.arange(total)[None, :]
    weight = jnp.maximum(0, 1 - jnp.abs(place - centre) / jnp.maximum(scale, 1))
    weight = jnp.where((place >= start) & (place < start + length), weight, 0)
    return weight / weight.sum(1, keepdims=True)


def _draw_sides(
    key: jax.Array, pixels: int, area: Range, aspect: Range
) -> tuple[jax.Array, jax.Array]:
    """Sides of ten rectangles in whole pixels, of these areas and log-uniform ratios."""
    area_key, aspect_key = jax.random.split(key)
    areas = pixels * _uniform(area_key, area, (ATTEMPTS,))
    ratios = jnp.exp(_uniform(aspect_key, tuple(np.log(aspect)), (ATTEMPTS,)))
    sides = jnp.sqrt(areas * ratios), jnp.sqrt(areas / ratios)
    return tuple(jnp.round(side).astype(int) for side in sides)


def _draw_place(
    key: jax.Array, room_down: jax.Array, room_right: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(top, left), each uniform from 0 to the room there is."""
    down_key, right_key = jax.random.split(key)
    return (
        jax.random.randint(down_key, (), 0, room_down + 1),
        jax.random.randint(right_key, (), 0, room_right + 1),
    )
