"""What every image network promises, on narrow ones of each family."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax import models, weights
from avsc_jax.layers.backbone import Backbone
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.layers.dropout import Dropout

NARROW = {
    'resnet18': {'width': 8},
    'resnest14d': {'width': 8, 'stem_width': 8},
    'regnetx_002': {'widths': (8, 8, 16, 16), 'layers': (1, 1, 1, 1)},
    'hrnet_w18_small': {'width': 4, 'first_width': 4, 'blocks': 1, 'num_features': 32},
    'tf_efficientnet_lite0': {'channel_multiplier': 0.25, 'depth_multiplier': 0.1},
}
BLOCKS = {
    'resnet18': 8,
    'resnest14d': 4,
    'regnetx_002': 4,
    'hrnet_w18_small': 1 + 3 + 4,
    'tf_efficientnet_lite0': 7,
}
SHORT = {'name': 'resnet18', 'layers': (2, 0, 0, 0)}
every_family = pytest.mark.parametrize(
    'name', [pytest.param(n, marks=[pytest.mark.slow] * n.startswith('hrnet')) for n in NARROW]
)


def made(name: str, **options) -> nn.Module:
    return models.create_model(
        name, **{'num_classes': 3, 'image_size': 64, **NARROW[name]} | options
    )


def spec(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def images(rows: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 64, 64, 3)).astype(np.float32)


def shapes(model: nn.Module, images: jax.ShapeDtypeStruct) -> tuple:
    """Of (logits, out) and of the variables."""
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), images)


@every_family
def test_thousand_classes_and_224_pixels_are_the_default(name):
    model = models.create_model(name)
    assert (model.num_classes, model.input_spec.shape) == (1000, (1, 224, 224, 3))


@every_family
def test_without_classes_the_embedding_comes_first_and_there_is_no_head(name):
    model = made(name, num_classes=0)
    (first, out), variables = shapes(model, spec(2, 64, 64, 3))
    assert first == out['embedding']
    assert first.ndim == 2
    assert 'head' not in variables['params']


@every_family
@pytest.mark.parametrize('sides', [(32, 33), (97, 131), (256, 100)])
def test_images_of_any_sides_and_channels_are_taken(name, sides):
    (logits, _), _ = shapes(made(name, in_chans=2), spec(5, *sides, 2))
    assert logits.shape == (5, 3)


@every_family
@pytest.mark.parametrize('shape', [(1, 31, 64, 3), (1, 64, 31, 3), (1, 64, 64, 1)])
def test_too_small_an_image_or_another_number_of_channels_is_an_error(name, shape):
    _, height, width, channels = shape
    with pytest.raises(ValueError, match=f'{height}x{width} with {channels} .* 3 channels .* 32 p'):
        shapes(made(name), spec(*shape))


@every_family
def test_half_precision_keeps_parameters_statistics_and_head_in_float32(name):
    (logits, out), variables = shapes(made(name, dtype='bfloat16'), spec(1, 64, 64, 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    assert logits.dtype == out.pop('embedding').dtype == jnp.float32
    assert {value.dtype for value in out.values()} == {jnp.dtype('bfloat16')}


def test_half_precision_is_near_to_float32():
    variables = weights.random_variables(made(**SHORT), 0)
    single, half = (
        jax.jit(made(**SHORT, dtype=dtype).apply)(variables, images(2))[0]
        for dtype in ('float32', 'bfloat16')
    )
    np.testing.assert_allclose(single, half, atol=0.1 * abs(single).max())  # 8 bits, six layers
    assert not np.array_equal(single, half)


@every_family
def test_rematerialised_blocks_keep_the_parameters_names(name):
    def traced(model):
        """(Shapes of the variables, number of rematerialised blocks) of a pass in training."""

        def first_pass(x):
            return model.init_with_output(jax.random.key(0), x, train=True)

        jaxpr, (_, variables) = jax.make_jaxpr(first_pass, return_shape=True)(spec(2, 64, 64, 3))
        names = [equation.primitive.name for equation in jaxpr.eqns]
        return variables, sum(name in ('checkpoint', 'remat2') for name in names)

    (variables, none), (same, all_blocks) = traced(made(name)), traced(made(name, remat=True))
    assert variables == same
    assert (none, all_blocks) == (0, BLOCKS[name])


@pytest.mark.slow
def test_rematerialised_blocks_have_the_same_gradients_and_statistics():
    variables = weights.random_variables(made(**SHORT), 0)

    def step(remat):
        model = made(**SHORT, remat=remat, drop_path_rate=0.5, drop_rate=0.5)

        def loss(params):
            (logits, _), new = model.apply(
                {**variables, 'params': params},
                images(4),
                train=True,
                mutable=['batch_stats'],
                rngs={'dropout': jax.random.key(2)},
            )
            return jnp.square(logits).sum(), new

        return jax.jit(jax.grad(loss, has_aux=True))(variables['params'])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * abs(b).max() + 1e-6),
        step(remat=True),
        step(remat=False),
    )


@pytest.mark.parametrize('name', ['resnet18', 'resnest14d', 'regnetx_002'])
def test_drop_path_grows_from_the_first_block_to_the_last(name):
    rates = []

    def watch(method, args, kwargs, context):
        if isinstance(context.module, DropPath):
            rates.append(context.module.rate)
        return method(*args, **kwargs)

    with nn.intercept_methods(watch):
        shapes(made(name, drop_path_rate=0.3), spec(1, 64, 64, 3))
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, BLOCKS[name]))


class OnlyAHead(Backbone, kw_only=True):
    @nn.compact
    def __call__(self, images, *, train=False):
        return self.classified(self.checked(images), {}, train=train)


def test_the_embedding_is_the_mean_and_goes_through_dropout_and_the_head():
    model, x = OnlyAHead(num_classes=4, drop_rate=0.5), images(2)
    variables = models.init(model, 0)

    def twice(method, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.module.rate == 0.5:
            return 2 * args[0]
        return method(*args, **kwargs)

    with nn.intercept_methods(twice):
        logits, out = model.apply(variables, x)
    np.testing.assert_allclose(out['embedding'], x.mean(axis=(1, 2)), atol=1e-6)
    head = variables['params']['head']
    expected = 2 * out['embedding'] @ head['kernel'] + head['bias'][None]
    np.testing.assert_allclose(logits, expected, atol=1e-6)


@every_family
def test_norms_are_ours(name):
    """So that padding and devices are handled (layers/sync.py)."""
    foreign = []

    def watch(method, args, kwargs, context):
        if isinstance(context.module, nn.BatchNorm):
            foreign.append(context.module.path)
        return method(*args, **kwargs)

    with nn.intercept_methods(watch):
        models.variable_shapes(made(name))
    assert not foreign


def test_rates_of_a_single_block_are_zero():
    assert list(Backbone().drop_path_rates((1,), 0.2)) == [0.0]
