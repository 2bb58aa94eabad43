"""RandAugment of one picture `[H, W, 3]` in [0, 1]: a few random operations of one strength.

An operation is one of three kinds: pixels move, grey levels go through a table, or the picture is
mixed with a version of itself. Under vmap each picture gets an operation of its own, so all kinds
run for every picture, with settings that change nothing where it is another one's turn.

Source: Cubuk et al. 2020 (RandAugment); operations, strengths and rounding to grey levels are those
of torchvision 0.28 (transforms.v2.RandAugment, 31 levels, nearest pixel, black outside).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from avsc_jax.augment.image import GREY, Colors
from avsc_jax.types import Array, Float, Int

OPS = (
    'Identity', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY', 'Rotate', 'Brightness', 'Color',
    'Contrast', 'Sharpness', 'Posterize', 'Solarize', 'AutoContrast', 'Equalize',
)  # fmt: skip
SIGNED = OPS[1:10]  # whose strength is negative half of the time
STRONGEST = 30


def rand_augment(key: jax.Array, x: Colors, *, num_ops: int = 2, magnitude: int = 9) -> Colors:
    """Applies `num_ops` operations in turn, each drawn from all 14 of OPS; gives whole grey levels.

    Args:
      num_ops: how many; an operation may come twice.
      magnitude: the strength of all of them, 0 to 30.

    Raises:
      ValueError: a number is outside its range.

    Example:
      >>> same = rand_augment(jax.random.key(0), jnp.ones((4, 4, 3)), num_ops=0)
      >>> float(same.min())
      1.0
    """
    if not (isinstance(num_ops, int) and num_ops >= 0):
        raise ValueError(f'rand_augment has num_ops={num_ops!r}; it must be a whole number, 0 up')
    strengths = op_strengths(magnitude, *x.shape[:2])
    if not num_ops:
        return x

    def step(x: Colors, drawn: tuple[jax.Array, jax.Array]) -> tuple[Colors, None]:
        op, sign = drawn
        return apply_op(x, op, sign * jnp.asarray(strengths)[op]), None

    return jax.lax.scan(step, x, draw_ops(key, num_ops))[0]


def draw_ops(key: jax.Array, num_ops: int) -> tuple[Int[Array, 'num_ops'], Float[Array, 'num_ops']]:
    """Draws the indices into OPS, all equally likely, and 1 or -1 for each; unsigned ones have 1.

    Example:
      >>> ops, signs = draw_ops(jax.random.key(0), 2)
      >>> ops.shape, bool((jnp.abs(signs) == 1).all())
      ((2,), True)
    """
    op_key, sign_key = jax.random.split(key)
    ops = jax.random.randint(op_key, (num_ops,), 0, len(OPS))
    is_signed = jnp.array([name in SIGNED for name in OPS])[ops]
    is_negative = is_signed & jax.random.bernoulli(sign_key, shape=(num_ops,))
    return ops, jnp.where(is_negative, -1.0, 1.0)


def op_strengths(magnitude: int, height: int, width: int) -> np.ndarray:
    """Returns the strength of each of OPS `[14]` at a magnitude.

    That is a slope, pixels, degrees, the factor less 1, bits that are kept, or a threshold.

    Raises:
      ValueError: the magnitude is no whole number from 0 to 30.

    Example:
      >>> strengths = op_strengths(30, 331, 331)
      >>> strengths[[1, 3, 5, 6, 10]].round(3).tolist()
      [0.3, 150.0, 30.0, 0.9, 4.0]
    """
    if not (isinstance(magnitude, int) and 0 <= magnitude <= STRONGEST):
        raise ValueError(
            f'rand_augment has magnitude={magnitude!r}; it must be a whole number from 0 to '
            f'{STRONGEST}'
        )
    share = magnitude / STRONGEST
    shift, factor = 150 / 331 * share, 0.9 * share
    strengths = [0, 0.3 * share, 0.3 * share, int(shift * width), int(shift * height), 30 * share]
    strengths += [factor] * 4 + [8 - round(4 * share), 255 * (1 - share), 0, 0]
    return np.array(strengths, np.float32)


def apply_op(x: Colors, op: ArrayLike, strength: ArrayLike) -> Colors:
    """Applies one operation to a picture, whose values are rounded to grey levels first.

    Args:
      op: index into OPS.
      strength: see `op_strengths`; negative ones shear, shift, turn or change the other way.

    Example:
      >>> picture = jnp.array([0.0, 0.2, 1.0]).reshape(1, 3, 1).repeat(3, axis=2)
      >>> turned = jax.jit(apply_op)(picture, OPS.index('Solarize'), 128.0)
      >>> turned[0, :, 0].round(2).tolist()
      [0.0, 0.2, 0.0]
    """
    op = jnp.asarray(op)
    levels = jnp.round(255 * jnp.clip(x, 0, 1))
    levels = _moved(levels, op, strength)
    levels = _looked_up(levels, op, strength)
    return _mixed(levels, op, strength) / 255


def _is(op: jax.Array, *names: str) -> jax.Array:
    return jnp.isin(op, jnp.array([OPS.index(name) for name in names]))


def _moved(levels: Array, op: jax.Array, strength: ArrayLike) -> Array:
    """Shears about the upper left corner, shifts, or turns counterclockwise about the centre."""
    height, width, channels = levels.shape
    angle = jnp.radians(jnp.where(_is(op, 'Rotate'), strength, 0.0))
    shear_x, shear_y, shift_x, shift_y = (
        jnp.where(_is(op, name), strength, 0.0)
        for name in ('ShearX', 'ShearY', 'TranslateX', 'TranslateY')
    )
    right, down = (jnp.arange(width) + 0.5)[None, :], (jnp.arange(height) + 0.5)[:, None]
    # the shear is taken from the corner and the turn from the centre; one of them is always zero
    cos, sin, x0, y0 = jnp.cos(angle), jnp.sin(angle), width / 2, height / 2
    from_x = cos * (right - x0) - sin * (down - y0) + x0 + shear_x * down - shift_x
    from_y = sin * (right - x0) + cos * (down - y0) + y0 + shear_y * right - shift_y
    column, row = jnp.round(from_x - 0.5).astype(int), jnp.round(from_y - 0.5).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixel = jnp.where(inside, row * width + column, 0)
    taken = levels.reshape(-1, channels).at[pixel].get(mode='promise_in_bounds')
    return jnp.where(inside[..., None], taken, 0)


def _looked_up(levels: Array, op: jax.Array, strength: ArrayLike) -> Array:
    """Changes brightness or contrast, drops bits, inverts bright pixels, stretches, or equalizes.

    Each is a table `[256, K]` from old to new grey levels, for each channel.
    """
    value = jnp.arange(256.0)[:, None]
    low, high = levels.min((0, 1))[None], levels.max((0, 1))[None]
    spread = jnp.where(high > low, high - low, 255)
    step = 2 ** (8 - jnp.where(_is(op, 'Posterize'), strength, 8.0))
    mean = jnp.floor(_grey(levels)).mean()
    tables = (
        ('Brightness', (1 + strength) * value),
        ('Contrast', (1 + strength) * value - strength * mean),
        ('Posterize', jnp.floor(value / step) * step),
        ('Solarize', jnp.where(value >= strength, 255 - value, value)),
        ('AutoContrast', (value - jnp.where(high > low, low, 0)) / (spread / 255)),
        ('Equalize', _equalizing(levels)),
    )
    shape = (256, levels.shape[-1])
    table = jnp.broadcast_to(value, shape)
    for name, other in tables:
        table = jnp.where(_is(op, name), jnp.broadcast_to(other, shape), table)
    table = jnp.floor(jnp.clip(table, 0, 255))
    channel = jnp.arange(shape[1]).reshape(1, 1, -1)
    return table.at[levels.astype(int), channel].get(mode='promise_in_bounds')


def _equalizing(levels: Array) -> Array:
    """Returns the tables `[256, K]` that spread each channel's grey levels, as Pillow does."""
    channel = jnp.arange(levels.shape[-1])
    places = levels.astype(int), channel.reshape(1, 1, -1)
    counts = jnp.zeros((256, len(channel)), int).at[places].add(1)
    total = counts.cumsum(axis=0)
    brightest = total.argmax(axis=0)  # the first with all pixels
    step = ((total[-1] - counts[brightest, channel]) // 255)[None]
    before = total - counts
    table = jnp.clip((before + step // 2) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step > 0, table, jnp.arange(256)[:, None]).astype(jnp.float32)


def _mixed(levels: Array, op: jax.Array, strength: ArrayLike) -> Array:
    """Mixes the picture with its greys, or with its smoothed self; the edge pixels stay."""
    height, width, _ = levels.shape
    other = jnp.where(_is(op, 'Color'), jnp.floor(_grey(levels)), levels)
    if min(height, width) > 2:
        places = [(row, column) for row in range(3) for column in range(3)]
        inner = levels[1:-1, 1:-1]
        around = sum(levels[r : height - 2 + r, c : width - 2 + c] for r, c in places)
        smooth = levels.at[1:-1, 1:-1].set(jnp.round((around + 4 * inner) / 13))
        other = jnp.where(_is(op, 'Sharpness'), smooth, other)
    amount = jnp.where(_is(op, 'Color', 'Sharpness'), strength, 0.0)
    return jnp.floor(jnp.clip(levels - amount * (other - levels), 0, 255))


def _grey(levels: Array) -> Array:
    return (levels * np.array(GREY, np.float32).reshape(1, 1, 3)).sum(-1, keepdims=True)
