"""Checks each backbone against the facts of its row in backbones.py."""

import os
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backbones import BACKBONES, LARGER
from flax import traverse_util

from avsc_jax import models, weights
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.models import efficientnet, regnet, resnest, resnet, swin

SLOW = pytest.mark.slow
SWIN = 'swin_tiny_patch4_window7_224'
SMALL = {
    SWIN: {
        'embed_dim': 8, 'depths': (2, 2), 'num_heads': (1, 2), 'window_size': 4, 'image_size': 32,
    },
    'clip_rn101': {'width': 8, 'layers': (1, 2, 1, 1), 'image_size': 64, 'output_dim': 12},
    'clip_vit_b32': {
        'width': 16, 'layers': 2, 'heads': 4, 'patch_size': 8, 'image_size': 32, 'output_dim': 6,
    },
    'openl3_audio': {'input_shape': (64, 64, 1), 'widths': (2, 3, 4, 5), 'embedding_size': 5},
    'openl3_image': {'input_shape': (64, 64, 3), 'widths': (2, 3, 4, 5), 'embedding_size': 5},
}  # fmt: skip


def test_every_published_network_has_a_row():
    names = {name.partition('.')[0] for name in weights.SOURCES}
    assert names <= BACKBONES.keys()
    assert {row.name or name for name, row in BACKBONES.items()} <= {*models.list_models()}


SIZED = [
    pytest.param(name, marks=[SLOW] * (name in LARGER))
    for name, row in BACKBONES.items()
    if row.parameters
]


@pytest.mark.parametrize('name', SIZED)
def test_a_network_has_the_published_size_and_maps(name, outline, parameters):
    row, ((first, out), variables) = BACKBONES[name], outline(name)
    classes = 10 if 'head' in variables['params'] else None
    assert parameters(name, num_classes=classes) == row.parameters
    assert first.shape == ((1, row.classes) if classes else (1, *row.outputs['embedding']))
    assert {key: value.shape[1:] for key, value in out.items()} == row.outputs
    if row.side:
        assert models.input_spec(name).shape == (1, row.side, row.side, 3)


@pytest.mark.parametrize(
    ('name', 'tensor', 'path'),
    [
        pytest.param(name, *leaf, marks=[SLOW] * (name in LARGER))
        for name, row in BACKBONES.items()
        for leaf in row.leaves.items()
    ],
)
def test_a_tensor_of_the_source_is_one_variable(name, tensor, path, leaves):
    rules, *_ = models.rules_of(models.create_model(name))
    (paths,) = [paths for rule in rules if (paths := rule.match(tensor))]
    assert paths == (path,)
    assert path in leaves(name)


GOLDEN = [
    pytest.param(name, train, marks=[SLOW] * (train and row.golden != 'all'))
    for name, row in BACKBONES.items()
    for train in {'': (), 'answers': (True, False)}.get(row.golden, (True,))
]


@pytest.mark.parametrize(('name', 'train'), GOLDEN)
def test_answers_and_gradients_are_timm_s(name, train, agrees_with_golden):
    agrees_with_golden(name, train=train)


LIVE = [
    pytest.param(name, live, marks=[SLOW] * row.slow, id=f'{name}-{live.height}x{live.width}')
    for name, row in BACKBONES.items()
    for live in row.live
]


@pytest.mark.parity
@pytest.mark.parametrize(('name', 'live'), LIVE)
def test_timm_answers_the_same_live(name, live, agrees_with_timm):
    if BACKBONES[name].peer == 'efficientat' and 'AVSC_EFFICIENTAT' not in os.environ:
        pytest.skip('AVSC_EFFICIENTAT names no clone of fschmid56/EfficientAT')
    agrees_with_timm(name, live.height, live.width, rows=live.rows, train=live.train)


BLOCKS = {
    'basic': resnet.BasicBlock(width=16),
    'bottleneck': resnet.Bottleneck(width=4),
    'resnest': resnest.Bottleneck(width=4, stride=1, drop_path=0.0),
    'regnet': regnet.Bottleneck(width=16, group_width=8, stride=1, drop_path=0.0),
    'swin': swin.Block(heads=2, window=4, shifted=True, drop_path=0.9),
} | {
    kind: efficientnet.Block(
        kind=kind,
        features=16,
        kernel=3,
        stride=1,
        expansion=1,
        squeeze=0.25,
        act=nn.silu,
        tensorflow=False,
        drop_path=0.9,
    )
    for kind in ('plain', 'fused', 'separable', 'inverted')
}
ENDS_IN_RELU = ('basic', 'bottleneck', 'resnest', 'regnet')


