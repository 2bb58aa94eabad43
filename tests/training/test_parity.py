"""C04's training recipe against PyTorch: network, loss, schedule, decay, BatchNorm, padding."""

from functools import partial

import numpy as np
import pytest
from flax import traverse_util

from avsc_jax import losses, models
from avsc_jax.data.batches import epoch_order
from avsc_jax.training.optimizer import make_optimizer
from avsc_jax.training.state import TrainState
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
