import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from avsc_jax import models, weights
from avsc_jax.layers.conv import Conv
from avsc_jax.layers.norm import BatchNorm

LITE = 'tf_efficientnet_lite0'
# One of each family: how many of its norms follow a convolution or a matrix, all of them.
NETWORKS = {
    'resnet18': (14, {'width': 8, 'layers': (1, 1, 1, 2), 'remat': True}),
    'regnetx_002': (17, {'layers': (1, 1, 1, 1), 'widths': (8, 16, 24, 32)}),
    'resnest14d': (23, {'width': 8, 'stem_width': 8}),
    'hrnet_w18_small': (73, {'width': 4, 'first_width': 4, 'blocks': 1, 'head_width': 4}),
    LITE: (25, {'channel_multiplier': 0.25, 'depth_multiplier': 0.3}),
    'clip_rn101': (22, {'width': 8, 'layers': (1, 2, 1, 1)}),
    'mn01_as': (43, {'size': (32, 64)}),
    'clip_late_fusion': (3, {'widths': (8, 4, 4)}),
}


def trained(model: nn.Module) -> dict:
    """Variables whose norms do something."""
    draw = np.random.default_rng(0)
    leaves = traverse_util.flatten_dict(weights.random_variables(model, 0))
    for path, value in leaves.items():
        if path[-1] in ('scale', 'var'):
            leaves[path] = value * draw.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif path[-1] in ('mean', 'bias'):
            leaves[path] = draw.normal(0, 0.1, value.shape).astype(np.float32)
    return traverse_util.unflatten_dict(leaves)


def drawn(spec) -> dict:
    """Inputs, two rows each."""
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda s: draw.standard_normal((2, *s.shape[1:])).astype(s.dtype), spec)


def answers(model, variables, inputs):
    """All outputs, as float32."""
    run = jax.jit(lambda variables, inputs: model.apply(variables, inputs))
    return [np.asarray(x, np.float32) for x in jax.tree.leaves(run(variables, inputs))]


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ('hrnet_w18_small', LITE)))
        for name in NETWORKS
    ],
)
def test_a_folded_network_answers_as_before(name):
    count, options = NETWORKS[name]
    takes_pictures = name not in ('clip_late_fusion', 'mn01_as')
    image = {'image_size': 64, 'num_classes': 10} if takes_pictures else {}
    model = models.create_model(name, **image, **options)
    variables, inputs = trained(model), drawn(model.input_spec)
    before = jax.tree.map(np.copy, variables)
    folded, new = models.fold_batchnorm(model, variables)
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    assert len(folded.layers) == len(set(folded.layers.values())) == count
    assert set(new) == {'params'}  # no statistics are left
    assert folded.input_spec == model.input_spec
    for y, expected in zip(
        answers(folded, new, inputs), answers(model, variables, inputs), strict=True
    ):
        # float32 rounds in other places; 1e-6 to 1e-5 was measured, most in the EfficientNet
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_frozen_stems_keep_their_norms():
    model = models.create_model('openl3_baseline_audio_video', hidden=8, stem_width=4)
    variables = weights.random_variables(model, 0)
    folded, new = models.fold_batchnorm(model, variables)
    assert not folded.layers and jax.tree.structure(new) == jax.tree.structure(variables)


class Mixed(nn.Module):
    """Norms of an input, of convolutions with and without bias, and of an activation."""

    dtype: type = jnp.float32
    input_spec = jax.ShapeDtypeStruct((1, 6, 6, 4), jnp.float32)

    @nn.compact
    def __call__(self, x, *, train=False):
        x = BatchNorm(name='first')(x.astype(self.dtype), train=train)
        x = Conv(8, (3, 3), padding=1, groups=2, use_bias=True, name='conv')(x)
        x = nn.relu(BatchNorm(epsilon=0.1, name='second')(x, train=train))
        x = Conv(4, name='pointwise')(BatchNorm(name='third')(x, train=train))
        x = BatchNorm(name='fourth')(x, train=train)
        return x.mean(axis=(1, 2)), {'embedding': x}


@pytest.mark.parametrize(('dtype', 'error'), [(jnp.float32, 1e-6), (jnp.bfloat16, 2e-2)])
def test_a_norm_of_anything_else_stays(dtype, error):
    model = Mixed(dtype)
    variables, inputs = trained(model), drawn(model.input_spec)
    folded, new = models.fold_batchnorm(model, variables)
    assert folded.layers == {('second',): ('conv',), ('fourth',): ('pointwise',)}
    assert set(new['params']) == {'first', 'conv', 'third', 'pointwise'}
    assert set(new['batch_stats']) == {'first', 'third'}
    found, expected = (answers(m, v, inputs) for m, v in ((folded, new), (model, variables)))
    for y, like in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, like, rtol=0, atol=error * np.abs(like).max())
    assert folded.apply(new, inputs)[0].dtype == dtype


def test_a_network_without_norms_of_batches_stays():
    options = {'window_size': 4, 'embed_dim': 8, 'depths': (1, 1), 'num_heads': (1, 2)}
    model = models.create_model('swin_tiny_patch4_window7_224', image_size=32, **options)
    variables = weights.random_variables(model, 0)
    folded, new = models.fold_batchnorm(model, variables)
    assert not folded.layers
    jax.tree.map(np.testing.assert_array_equal, new, variables)


def test_a_second_fold_finds_the_same():
    model = Mixed()
    first, again = (models.fold_batchnorm(model, trained(model))[0] for _ in range(2))
    assert first == again


def test_a_folded_network_is_not_trained():
    model = Mixed()
    folded, new = models.fold_batchnorm(model, trained(model))
    with pytest.raises(ValueError, match=r'cannot be trained .*: train the one that was'):
        folded.apply(new, drawn(model.input_spec), train=True)