@pytest.mark.parametrize('kind', BLOCKS)
def test_a_block_whose_branch_is_dropped_gives_its_input(kind):
    block = BLOCKS[kind]
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 16)).astype(np.float32)

    def drop(method, args, kwargs, context):
        return 0 * args[0] if isinstance(context.module, DropPath) else method(*args, **kwargs)

    @jax.jit
    def run(x):
        whole, variables = block.init_with_output(jax.random.key(0), x, train=False)
        with nn.intercept_methods(drop):
            return whole, block.apply(variables, x, train=False)

    whole, y = run(x)
    np.testing.assert_array_equal(y, np.maximum(x, 0) if kind in ENDS_IN_RELU else x)
    assert not np.array_equal(whole, y)


@pytest.mark.parametrize(
    ('name', 'rate', 'expected'),
    [
        # of 16 blocks, those with a shortcut; the rate itself would come behind the last
        ('tf_efficientnet_lite0', 0.16, 0.01 * np.array([2, 4, 6, 7, 9, 10, 12, 13, 14])),
        (SWIN, 0.06, 0.02 * np.repeat(np.arange(4), 2)),  # each block has two branches
    ],
)
def test_drop_path_grows_block_by_block_to_its_rate(name, rate, expected):
    rates = []

    def watch(method, args, kwargs, context):
        if isinstance(context.module, DropPath) and context.method_name == '__call__':
            rates.append(context.module.rate)
        return method(*args, **kwargs)

    model = models.create_model(name, **SMALL.get(name, {}), drop_path_rate=rate)
    with nn.intercept_methods(watch):
        models.variable_shapes(model)
    np.testing.assert_allclose(rates, expected, atol=1e-12)


UNMOVED = {  # a constant added to every key changes no softmax, nor one before a norm its output
    'clip_rn101': r'k_proj/bias',
    'clip_vit_b32': r'k_proj/bias',
    'openl3_audio': r'conv2d_\d/bias|batch_normalization_1/scale',
    'openl3_image': r'conv2d_[13-7]/bias',
}


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[SLOW] * (name == 'clip_rn101')) for name in UNMOVED]
)
def test_every_parameter_gets_a_gradient_and_every_statistic_moves(name):
    model = models.create_model(name, **SMALL[name], num_classes=3)
    variables = weights.random_variables(model, 0)
    x = np.random.default_rng(0).standard_normal((4, *model.input_spec.shape[1:]), np.float32)
    target = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)

    @jax.jit
    def step(variables, x):
        def loss(params):
            (logits, _), new = model.apply(
                {**variables, 'params': params}, x, train=True, mutable=['batch_stats']
            )
            return (logits * target).sum(), new

        return jax.grad(loss, has_aux=True)(variables['params'])

    grads, new = step(variables, x)
    sizes = {k: abs(v).max() for k, v in traverse_util.flatten_dict(grads, sep='/').items()}
    still = {key for key in sizes if re.search(UNMOVED[name], key)}
    assert still and max(sizes[key] for key in still) < 1e-3
    assert not {key: size for key, size in sizes.items() if key not in still and size < 1e-4}
    old = {name: variables[name] for name in new}
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), new, old)))


@pytest.mark.parametrize(
    ('name', 'options', 'shape', 'sentence'),
    [
        (SWIN, {}, (40, 40, 3), 'images are 40x40, .*image_size=32'),
        (SWIN, {}, (32, 64, 3), 'images are 32x64, .*image_size=32'),
        (
            SWIN,
            {'image_size': 34},
            (34, 34, 3),
            "images are 34x34, .*multiple of the patches' side 4",
        ),
        (SWIN, {'image_size': 34}, (32, 32, 3), 'images are 32x32, .*image_size=34'),
        (SWIN, {'in_chans': 1}, (32, 32, 3), 'with 3 channels: this network takes 1 channels'),
        ('clip_vit_b32', {}, (40, 40, 3), 'images are 40x40.*image_size=32'),
        ('clip_vit_b32', {'image_size': 36}, (36, 36, 3), 'images are 36x36.*image_size=36'),
        ('clip_rn101', {}, (96, 96, 3), 'images are 96x96.*image_size=64'),
        ('clip_rn101', {'image_size': 80}, (80, 80, 3), 'images are 80x80.*image_size=80'),
        (
            'openl3_audio',
            {'input_shape': (256, 199, 1)},
            (256, 94, 3),
            r'input is \[256, 94, 3\], .* for input_shape=\(256, 199',
        ),
    ],
)
def test_an_input_that_a_network_was_not_made_for_is_one_sentence(name, options, shape, sentence):
    model = models.create_model(name, **{**SMALL[name], **options})
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
