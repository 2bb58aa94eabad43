import functools
import itertools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import models
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.models import swin

NAME = 'swin_tiny_patch4_window7_224'
NARROW = {'embed_dim': 8, 'depths': (2, 2), 'num_heads': (1, 2), 'window_size': 4, 'image_size': 32}


def images(rows: int, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    draw = np.random.default_rng(0)
    return draw.standard_normal((rows, height, width, channels), dtype=np.float32)


def test_parameter_counts_with_ten_classes(parameters):
    assert parameters(NAME, num_classes=10) == 27_527_044


def test_outputs_and_gradients_are_timm_s(agrees_with_golden):
    agrees_with_golden('swin_small')


def test_stages_halve_the_grid_and_double_the_channels(outline):
    assert models.input_spec(NAME).shape == (1, 224, 224, 3)
    (logits, out), _ = outline(NAME)
    for stage in range(4):
        grid = 56 // 2**stage
        assert out[f'layers_{stage}'].shape == (1, grid, grid, 96 * 2**stage)
    assert (logits.shape, out['embedding'].shape) == ((1, 1000), (1, 768))


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


def test_drop_path_grows_block_by_block_to_its_rate():
    rates = []

    def watch(method, args, kwargs, context):
        if isinstance(context.module, DropPath) and context.method_name == '__call__':
            rates.append(context.module.rate)
        return method(*args, **kwargs)

    with nn.intercept_methods(watch):
        models.variable_shapes(models.create_model(NAME, **NARROW, drop_path_rate=0.06))
    np.testing.assert_allclose(rates, np.repeat(0.02 * np.arange(4), 2), atol=1e-12)


def test_a_block_whose_branches_are_dropped_gives_its_input():
    block = swin.Block(heads=2, window=4, shifted=True, drop_path=0.9)
    x = images(1, 8, 8, 4)

    def drop(method, args, kwargs, context):
        return 0 * args[0] if isinstance(context.module, DropPath) else method(*args, **kwargs)

    with nn.intercept_methods(drop):
        y, _ = jax.jit(functools.partial(block.init_with_output, train=False))(jax.random.key(0), x)
    np.testing.assert_array_equal(y, x)


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


@pytest.mark.parametrize(
    ('options', 'shape', 'message'),
    [
        ({}, (40, 40, 3), 'images are 40x40, .*image_size=32'),
        ({}, (32, 64, 3), 'images are 32x64, .*image_size=32'),
        ({'image_size': 34}, (34, 34, 3), "images are 34x34, .*multiple of the patches' side 4"),
        ({'image_size': 34}, (32, 32, 3), 'images are 32x32, .*image_size=34'),
        ({'in_chans': 1}, (32, 32, 3), 'with 3 channels: this network takes 1 channels'),
    ],
)
def test_images_that_it_was_not_made_for_are_an_error(options, shape, message):
    model = models.create_model(NAME, **{**NARROW, **options})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))


@pytest.mark.parity
@pytest.mark.parametrize(('name', 'side'), [('swin_padded', 68), (NAME, 224)])
def test_outputs_and_gradients_are_timm_s_live(name, side, agrees_with_timm):
    agrees_with_timm(name, side, side, train=True)
