"""One training epoch of C04 at the paper's size, ours against PyTorch on CPU.

    pip install -e '.[parity]' && python benchmarks/c04.py [--json out.json]

103,752 rows (8,646 clips x 12 frames) of 1,664 random features, batch 48. Ours is one scan over
the epoch's batches inside the pmapped step. PyTorch is eager, and fed in two ways: `by index`, the
rows in one tensor and a batch taken by an index tensor (the fastest way there is), and
`DataLoader`, which most programs use, over a TensorDataset without workers. All draw dropout anew.
They take turns in one process; the medians of their times are compared.
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import torch

from avsc_jax import losses, models
from avsc_jax.data.batches import epoch_order
from avsc_jax.runs.state import TrainState
from avsc_jax.training.optimizer import make_optimizer
from avsc_jax.training.steps import Steps

ROWS, BATCH = 103_752, 48
SETTINGS = dict(learning_rate=0.01, drop_at=(), factor=1, momentum=0.9, weight_decay=1e-4)


class TorchBranch(torch.nn.Sequential):
    def __init__(self, width):
        super().__init__(
            torch.nn.Linear(width, 512),
            torch.nn.BatchNorm1d(512),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(512, 256),
        )


class TorchC04(torch.nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.branches = torch.nn.ModuleList(TorchBranch(width) for width in widths)
        self.fusion, self.head = torch.nn.Linear(768, 128), torch.nn.Linear(128, 10)

    def forward(self, inputs):
        x = torch.cat([branch(x) for branch, x in zip(self.branches, inputs, strict=True)], 1)
        return self.head(self.fusion(x))


def ours(rows, order, mask):
    """A function that trains one epoch and returns its seconds."""
    model = models.create_model('clip_late_fusion')
    optimizer, _ = make_optimizer(SETTINGS, len(order))
    devices = jax.local_devices()[:1]
    steps = Steps(model, optimizer, partial(losses.focal_loss, gamma=2.0), devices)
    state = steps.place(TrainState.create(model, optimizer, seed=0))
    placed = steps.place(rows)

    def epoch():
        nonlocal state
        start = time.perf_counter()
        state, loss = steps.train_rows(state, placed, order, mask)
        np.asarray(loss)
        return time.perf_counter() - start

    return epoch


def theirs(rows, order, *, loader):
    """The same in PyTorch, batches coming from a DataLoader or by index."""
    inputs = [torch.from_numpy(rows[name]) for name in rows if name != 'label']
    labels = torch.from_numpy(rows['label']).long()
    model = TorchC04([x.shape[1] for x in inputs]).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    index = torch.from_numpy(order).long()
    dataset = torch.utils.data.TensorDataset(*inputs, labels)

    def batches():
        if loader:
            yield from torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, drop_last=True)
        else:
            yield from ([x[rows] for x in (*inputs, labels)] for rows in index)

    def epoch():
        start = time.perf_counter()
        for *features, label in batches():
            log_p = torch.log_softmax(model(features), 1)
            log_p = log_p.gather(1, label[:, None])
            loss = (-((1 - log_p.exp()) ** 2) * log_p).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return time.perf_counter() - start

    return epoch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5, help='epochs of each (default 5)')
    parser.add_argument('--rows', type=int, default=ROWS)
    parser.add_argument('--json', type=Path, help='also write the numbers here')
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    spec = models.input_spec('clip_late_fusion')
    rows = {k: rng.standard_normal((args.rows, s.shape[1]), np.float32) for k, s in spec.items()}
    rows['label'] = rng.integers(0, 10, args.rows).astype(np.int32)
    order, mask = epoch_order(args.rows, BATCH, shuffle_by=(0, 0))
    if not mask.all():
        order, mask = order[:-1], mask[:-1]  # PyTorch has no mask
    runs = {
        'avsc_jax': ours(rows, order, mask),
        'PyTorch by index': theirs(rows, order, loader=False),
        'PyTorch DataLoader': theirs(rows, order, loader=True),
    }
    for run in runs.values():  # compile and warm up
        run()
    seconds = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            seconds[name].append(run())
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    result = {
        'steps': len(order),
        'batch': BATCH,
        'seconds_per_epoch': medians,
        'all_seconds': seconds,
        'times_as_fast': {name: m / medians['avsc_jax'] for name, m in medians.items()},
        'versions': {'jax': jax.__version__, 'torch': torch.__version__},
        'torch_threads': torch.get_num_threads(),
    }
    for name, median in medians.items():
        ratio = median / medians['avsc_jax']
        print(f'{name:20} {median:7.2f} s an epoch of {len(order)} steps, {ratio:.2f} of ours')
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
