from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from avsc_jax import losses
from avsc_jax.augment.mix import mixup
from avsc_jax.data.batches import epoch_order
from avsc_jax.layers.dropout import Dropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.runs.state import TrainState
from avsc_jax.training.steps import Steps


class Net(nn.Module):
    """A small network with everything that could depend on devices or padding."""

    @property
    def input_spec(self):
        return {'features/x': jax.ShapeDtypeStruct((1, 6), jnp.float32)}

    @nn.compact
    def __call__(self, inputs, *, train=False):
        x = Linear(16, name='fc1')(inputs['features/x'])
        x = nn.relu(BatchNorm(name='bn')(x, train=train))
        x = Dropout(0.5)(x, train=train)
        return Linear(3, name='head')(x), {'embedding': x}


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(37, 6)).astype(np.float32)
    return {'features/x': x, 'label': (x[:, 0] > 0).astype(np.int32)}


OPTIMIZER = optax.sgd(0.1, momentum=0.9)


@cache
def plain(num_devices):
    """Steps without options, whose programs are compiled once."""
    return Steps(Net(), OPTIMIZER, losses.cross_entropy, jax.devices()[:num_devices])


@cache
def begun():
    return TrainState.create(Net(), OPTIMIZER, seed=0)


def make(devices=None, **options):
    devices = devices or jax.devices()
    steps = plain(len(devices))
    if options:
        steps = Steps(Net(), OPTIMIZER, losses.cross_entropy, devices, **options)
    # a step takes its state's memory, so each gets a state of its own
    return steps, steps.place(jax.tree.map(jnp.copy, begun()))


