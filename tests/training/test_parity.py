"""Training recipes against PyTorch: C04's, and Feng's, which stops by the validation loss."""

from functools import partial

import numpy as np
import pytest
from flax import traverse_util

from avsc_jax import losses, models
from avsc_jax.data.batches import Rows, epoch_order
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.history import History
from avsc_jax.runs.state import TrainState
from avsc_jax.training import loop
from avsc_jax.training.optimizer import make_optimizer, plateau
from avsc_jax.training.steps import Steps

SETTINGS = {
    'learning_rate': 0.05,
    'drop_at': (1, 2),
    'factor': 0.1,
    'momentum': 0.9,
    'weight_decay': 1e-2,
}
BATCH, ROWS, EPOCHS = 48, 300, 3  # seven batches an epoch, the last one of 12 rows


def twin(torch, variables):
    """The paper's Table 1 in PyTorch, carrying the same weights; dropout off, as it is random."""
    flat = traverse_util.flatten_dict(variables['params'], sep='.')
    encoders = ('clip_rn50x4', 'clip_rn101', 'clip_vit_b32')

    def branch(name):
        width = flat[f'{name}.fc1.kernel'].shape[0]
        layers = [torch.nn.Linear(width, 512), torch.nn.BatchNorm1d(512), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers, torch.nn.Linear(512, 256))

    network = torch.nn.ModuleDict({name: branch(name) for name in encoders})
    network['fusion'], network['head'] = torch.nn.Linear(768, 128), torch.nn.Linear(128, 10)
    places = {f'{n}.{ours}': f'{n}.{i}' for n in encoders for ours, i in (('fc1', 0), ('fc2', 3))}
    places |= {'fusion': 'fusion', 'head': 'head'}
    state = network.state_dict()
    for ours, theirs in places.items():
        state[f'{theirs}.weight'] = torch.tensor(np.asarray(flat[f'{ours}.kernel']).T)
        state[f'{theirs}.bias'] = torch.tensor(np.asarray(flat[f'{ours}.bias']))
    network.load_state_dict(state)

    def forward(inputs):
        branches = [network[name](inputs[f'features/{name}']) for name in encoders]
        return network['head'](network['fusion'](torch.cat(branches, 1)))

    return network, forward, places


@pytest.mark.parity
def test_three_epochs_of_c04_equal_pytorchs():
    import torch

    rng = np.random.default_rng(0)
    model = models.create_model('clip_late_fusion', dropout=0.0)
    rows = {
        name: rng.standard_normal((ROWS, spec.shape[1]), np.float32)
        for name, spec in model.input_spec.items()
    }
    rows['label'] = rng.integers(0, 10, ROWS).astype(np.int32)
    optimizer, _ = make_optimizer(SETTINGS, steps_per_epoch=7)
    steps = Steps(model, optimizer, partial(losses.focal_loss, gamma=2.0))
    state = steps.place(TrainState.create(model, optimizer, seed=0))
    network, forward, places = twin(torch, state.variables)
    sgd = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.MultiStepLR(sgd, [1, 2], gamma=0.1)
    tensors = {name: torch.tensor(array) for name, array in rows.items()}

    for epoch in range(EPOCHS):
        order, mask = epoch_order(ROWS, BATCH, multiple=steps.num_devices, shuffle_by=(0, epoch))
        state, ours = steps.train_rows(state, steps.place(rows), order, mask)
        theirs = []
        for index, real in zip(order, mask, strict=True):
            batch = {name: tensor[index[real]] for name, tensor in tensors.items()}
            log_p = torch.log_softmax(forward(batch), 1)
            log_p = log_p.gather(1, batch['label'].long()[:, None])
            loss = (-((1 - log_p.exp()) ** 2) * log_p).mean()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            theirs.append(loss.item())
        rate.step()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)

    flat = traverse_util.flatten_dict(state.variables['params'], sep='.')
    reference = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    for ours, theirs in places.items():
        np.testing.assert_allclose(
            flat[f'{ours}.kernel'], reference[f'{theirs}.weight'].T, atol=1e-5
        )
    for name, stats in state.variables['batch_stats'].items():
        np.testing.assert_allclose(
            stats['bn1']['mean'], reference[f'{name}.1.running_mean'], atol=1e-5
        )
        np.testing.assert_allclose(
            stats['bn1']['var'], reference[f'{name}.1.running_var'], atol=1e-5
        )
    with torch.no_grad():
        network.eval()
        expected = forward(tensors).numpy()
    order, mask = epoch_order(ROWS, BATCH, multiple=steps.num_devices)
    logits = steps.logits_rows(state.variables, steps.place(rows), order)
    np.testing.assert_allclose(logits.reshape(-1, 10)[mask.ravel()], expected, atol=1e-4)


