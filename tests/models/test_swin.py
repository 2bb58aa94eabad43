import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import models
from avsc_jax.models import swin

NAME = 'swin_tiny_patch4_window7_224'
NARROW = {'embed_dim': 8, 'depths': (2, 2), 'num_heads': (1, 2), 'window_size': 4, 'image_size': 32}


def images(rows: int, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.standard_normal((rows, height, width, channels), dtype=np.float32)


def test_windows_are_split_and_joined():
    x = np.arange(6 * 8).reshape(1, 6, 8, 1)
    parts = swin._split(x, (3, 4))
    np.testing.assert_array_equal(parts[0, 1, :, 0], x[0, :3, 4:, 0].ravel())
    np.testing.assert_array_equal(swin._join(parts, (6, 8), (3, 4)), x)


def test_relative_positions_number_every_offset():
    table = swin._relative_positions((2, 3))
    assert table.shape == (6, 6)
    offsets = {}
    for a, b in itertools.product(range(6), repeat=2):
        offset = a // 3 - b // 3, a % 3 - b % 3
        offsets.setdefault(offset, set()).add(int(table[a, b]))
    assert sorted(offsets) == [(y, x) for y in (-1, 0, 1) for x in (-2, -1, 0, 1, 2)]
    assert [offsets[key] for key in sorted(offsets)] == [{n} for n in range(15)]


@pytest.mark.parametrize(('size', 'shift'), [((8, 12), (2, 2)), ((8, 4), (2, 0))])
def test_the_mask_keeps_apart_what_the_shift_brought_together(size, shift):
    window = (4, 4)
    mask = swin._shift_mask(size, window, shift)
    rows, columns = np.mgrid[: size[0], : size[1]]
    place = np.stack([rows, columns], axis=-1)[None]
    before = swin._split(np.roll(place, (-shift[0], -shift[1]), axis=(1, 2)), window)[0]
    # Two places of one window were neighbours if they are less than a window apart.
    apart = abs(before[:, :, None] - before[:, None]).max(axis=-1) >= 4
    np.testing.assert_array_equal(mask == -100, apart)
    assert ((mask == 0) | (mask == -100)).all()
    assert mask.any()


def test_a_map_that_windows_do_not_divide_is_filled_up():
    """36 pixels are 9 places, in windows of 4 filled up to 12, and 5 places in the next stage."""
    model = models.create_model(NAME, **{**NARROW, 'image_size': 36})
    _, out = jax.eval_shape(model.apply, models.variable_shapes(model), model.input_spec)
    assert out['layers_0'].shape == (1, 9, 9, 8)
    assert out['layers_1'].shape == (1, 5, 5, 16)


def test_half_precision_is_for_maps_only():
    model = models.create_model(NAME, **NARROW, dtype=jnp.bfloat16)
    variables = models.variable_shapes(model)
    logits, out = jax.eval_shape(model.apply, variables, model.input_spec)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    assert logits.dtype == out.pop('embedding').dtype == jnp.float32
    assert {stage.dtype for stage in out.values()} == {jnp.dtype('bfloat16')}
    text = str(jax.make_jaxpr(model.apply)(variables, jnp.asarray(images(1))))
    assert re.search(r'f32\S* = exp', text)  # the softmax
    assert not re.search(r'bf16\S* = (exp|rsqrt)', text)


def test_rematerialisation_keeps_the_names():
    trees = [
        jax.tree.map(lambda leaf: leaf.shape, models.variable_shapes(model))
        for model in (models.create_model(NAME, **NARROW, remat=remat) for remat in (False, True))
    ]
    assert trees[0] == trees[1]