def differences(a, b):
    return max(
        float(np.abs(np.asarray(x) - np.asarray(y)).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_one_and_two_devices_agree_after_five_steps_with_dropout_and_padding(rows):
    order, mask = epoch_order(37, 8, multiple=2, shuffle_by=(0, 0))  # the last batch holds 5 of 8
    assert len(order) == 5
    ends = []
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        steps, state = make(devices)
        state, losses_ = steps.train_rows(state, steps.place(rows), order, mask)
        ends.append((state.variables, losses_))
    assert differences(*ends) < 1e-6


def test_a_device_that_holds_only_padding_changes_nothing(rows):
    full = {name: array[:4] for name, array in rows.items()} | {'mask': np.ones(4, bool)}
    padded = {name: np.concatenate([array[:4], array[20:24]]) for name, array in rows.items()}
    padded['mask'] = np.arange(8) < 4
    ends = []
    for batch, devices in ((full, jax.devices()[:1]), (padded, jax.devices()[:2])):
        steps, state = make(devices)
        state, loss = steps.train(state, batch)
        ends.append((state.variables, loss))
    assert differences(*ends) < 1e-6


def test_steps_one_by_one_equal_a_scan_over_rows(rows):
    order, mask = epoch_order(37, 8, multiple=2, shuffle_by=(0, 0))
    steps, state = make()
    scanned, losses_ = steps.train_rows(state, steps.place(rows), order, mask)
    steps, state = make()
    single = []
    for index, line in zip(order, mask, strict=True):
        batch = {name: array[index] for name, array in rows.items()} | {'mask': line}
        state, loss = steps.train(state, batch)
        single.append(float(loss))
    assert differences(scanned.variables, state.variables) < 1e-6
    np.testing.assert_allclose(losses_, single, rtol=1e-5)


@pytest.mark.parametrize('count', [1, 2])
def test_batches_that_were_put_on_the_devices_train_to_the_same_bits(rows, count):
    order, mask = epoch_order(37, 8, multiple=2, shuffle_by=(0, 0))
    ends = []
    for is_put in (False, True):
        steps, state = make(jax.devices()[:count])
        for index, line in zip(order, mask, strict=True):
            batch = {name: array[index] for name, array in rows.items()} | {'mask': line}
            batch = steps.put(batch) if is_put else batch
            state, loss = steps.train(state, batch)
        ends.append((state.variables, loss, steps.logits(state.variables, batch)))
    assert {len(array.devices()) for array in batch.arrays.values()} == {count}
    assert differences(*ends) == 0


def test_logits_come_back_in_the_order_of_the_rows(rows):
    steps, state = make()
    expected, _ = jax.jit(Net().apply)(state.variables, {'features/x': rows['features/x']})
    order, mask = epoch_order(37, 8, multiple=2)
    scanned = steps.logits_rows(state.variables, steps.place(rows), order)
    assert scanned.shape == (5, 8, 3)
    np.testing.assert_allclose(scanned.reshape(-1, 3)[mask.ravel()], expected, atol=1e-5)
    batch = {name: array[order[0]] for name, array in rows.items()}
    np.testing.assert_allclose(steps.logits(state.variables, batch), expected[:8], atol=1e-5)


def test_every_step_draws_dropout_anew(rows):
    batch = {name: array[:8] for name, array in rows.items()} | {'mask': np.ones(8, bool)}
    found = []
    for step in (0, 0, 1):
        steps, state = make()
        _, loss = steps.train(state.replace(step=state.step + step), batch)
        found.append(float(loss))
    assert found[0] == found[1] != found[2]


def test_the_loss_of_a_step_is_the_mean_over_the_rows_that_count(rows):
    steps, state = make()
    batch = {name: array[:8] for name, array in rows.items()}
    mask = np.arange(8) < 6
    _, loss = steps.train(state, batch | {'mask': mask})
    steps, state = make()
    other = {name: np.concatenate([array[:6], array[30:32]]) for name, array in rows.items()}
    _, same = steps.train(state, other | {'mask': mask})
    assert float(loss) == pytest.approx(float(same), rel=1e-6)


def noisy(keys, batch):
    """Adds noise by each example's key, as an augmentation does."""
    x = batch['raw'] / 2
    if keys is not None:
        x += jax.vmap(lambda key: jax.random.normal(key, (6,)))(keys)
    return batch | {'features/x': x}


def test_prepared_inputs_draw_by_step_and_place_in_the_global_batch(rows):
    raw = {'raw': 2 * rows['features/x'][:8], 'label': rows['label'][:8]}
    batch = raw | {'mask': np.arange(8) < 7}
    ends, found = [], []
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        steps, state = make(devices, prepare=noisy)
        for _ in range(2):
            state, loss = steps.train(state, batch)
            found.append(float(loss))
        ends.append(state.variables)
    assert differences(*ends) < 1e-6
    assert found[0] == pytest.approx(found[2], rel=1e-6)
    without, state = make()
    expected = without.logits(state.variables, {'features/x': raw['raw'] / 2})
    np.testing.assert_allclose(make(prepare=noisy)[0].logits(state.variables, raw), expected)


def doubled(variables, batch):
    return batch | {'features/x': batch['features/x'] * variables['factor']}


def test_frozen_networks_make_inputs_in_training_and_stay_as_they_are(rows):
    batch = {name: array[:8] for name, array in rows.items()} | {'mask': np.ones(8, bool)}
    steps, state = make()
    expected, loss = steps.train(state, batch | {'features/x': 2 * batch['features/x']})
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        steps, state = make(devices, embed=(doubled, {'factor': np.float32(2)}))
        found, same = steps.train(state, batch)
        assert differences((found.variables, same), (expected.variables, loss)) < 1e-6
        steps.train(found, batch)  # the step before has not taken the factor over
        assert float(steps._frozen['factor']) == 2
    without, state = make()
    held, _ = make(embed=(doubled, {'factor': np.float32(2)}))
    logits = (each.logits(state.variables, batch) for each in (held, without))
    np.testing.assert_array_equal(*logits)  # what is scored holds embeddings already


class Mixable(Net):
    """As a network of pictures: one input, `image`, and a number of classes."""

    num_classes = 3
    input_spec = jax.ShapeDtypeStruct((1, 6), jnp.float32)

    @nn.compact
    def __call__(self, image, *, train=False):
        return super().__call__({'features/x': image}, train=train)


@pytest.mark.slow
def test_mixed_examples_count_for_both_their_classes_on_one_and_two_devices(rows):
    x, label, mask = rows['features/x'][:8], np.arange(8, dtype=np.int32) % 3, np.arange(8) < 6
    optimizer, model, ends = optax.sgd(0.1), Mixable(), []
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        mix = partial(mixup, alpha=0.4)
        steps = Steps(model, optimizer, losses.cross_entropy, devices, mix=mix)
        state = steps.place(TrainState.create(model, optimizer, seed=0))
        state, loss = steps.train(state, {'image': x, 'label': label, 'mask': mask})
        ends.append((state.variables, loss))
    assert differences(*ends) < 1e-6
    logits, target = jnp.float32([[1, 2, 0]]), jnp.float32([[0.7, 0, 0.3]])
    found = steps._losses(logits, {'target': target, 'label': label[:1]})
    expected = optax.softmax_cross_entropy(logits, target)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def several_of(rows):
    """The rows with two labels of three each, as floats."""
    label = np.stack([rows['label'], 1 - rows['label'], rows['features/x'][:, 1] > 0], axis=1)
    return {**rows, 'label': label.astype(np.float32)}


@pytest.mark.parametrize('num_devices', [1, 2])
def test_rows_of_several_labels_are_trained_by_the_mean_over_labels(rows, num_devices):
    rows, devices = several_of(rows), jax.devices()[:num_devices]
    steps = Steps(Net(), OPTIMIZER, losses.sigmoid_cross_entropy, devices)
    state = TrainState.create(Net(), OPTIMIZER, seed=0)
    order, mask = epoch_order(37, 8, multiple=num_devices)
    first = steps.local(order), steps.local(mask)
    state, before = steps.train_rows(state, steps.place(rows), *first)
    for _ in range(8):
        state, after = steps.train_rows(state, steps.place(rows), *first)
    assert np.mean(after) < 0.8 * np.mean(before)
    logits = steps.logits_rows(state.variables, steps.place(rows), order).reshape(-1, 3)
    expected = losses.sigmoid_cross_entropy(logits[mask.ravel()], rows['label'])
    assert float(expected.mean()) < 0.69  # below that of a coin


def test_mixed_rows_of_several_labels_have_labels_between():
    seen = {}

    def loss(logits, labels):
        seen['shape'] = labels.shape
        return losses.sigmoid_cross_entropy(logits, labels)

    def halves(key, images, targets, mask, *, axis_name):
        return images, 0.5 * targets

    steps = Steps(Net(), OPTIMIZER, loss, jax.devices()[:1], mix=halves)
    batch = {'image': jnp.zeros((2, 1)), 'features/x': jnp.zeros((2, 6))}
    batch |= {'label': jnp.eye(2, 3), 'mask': jnp.ones(2, bool)}
    mixed = steps._prepared(jax.random.key(0), batch, {})
    logits = jnp.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    got = steps._losses(logits, mixed)
    expected = losses.sigmoid_cross_entropy(logits, 0.5 * jnp.eye(2, 3))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert seen['shape'] == (2, 3)