@pytest.mark.parity
def test_rates_on_plateaus_are_pytorchs():
    import torch

    rng = np.random.default_rng(0)
    losses_ = (np.repeat(rng.normal(1, 0.1, 10), 4) + rng.normal(0, 1e-4, 40)).tolist()
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.05)
    rate = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, factor=0.1, patience=3)
    found = []
    for n, loss in enumerate(losses_, start=1):
        rate.step(loss)
        found.append(plateau(losses_[:n], learning_rate=0.05, factor=0.1, patience=3))
        assert found[-1] == pytest.approx(sgd.param_groups[0]['lr'], rel=1e-12)
    assert len(set(found)) > 3


FENG = {
    'optimizer': 'adam',
    'learning_rate': 1e-2,
    'schedule': 'plateau',
    'factor': 0.1,
    'plateau_patience': 1,
    'weight_decay': 1e-2,
}
WIDTHS = {'audio_embedding': 5, 'image_embedding': 4}


def weighted_twin(torch, params):
    """Feng's weighted fusion in PyTorch, carrying the same weights; ours -> theirs."""
    layers = {'weight': torch.nn.ParameterList([torch.tensor(np.array(params['head']['weight']))])}
    for name, width in WIDTHS.items():
        branch = [torch.nn.Linear(width, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU()]
        layers[name] = torch.nn.Sequential(*branch, torch.nn.Linear(6, 3))
        for ours, layer in (
            (params[f'{name}_fc1'], layers[name][0]),
            (params['head'][name], layers[name][3]),
        ):
            layer.weight.data = torch.tensor(np.array(ours['kernel']).T)
            layer.bias.data = torch.tensor(np.array(ours['bias']))
    network = torch.nn.ModuleDict(layers).double()  # PyTorch's own rounding is none of the gap

    def forward(inputs):
        sound, picture = (network[name](inputs[name]) for name in WIDTHS)
        return sound + network['weight'][0] * picture

    return network, forward


@pytest.mark.parity
def test_a_run_that_stops_early_ends_where_pytorch_does(tmp_path):
    import torch

    rng = np.random.default_rng(0)

    def rows(size):
        inputs = {key: rng.standard_normal((size, w), np.float32) for key, w in WIDTHS.items()}
        heard = inputs['audio_embedding'][:, :3] + rng.normal(0, 0.7, (size, 3))
        return Rows(
            clip_id=[f'clip{n}' for n in range(size)],
            segment=np.full(size, -1, np.int32),
            label=heard.argmax(1).astype(np.int32),
            inputs=inputs,
        )

    train, valid = rows(40), rows(21)
    model = models.create_model(
        'feng_weighted', num_classes=3, embeddings=WIDTHS, hidden=6, dropout=0.0
    )
    optimizer, schedule = make_optimizer(FENG, steps_per_epoch=3)
    state = TrainState.create(model, optimizer, seed=0)
    network, forward = weighted_twin(torch, state.params)
    checkpoints, history = Checkpoints(tmp_path / 'checkpoints'), History(tmp_path)
    loop.fit(
        Steps(model, optimizer, losses.cross_entropy),
        state,
        train,
        valid,
        epochs=60,
        batch_size=16,
        seed=0,
        select='batch_loss',
        schedule=schedule,
        checkpoints=checkpoints,
        history=history,
        patience=4,
    )
    adam = torch.optim.Adam(network.parameters(), lr=1e-2, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, factor=0.1, patience=1)

    def loss_of(rows, index):
        inputs = {name: torch.tensor(array[index]).double() for name, array in rows.inputs.items()}
        return torch.nn.functional.cross_entropy(
            forward(inputs), torch.tensor(rows.label[index]).long()
        )

    found, waited, best = [], 0, np.inf
    while waited < 4:
        rates = adam.param_groups[0]['lr']
        order, mask = epoch_order(40, 16, shuffle_by=(0, len(found)))
        network.train()
        for index, real in zip(order, mask, strict=True):
            adam.zero_grad()
            loss_of(train, index[real]).backward()
            adam.step()
        network.eval()
        with torch.no_grad():
            batches = (np.arange(16), np.arange(16, 21))
            loss = np.mean([loss_of(valid, batch).item() for batch in batches])
        found.append((rates, loss))
        waited, best = (0, loss) if loss < best else (waited + 1, best)
        rate.step(loss)

    lines = history.lines
    assert 5 < len(found) < 60 and found[-1][0] < 1e-2
    ours = [(line['learning_rate'], line['valid_batch_loss']) for line in lines]
    np.testing.assert_allclose(ours, found, rtol=1e-5)
    params = checkpoints.restore_last(state)[0].params
    for name, layers in network.items():
        if name == 'weight':
            np.testing.assert_allclose(params['head'][name], layers[0].detach(), atol=1e-5)
            continue
        ours = (params[f'{name}_fc1'], params[f'{name}_bn1'], params['head'][name])
        for layer, theirs in zip(ours, (layers[0], layers[1], layers[3]), strict=True):
            weight = layer.get('kernel', layer.get('scale'))
            np.testing.assert_allclose(weight, theirs.weight.detach().T, atol=1e-5)
            np.testing.assert_allclose(layer['bias'], theirs.bias.detach(), atol=1e-5)
