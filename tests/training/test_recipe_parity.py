"""What changes the steps of training, against PyTorch and timm, from the same random tensors."""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from avsc_jax import losses, models, weights
from avsc_jax.augment import mix
from avsc_jax.layers.linear import Linear
from avsc_jax.runs.state import TrainState
from avsc_jax.training import recipe
from avsc_jax.training.optimizer import make_optimizer
from avsc_jax.training.recipe import Recipe
from avsc_jax.training.steps import Steps

sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))  # where torch_peers lies

import torch_peers

pytestmark = pytest.mark.parity
ROWS, WIDTH, CLASSES = 12, 5, 3
WEIGHTS = np.float32([0.5, 2.0, 1.25])


class Net(nn.Module):
    """Two layers of a perceptron, which are two groups of rates."""

    DEPTH = ('first',)
    num_classes: int = CLASSES
    input_spec = jax.ShapeDtypeStruct((1, WIDTH), jnp.float32)

    @nn.compact
    def __call__(self, image, *, train=False):
        x = nn.relu(Linear(8, name='first')(image))
        return Linear(self.num_classes, name='head')(x), {'embedding': x}


def twin(torch, params):
    """The same perceptron of PyTorch in float64, and its layers by our names."""
    first, head = torch.nn.Linear(WIDTH, 8), torch.nn.Linear(8, CLASSES)
    layers = {'first': first, 'head': head}
    network = torch.nn.Sequential(first, torch.nn.ReLU(), head).double()
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(torch.tensor(np.asarray(params[name]['kernel'], np.float64).T))
            layer.bias.copy_(torch.tensor(np.asarray(params[name]['bias'], np.float64)))
    return network, layers


def close(ours, layer):
    """Compares one layer's parameters, relative to the largest."""
    for found, expected in ((ours['kernel'], layer.weight.T), (ours['bias'], layer.bias)):
        expected = expected.detach().numpy()
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize('count', [1, 3])
def test_clipped_weighted_and_averaged_steps_in_parts_are_pytorchs(count):
    import torch

    torch_peers.import_timm()
    from timm.utils import ModelEmaV2

    settings = dict(
        learning_rate=0.02, drop_at=(), factor=0.1, momentum=0.9, weight_decay=0.01, clip_norm=5.0,
        ema=0.9, layer_decay=0.5,
    )  # fmt: skip
    model = Net()
    config = ConfigDict(settings)
    optimizer, _ = make_optimizer(config, 5, recipe.rate_factors(config, model))
    options = Recipe(accumulate=count, class_weights=WEIGHTS, label_smoothing=0.1)
    steps = Steps(model, optimizer, losses.cross_entropy, jax.devices()[:1], recipe=options)
    state = steps.place(TrainState.create(model, optimizer, seed=0).begun())
    network, layers = twin(torch, state.params)
    groups = [
        dict(params=layers[n].parameters(), lr=r) for n, r in (('first', 0.01), ('head', 0.02))
    ]
    sgd = torch.optim.SGD(groups, lr=0.02, momentum=0.9, weight_decay=0.01)
    average = ModelEmaV2(network, decay=0.9)
    given = torch.tensor(WEIGHTS.astype(np.float64))
    summed = torch.nn.CrossEntropyLoss(given, label_smoothing=0.1, reduction='sum')
    rng, norms = np.random.default_rng(0), []
    for _ in range(5):
        x = 40 * rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
        label = rng.integers(0, CLASSES, ROWS).astype(np.int32)
        batch = {'image': x, 'label': label, 'mask': np.ones(ROWS, bool)}
        state, loss = steps.train(state, batch)
        sgd.zero_grad()
        total = 0.0
        for part in np.split(np.arange(ROWS), count):  # gradients add up
            answers = network(torch.tensor(x[part].astype(np.float64)))
            of_part = summed(answers, torch.tensor(label[part]).long())
            of_part = of_part / float(WEIGHTS[label].sum())
            of_part.backward()
            total += of_part.item()
        norms.append(float(torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)))
        sgd.step()
        average.update(network)
        assert float(loss) == pytest.approx(total, rel=1e-6)
    assert min(norms) > 5  # it is clipped; to the norm, PyTorch adds 1e-6
    kept = dict(zip(('first', 'head'), (average.module[0], average.module[2]), strict=True))
    for name, layer in layers.items():
        close(state.params[name], layer)
        close(state.scored['params'][name], kept[name])


