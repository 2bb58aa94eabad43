import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsc_jax.layers.conv import Conv
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.layers.sync import global_batch


class Block(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x):
        x = Conv(6, (3, 3), padding=1, name='conv')(x)
        x = nn.relu(BatchNorm(name='bn')(x, train=self.train))
        return Dropout(0.3)(x, train=self.train)


class Net(nn.Module):
    remat: bool = False

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        block = nn.remat(Block) if self.remat else Block
        x = block(train, name='block1')(x)
        x = block(train, name='block2')(x)
        return Linear(1, name='head')(x.mean(axis=(1, 2)))


MASK = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
X = np.random.default_rng(0).standard_normal((8, 5, 5, 3)).astype(np.float32)
VARIABLES = Net().init(jax.random.key(0), X)


def step(model, variables, x, mask, axis_name):
    """(loss, gradients, running statistics) as a training step finds them."""

    def total(values):
        return values if axis_name is None else jax.lax.psum(values, axis_name)

    count = total(mask.sum())

    def loss(params):
        with global_batch(mask, axis_name):
            y, updates = model.apply(
                {**variables, 'params': params},
                x,
                train=True,
                mutable=['batch_stats'],
                rngs={'dropout': jax.random.key(7)},
            )
        return jnp.where(mask, jnp.square(y[:, 0] - 1), 0).sum() / count, updates['batch_stats']

    (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(variables['params'])
    return total(value), total(grads), stats


step_on_one_device = jax.jit(functools.partial(step, Net(), axis_name=None))


@functools.cache
def on_two_devices(model):
    spread = functools.partial(step, model, axis_name='batch')
    return jax.pmap(spread, axis_name='batch', devices=jax.devices()[:2], in_axes=(None, 0, 0))


def step_on_two_devices(model, variables, x, mask):
    results = on_two_devices(model)(variables, x.reshape(2, 4, *x.shape[1:]), mask.reshape(2, 4))
    jax.tree.map(lambda a: np.testing.assert_array_equal(a[0], a[1]), results)
    return jax.tree.map(lambda a: a[0], results)


def assert_close(ours, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, expected)


@pytest.mark.parametrize('remat', [False, True])
@pytest.mark.parametrize('mask', [MASK, ~MASK, np.ones(8, bool)])
def test_two_devices_with_unequal_padding_are_one(mask, remat):
    expected = step_on_one_device(VARIABLES, X, mask)
    ours = step_on_two_devices(Net(remat), VARIABLES, X, mask)
    assert_close(ours, expected)
    assert min(abs(gradient).max() for gradient in jax.tree.leaves(expected[1])) > 1e-3


def test_padding_counts_in_nothing():
    expected = step_on_one_device(VARIABLES, X[:3], MASK[:3])
    other = np.where(MASK[:, None, None, None], X, 100).astype(np.float32)
    assert_close(step_on_one_device(VARIABLES, other, MASK), expected)


def test_without_the_context_padding_would_count():
    with_mask = step_on_one_device(VARIABLES, X, MASK)
    without = step_on_one_device(VARIABLES, X, np.ones(8, bool))
    change = jax.tree.map(lambda a, b: float(abs(a - b).max()), with_mask[2], without[2])
    assert min(jax.tree.leaves(change)) > 1e-4


def test_a_scan_over_steps_is_the_steps_one_by_one():
    def one(stats, mask):
        loss, _, stats = step_on_one_device({**VARIABLES, 'batch_stats': stats}, X, mask)
        return stats, loss

    masks = np.stack([MASK, ~MASK])
    stats, losses = jax.jit(lambda s: jax.lax.scan(one, s, masks))(VARIABLES['batch_stats'])
    expected, first = one(VARIABLES['batch_stats'], MASK)
    expected, second = one(expected, ~MASK)
    assert_close(stats, expected)
    np.testing.assert_allclose(losses, [first, second], rtol=1e-6)


def test_the_context_ends():
    with global_batch(np.zeros(8, bool), None):
        pass
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), X, train=True)
    _, updates = layer.apply(variables, X, train=True, mutable=['batch_stats'])
    assert abs(updates['batch_stats']['mean']).max() > 0
