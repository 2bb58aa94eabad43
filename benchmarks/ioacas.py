"""Training IOA-CAS's 1D-ResNet on frames of sound, ours against PyTorch on CPU.

    pip install -e '.[parity]' && python benchmarks/ioacas.py [--json out.json]

25,600 rows of random log-mel frames [2, 256] (a twentieth of the paper's 8,646 clips x 59 frames),
batch 256, SGD with momentum and decay, dropout drawn anew. Ours is one scan over the epoch's
batches inside the pmapped step; PyTorch is eager and takes its batches by index, the fastest way
there is. They take turns in one process; the medians of their times are compared.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np
import torch

from avsc_jax import losses, models
from avsc_jax.data.batches import epoch_order
from avsc_jax.runs.state import TrainState
from avsc_jax.training.optimizer import make_optimizer
from avsc_jax.training.steps import Steps

ROWS, BATCH, FILTERS = 25_600, 256, 256
SETTINGS = dict(learning_rate=0.01, drop_at=(), factor=1, momentum=0.9, weight_decay=1e-4)


class TorchBlock(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = torch.nn.Conv1d(channels, 2 * channels, 3)
        self.bn = torch.nn.BatchNorm1d(2 * channels)
        self.shortcut_conv = torch.nn.Conv1d(channels, 2 * channels, 1)
        self.shortcut_bn = torch.nn.BatchNorm1d(2 * channels)

    def forward(self, x):
        shortcut = self.shortcut_bn(self.shortcut_conv(x[..., 1:-1]))
        return torch.nn.functional.max_pool1d((self.bn(self.conv(x)) + shortcut).relu(), 2, 2, 1)


class TorchResNet1D(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList(TorchBlock(2**n) for n in range(1, 5))
        layers, width = [], 2 * FILTERS * 5
        for out, rate in ((2048, 0.5), (1024, 0.5), (1024, 0)):
            layers += [torch.nn.Linear(width, out), torch.nn.BatchNorm1d(out), torch.nn.ReLU()]
            layers += [torch.nn.Dropout(rate)] if rate else []
            width = out
        self.classifier = torch.nn.Sequential(*layers, torch.nn.Linear(width, 10))

    def forward(self, x):
        flat = [x.flatten(1)]
        for block in self.blocks:
            x = block(x)
            flat.append(x.flatten(1))
        return self.classifier(torch.cat(flat, 1))


def ours(rows, order, mask):
    """A function that trains one epoch and returns its seconds."""
    model = models.create_model('resnet1d', num_filters=FILTERS)
    optimizer, _ = make_optimizer(SETTINGS, len(order))
    steps = Steps(model, optimizer, losses.cross_entropy, jax.local_devices()[:1])
    state = steps.place(TrainState.create(model, optimizer, seed=0))
    placed = steps.place(rows)

    def epoch():
        nonlocal state
        start = time.perf_counter()
        state, loss = steps.train_rows(state, placed, order, mask)
        np.asarray(loss)
        return time.perf_counter() - start

    return epoch


def theirs(rows, order):
    """The same in PyTorch."""
    frames, labels = torch.from_numpy(rows['image']), torch.from_numpy(rows['label']).long()
    model, index = TorchResNet1D().train(), torch.from_numpy(order).long()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def epoch():
        start = time.perf_counter()
        for batch in index:
            loss = torch.nn.functional.cross_entropy(model(frames[batch]), labels[batch])
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
    rows = {
        'image': rng.standard_normal((args.rows, 2, FILTERS), np.float32),
        'label': rng.integers(0, 10, args.rows).astype(np.int32),
    }
    order, mask = epoch_order(args.rows, BATCH, shuffle_by=(0, 0), drop_remainder=True)
    runs = {'avsc_jax': ours(rows, order, mask), 'PyTorch': theirs(rows, order)}
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
        print(f'{name:10} {median:7.2f} s for {len(order)} steps, {ratio:.2f} of ours')
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