@pytest.mark.parametrize('is_mixed', [False, True])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_weights_and_smoothing_give_pytorchs_loss_and_gradient(is_mixed, smoothing):
    import torch

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ROWS, CLASSES)).astype(np.float32)
    label = rng.integers(0, CLASSES, ROWS).astype(np.int32)
    shares = rng.dirichlet(np.ones(CLASSES), ROWS).astype(np.float32)

    def mixed(key, inputs, targets, mask, *, axis_name):
        even = smoothing / CLASSES
        return inputs, (1 - smoothing) * shares + even

    options = Recipe(class_weights=WEIGHTS, label_smoothing=smoothing)
    steps = Steps(
        Net(), optax.sgd(0.1), losses.cross_entropy, jax.devices()[:1],
        mix=mixed if is_mixed else None, recipe=options,
    )  # fmt: skip
    batch = {'image': logits, 'label': label, 'mask': np.ones(ROWS, bool)}
    batch = steps._prepared(jax.random.key(0), batch, {})

    def ours(logits):
        return steps._losses(logits, batch).sum() / steps._shares(batch).sum()

    loss, gradient = jax.value_and_grad(ours)(jnp.asarray(logits))
    x = torch.tensor(logits.astype(np.float64), requires_grad=True)
    given = torch.tensor(WEIGHTS.astype(np.float64))
    theirs = torch.nn.CrossEntropyLoss(given, label_smoothing=smoothing)
    targets = torch.tensor(shares.astype(np.float64)) if is_mixed else torch.tensor(label).long()
    expected = theirs(x, targets)
    expected.backward()
    assert float(loss) == pytest.approx(expected.item(), rel=1e-6)
    largest = np.abs(x.grad.numpy()).max()
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-6 * largest, rtol=1e-6)


@pytest.mark.parametrize('seed', range(6))
def test_cutmix_is_timms(seed, monkeypatch):
    import torch

    torch_peers.import_timm()
    from timm.data import mixup as timm_mixup

    rng = np.random.default_rng(seed)
    weight, row, column = (
        float(np.float32(rng.beta(1, 1))),
        int(rng.integers(17)),
        int(rng.integers(23)),
    )
    pictures = rng.normal(size=(6, 17, 23, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, 6).astype(np.int32)

    # the same weight, place of the box and partners
    places = iter((row, column))
    monkeypatch.setattr(timm_mixup.np.random, 'beta', lambda *_: weight)
    monkeypatch.setattr(timm_mixup.np.random, 'randint', lambda *_, **__: next(places))
    theirs = timm_mixup.Mixup(0.0, 1.0, label_smoothing=0.1, num_classes=CLASSES)
    tensor = torch.tensor(pictures.transpose(0, 3, 1, 2).copy())
    expected, targets = theirs(tensor, torch.tensor(labels).long())

    monkeypatch.setattr(mix, '_permutation', lambda _, mask: jnp.arange(len(mask))[::-1])
    monkeypatch.setattr(mix.jax.random, 'beta', lambda *_: jnp.float32(weight))
    ours = iter((row, column))
    monkeypatch.setattr(mix.jax.random, 'randint', lambda *_: jnp.int32(next(ours)))
    soft = losses.targets(jnp.asarray(labels), CLASSES, smoothing=0.1)
    found = mix.cutmix(jax.random.key(0), pictures, soft, np.ones(6, bool), alpha=1.0)
    np.testing.assert_array_equal(found[0], expected.numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found[1], targets.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    'name',
    ['resnet18', 'resnest14d', 'regnetx_002', 'tf_efficientnet_b0', 'swin_tiny_patch4_window7_224'],
)
def test_rates_of_layers_are_timms(name):
    torch_peers.import_timm()
    from timm.optim import param_groups_layer_decay

    network = torch_peers.create_timm(name, num_classes=10)
    groups = param_groups_layer_decay(network, layer_decay=0.75)
    scale_of = {id(tensor): group['lr_scale'] for group in groups for tensor in group['params']}
    state = {
        key: np.full(tuple(tensor.shape), scale_of.get(id(tensor), 1.0), np.float32)
        for key, tensor in network.state_dict(keep_vars=True).items()
    }
    expected = weights.convert(name, state, num_classes=10)['params']
    model = models.create_model(name, num_classes=10)
    found = recipe.rate_factors(ConfigDict({'layer_decay': 0.75}), model)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for rate, scales in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(scales, rate, rtol=1e-6)
    assert min(jax.tree.leaves(found)) < 0.25 and found['head']['bias'] == 1
