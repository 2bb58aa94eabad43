"""Augmentation of one picture `[H, W, 3]`, float32 in [0, 1], or normalised in the case of erasing.

Each augmentation has three functions. One draws its parameters (`draw_*`) from the distribution of
torchvision's transform, one applies given parameters as torchvision.transforms.v2.functional does
to tensors, and one does both: `f(key, picture, *, ...)`. Blur and flip draw one number in place.
Source: torchvision 0.28; the defaults are those of Okazaki et al. 2021, Sec. 2.2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from avsc_jax.types import Array, Float, Int

Picture = Float[Array, 'H W K']  # with any number of channels
Colors = Float[Array, 'H W 3']
Range = tuple[float, float]

ATTEMPTS = 10  # draws until a rectangle fits, as in torchvision
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
    """Turns the picture about its centre, scales and shifts it, all by random amounts.

    Args:
      degrees: the angle is uniform within ± this.
      translate: largest shifts as parts of the width and the height.
      scale: limits of the scale.

    Example:
      >>> still = dict(degrees=0.0, translate=(0.0, 0.0), scale=(1.0, 1.0))
      >>> random_affine(jax.random.key(0), jnp.eye(2)[..., None], **still)[..., 0].tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    height, width, _ = x.shape
    return affine(x, *draw_affine(key, height, width, degrees, translate, scale))


