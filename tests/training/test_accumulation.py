"""A batch in parts: the same step as the whole one, for a network without batch normalisation."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avsc_jax import losses
from avsc_jax.augment.mix import mixup_or_cutmix
from avsc_jax.data.batches import epoch_order
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.runs.state import TrainState
from avsc_jax.training.recipe import Recipe
from avsc_jax.training.steps import Steps

OPTIMIZER = optax.sgd(0.1, momentum=0.9)
WEIGHTS = np.float32([1, 2, 0.5])


class Net(nn.Module):
    """A network of pictures with dropout on each of four parts of a picture."""

    num_classes: int = 3
    has_norm: bool = False
    input_spec = jax.ShapeDtypeStruct((1, 4, 4, 2), jnp.float32)

    @nn.compact
    def __call__(self, image, *, train=False):
        x = Linear(16, name='fc1')(image.reshape(-1, 8))  # four rows for each picture
        x = Dropout(0.5)(nn.relu(x), train=train).reshape(len(image), -1)
        if self.has_norm:
            x = BatchNorm(name='bn')(x, train=train)
        return Linear(self.num_classes, name='head')(x), {'embedding': x}


def noisy(keys, batch):
    """Adds noise by each example's key, as an augmentation does."""
    x = batch['raw'] / 2
    if keys is not None:
        x += jax.vmap(lambda key: jax.random.normal(key, (4, 4, 2)))(keys)
    return {name: array for name, array in batch.items() if name != 'raw'} | {'image': x}


def halved(variables, batch):
    return batch | {'image': batch['image'] * variables['factor']}


def trained(count, devices, *, has_norm=False, **options):
    """The state and losses after the steps of an epoch of 21 rows, in batches of 8."""
    rng, model = np.random.default_rng(0), Net(has_norm=has_norm)
    rows = {
        'raw': rng.normal(size=(21, 4, 4, 2)).astype(np.float32),
        'label': (np.arange(21) % 3).astype(np.int32),
    }
    recipe = Recipe(accumulate=count, class_weights=WEIGHTS)
    steps = Steps(
        model,
        OPTIMIZER,
        losses.cross_entropy,
        jax.devices()[:devices],
        prepare=noisy,
        recipe=recipe,
        **options,
    )
    order, mask = epoch_order(21, 8, multiple=steps.num_parts, shuffle_by=(0, 0))
    state = steps.place(TrainState.create(model, OPTIMIZER, seed=0))
    if not options:
        state, losses_ = steps.train_rows(state, steps.place(rows), order, mask)
        return state, np.asarray(losses_)
    found = []
    for index, line in zip(order, mask, strict=True):
        batch = {name: array[index] for name, array in rows.items()} | {'mask': line}
        state, loss = steps.train(state, batch)
        found.append(float(loss))
    return state, np.asarray(found)


def apart(a, b):
    """The largest difference of two trees' leaves, relative to a leaf's largest value."""
    pairs = zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (a, b)), strict=True)
    return max(float(np.abs(x - y).max() / max(1e-3, np.abs(x).max())) for x, y in pairs)


MIX = partial(mixup_or_cutmix, mixup_alpha=0.4, cutmix_alpha=1.0)


@pytest.mark.parametrize(
    ('count', 'devices', 'options'),
    [
        (2, 1, {}),
        (4, 2, {'mix': MIX}),
        (3, 1, {'embed': (halved, {'factor': np.float32(0.5)}), 'mix': MIX}),
    ],
)
def test_parts_of_a_batch_train_as_the_whole(count, devices, options):
    whole, expected = trained(1, 1, **options)
    state, found = trained(count, devices, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert apart(whole.params, state.params) < 1e-6  # three steps with momentum


def test_with_batch_normalisation_parts_agree_on_one_and_two_devices_alone():
    whole, one, two = (
        trained(count, devices, has_norm=True)[0] for count, devices in ((1, 1), (2, 1), (2, 2))
    )
    # variances of a few values, summed in another order, which three steps carry on
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, one.variables, two.variables)
    assert apart(whole.batch_stats, one.batch_stats) > 1e-2  # twice as many updates


def test_parts_take_less_memory_than_the_whole():
    def needed(count):
        model = Net()
        recipe = Recipe(accumulate=count)
        steps = Steps(model, OPTIMIZER, losses.cross_entropy, jax.devices()[:1], recipe=recipe)
        state = steps.place(TrainState.create(model, OPTIMIZER, seed=0))
        batch = {
            'image': np.zeros((1, 4096, 4, 4, 2), np.float32),
            'label': np.zeros((1, 4096), np.int32),
            'mask': np.ones((1, 4096), bool),
        }
        compiled = steps._train.lower(state, batch, {}).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needed(8) < needed(1) / 2