def draw_affine(
    key: jax.Array, height: int, width: int, degrees: float, translate: Range, scale: Range
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws the arguments of `affine` for `random_affine`.

    Returns:
      Angle in degrees, shifts to the right and down in whole pixels `[2]`, and scale.

    Example:
      >>> angle, shift, scale = draw_affine(
      ...     jax.random.key(0), 20, 40, degrees=0.0, translate=(0.1, 0.1), scale=(2.0, 2.0)
      ... )
      >>> float(angle), float(scale), shift.shape
      (0.0, 2.0, (2,))
    """
    angle_key, shift_key, scale_key = jax.random.split(key, 3)
    limits = np.array(translate) * (width, height)
    shift = jnp.round(jax.random.uniform(shift_key, (2,), minval=-limits, maxval=limits))
    return _uniform(angle_key, (-degrees, degrees)), shift, _uniform(scale_key, scale)


def affine(x: Picture, angle: ArrayLike, shift: ArrayLike, scale: ArrayLike) -> Picture:
    """Rotates clockwise by `angle` degrees, scales, then shifts; nearest pixel, zeros outside.

    Args:
      angle: in degrees.
      shift: `[2]`, to the right and down in pixels.
      scale: above 1 enlarges.

    Example:
      >>> picture = jnp.array([[1.0, 2.0], [3.0, 4.0]])[..., None]
      >>> jax.jit(affine)(picture, 90.0, jnp.zeros(2), 1.0)[..., 0].tolist()
      [[3.0, 1.0], [4.0, 2.0]]
    """
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
    """Changes brightness, contrast, saturation and hue in random order; by default not at all.

    Args:
      brightness, contrast, saturation: the factor is uniform in [max(0, 1 - this), 1 + this].
      hue: the turn of the colour wheel is uniform within ± this, at most 0.5.

    Raises:
      ValueError: hue is outside [0, 0.5].

    Example:
      >>> grey = jnp.full((2, 2, 3), 0.5)
      >>> color_jitter(jax.random.key(0), grey) is grey  # nothing is asked for
      True
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
    """Draws the arguments of `adjust_colors` for `color_jitter`.

    Returns:
      Order of the four operations `[4]`, factors of brightness, contrast and saturation `[3]`, and
      turn of the hue as a part of the circle.

    Example:
      >>> order, factors, turn = draw_colors(jax.random.key(0), 0.0, 0.0, 0.0, hue=0.1)
      >>> sorted(order.tolist()), factors.tolist(), bool(abs(turn) <= 0.1)
      ([0, 1, 2, 3], [1.0, 1.0, 1.0], True)
    """
    order_key, factor_key, hue_key = jax.random.split(key, 3)
    amounts = np.array([brightness, contrast, saturation])
    low, high = np.maximum(0, 1 - amounts), 1 + amounts
    factors = jax.random.uniform(factor_key, (3,), minval=low, maxval=high)
    return jax.random.permutation(order_key, 4), factors, _uniform(hue_key, (-hue, hue))


def adjust_colors(
    x: Colors, order: ArrayLike, factors: ArrayLike, turn: ArrayLike | None
) -> Colors:
    """Changes brightness, contrast, saturation and hue, in the order given.

    Args:
      order: a permutation of BRIGHTNESS, CONTRAST, SATURATION and HUE `[4]`.
      factors: of the first three `[3]`; 1 changes nothing.
      turn: of the hue, a part of the circle; None leaves the hue out.

    Example:
      >>> adjust_colors(jnp.full((1, 1, 3), 0.5), jnp.arange(4), jnp.array([0.5, 1, 1]), None)
      Array([[[0.25, 0.25, 0.25]]], dtype=float32)
    """
    # Brightness, contrast and saturation are one operation: a mixture of the picture with black,
    # with its mean grey, or with its own greys.

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
    """Turns the hue by a part of the colour circle; saturation and value (HSV) are kept.

    Example:
      >>> red = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> jax.jit(shift_hue)(red, 0.5).tolist()  # half the circle away from red is cyan
      [[[0.0, 1.0, 1.0]]]
    """
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
    """Blurs the picture by a Gaussian of random width.

    Args:
      size: number of taps along each axis, odd.
      sigma: limits of the standard deviation in pixels, which is uniform.

    Raises:
      ValueError: as in `blur`.

    Example:
      >>> gaussian_blur(jax.random.key(0), jnp.ones((2, 2, 1)), size=1)[..., 0].tolist()
      [[1.0, 1.0], [1.0, 1.0]]
    """
    return blur(x, _uniform(key, sigma), size)


def blur(x: Picture, sigma: ArrayLike, size: int) -> Picture:
    """Convolves with a Gaussian; at the borders the picture is mirrored about its edge pixels.

    Args:
      sigma: standard deviation in pixels.
      size: number of taps along each axis.

    Raises:
      ValueError: the size is even, or half of it reaches beyond the picture's shorter side.

    Example:
      >>> blur(jnp.array([[0.0, 3.0, 0.0]] * 3)[..., None], 1e6, size=3)[1, :, 0].round(3).tolist()
      [2.0, 1.0, 2.0]
    """
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
    """Sets a random rectangle to zero, with some probability.

    Args:
      probability: that anything is erased.
      area: limits of the rectangle's part of the picture.
      aspect: limits of its height over its width, which is log-uniform.

    Example:
      >>> random_erasing(jax.random.key(0), jnp.ones((2, 2, 1)), probability=0.0).sum().item()
      4.0
    """
    height, width, _ = x.shape
    return erase(x, *draw_erasing(key, height, width, probability, area, aspect))


def draw_erasing(
    key: jax.Array, height: int, width: int, probability: float, area: Range, aspect: Range
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draws the arguments of `erase` for `random_erasing`.

    Returns:
      Top, left, height and width of a rectangle in pixels; the height is 0 if nothing is erased.

    Example:
      >>> *_, height, width = draw_erasing(
      ...     jax.random.key(0), 8, 8, probability=1.0, area=(0.25, 0.25), aspect=(1.0, 1.0)
      ... )
      >>> int(height), int(width)  # a square of a quarter of the area
      (4, 4)
    """
    chance_key, side_key, place_key = jax.random.split(key, 3)
    heights, widths = _draw_sides(side_key, height * width, area, aspect)
    fits = (heights < height) & (widths < width)
    erases = fits.any() & (jax.random.uniform(chance_key) < probability)
    h, w = jnp.where(erases, heights[fits.argmax()], 0), widths[fits.argmax()]
    return *_draw_place(place_key, height - h, width - w), h, w


def erase(
    x: Picture, top: ArrayLike, left: ArrayLike, height: ArrayLike, width: ArrayLike
) -> Picture:
    """Sets a rectangle to zero; its sides are in pixels.

    Example:
      >>> erase(jnp.ones((2, 3, 1)), top=0, left=1, height=1, width=2)[..., 0].tolist()
      [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    row, column = jnp.arange(x.shape[0])[:, None], jnp.arange(x.shape[1])[None, :]
    hit = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
    return jnp.where(hit[..., None], 0, x)


def horizontal_flip(key: jax.Array, x: Picture, *, probability: float = 0.5) -> Picture:
    """Exchanges left and right with this probability.

    Example:
      >>> picture = jnp.array([[[1.0], [2.0]]])
      >>> horizontal_flip(jax.random.key(0), picture, probability=1.0)[..., 0].tolist()
      [[2.0, 1.0]]
    """
    return jnp.where(jax.random.uniform(key) < probability, x[:, ::-1], x)


def random_resized_crop(
    key: jax.Array,
    x: Picture,
    extent: Int[Array, '2'] | None = None,
    *,
    size: tuple[int, int],
    area: Range = (0.08, 1.0),
    aspect: Range = (3 / 4, 4 / 3),
) -> Float[Array, 'h w K']:
    """Cuts a random rectangle out of the picture and resizes it.

    Args:
      extent: height and width of what is the picture, in the top left corner; None: all.
      size: height and width of the result.
      area: limits of the rectangle's part of the picture.
      aspect: limits of its width over its height, which is log-uniform.

    Example:
      >>> key, picture = jax.random.key(0), jnp.ones((8, 8, 3))
      >>> jax.eval_shape(lambda x: random_resized_crop(key, x, size=(4, 6)), picture).shape
      (4, 6, 3)
    """
    height, width = x.shape[:2] if extent is None else extent
    return resized_crop(x, *draw_crop(key, height, width, area, aspect), size)


def draw_crop(
    key: jax.Array, height: ArrayLike, width: ArrayLike, area: Range, aspect: Range
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Draws the rectangle of `random_resized_crop`.

    Returns:
      Top, left, height and width in pixels. If none of ten drawn rectangles fits into the picture,
      the largest of an allowed aspect in its middle.

    Example:
      >>> draw = lambda key: draw_crop(key, 8, 8, area=(0.25, 0.25), aspect=(1.0, 1.0))
      >>> *_, height, width = jax.jit(draw)(jax.random.key(0))
      >>> int(height), int(width)  # a square of a quarter of the area
      (4, 4)
    """
    side_key, place_key = jax.random.split(key)
    widths, heights = _draw_sides(side_key, height * width, area, aspect)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    h, w = heights[fits.argmax()], widths[fits.argmax()]
    drawn = jnp.array([*_draw_place(place_key, height - h, width - w), h, w])
    h = jnp.minimum(height, jnp.round(width / aspect[0]).astype(int))
    w = jnp.minimum(width, jnp.round(height * aspect[1]).astype(int))
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
    """Cuts out a rectangle and resizes it bilinearly, with antialiasing.

    Args:
      size: height and width of the result.

    Example:
      >>> shrink = jax.jit(lambda x: resized_crop(x, 0, 0, height=1, width=2, size=(1, 1)))
      >>> shrink(jnp.arange(4.0).reshape(1, 4, 1)).tolist()
      [[[0.5]]]
    """
    rows = _triangles(top, height, x.shape[0], size[0])
    columns = _triangles(left, width, x.shape[1], size[1])
    x = jnp.einsum('uh,hwk->uwk', rows, x, precision='highest')
    return jnp.einsum('vw,uwk->uvk', columns, x, precision='highest')


def _triangles(start: ArrayLike, length: ArrayLike, total: int, size: int) -> jax.Array:
    """Weights `[size, total]` that resize the `length` pixels from `start` on to `size` pixels."""
    scale = length / size
    centre = start + (jnp.arange(size)[:, None] + 0.5) * scale - 0.5
    place = jnp.arange(total)[None, :]
    weight = jnp.maximum(0, 1 - jnp.abs(place - centre) / jnp.maximum(scale, 1))
    weight = jnp.where((place >= start) & (place < start + length), weight, 0)
    return weight / weight.sum(1, keepdims=True)


def _draw_sides(
    key: jax.Array, pixels: ArrayLike, area: Range, aspect: Range
) -> tuple[jax.Array, jax.Array]:
    """Draws the sides of ten rectangles in whole pixels: root of area · ratio, of area / ratio."""
    area_key, aspect_key = jax.random.split(key)
    areas = pixels * _uniform(area_key, area, (ATTEMPTS,))
    ratios = jnp.exp(_uniform(aspect_key, tuple(np.log(aspect)), (ATTEMPTS,)))
    sides = jnp.sqrt(areas * ratios), jnp.sqrt(areas / ratios)
    return tuple(jnp.round(side).astype(int) for side in sides)


def _draw_place(
    key: jax.Array, room_down: jax.Array, room_right: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draws (top, left), each uniform from 0 to the given room, both ends included."""
    down_key, right_key = jax.random.split(key)
    return (
        jax.random.randint(down_key, (), 0, room_down + 1),
        jax.random.randint(right_key, (), 0, room_right + 1),
    )
