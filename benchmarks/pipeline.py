"""How long a training step of the demo's members waits for data, and how decoding scales.

    pip install -e . && python benchmarks/pipeline.py [--network=regnetx_064] [--json out.json]

For the audio and the image member: the loop's own steps on rows of the demo set, after one that
compiles. `waiting` is the time in which the loop has no batch to give to the device, of all its
time. Then the same rows are only read, by one thread and by two.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from avsc_jax.configs import hitachi_audio, hitachi_image
from avsc_jax.data.batches import epoch_order, read_ahead
from avsc_jax.input_pipeline import examples, media_inputs
from avsc_jax.losses import make_loss
from avsc_jax.models import build
from avsc_jax.runs import run_folder
from avsc_jax.runs.state import TrainState
from avsc_jax.training import optimizer, train
from avsc_jax.training.steps import Steps

STATS = {'mean': np.float32([-60, 0, 0]), 'std': np.float32([15, 1, 1])}  # about the demo's


def resolved(module, network: str):
    """The config as main resolves it on demo data."""
    config = module.get_config(f'{network},demo')
    config.update(config.demo)
    with config.unlocked():
        config.weights = 'random'
        config.data.config = 'demo'
    return config


def waiting(config, rows, num_steps: int) -> dict:
    """Seconds of `num_steps` training steps, and of them those without a batch."""
    model = build.make_model(config.model.to_dict(), num_classes=10)
    transformation, _ = optimizer.make_optimizer(config, 100)
    made = media_inputs.make(examples.preprocessing(config, []), STATS, config.augment.to_dict())
    loss = make_loss(config.loss)
    steps = Steps(model, transformation, loss, jax.local_devices()[:1], prepare=made.prepare_batch)
    state = steps.place(TrainState.create(model, transformation, seed=0))
    order, mask = epoch_order(len(rows), config.batch_size, shuffle_by=(0, 0))
    batches = rows.inputs.batches(order[: num_steps + 1], mask[: num_steps + 1])
    state, value = steps.train(state, next(batches))
    jax.block_until_ready(value)
    losses, waited, start = [], 0.0, time.perf_counter()
    for _ in range(len(order[1 : num_steps + 1])):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        state, value = steps.train(state, batch)
        losses.append(value)
        losses[-2:-1] = jax.device_get(losses[-2:-1])  # as the loop does
    jax.block_until_ready(value)
    total = time.perf_counter() - start
    return {
        'steps': len(losses),
        'batch': config.batch_size,
        'seconds_per_step': total / len(losses),
        'share_waiting': waited / total,
    }


def decoding(rows, num_rows: int) -> dict:
    """Rows read in a second, by threads."""
    order = np.random.default_rng(0).permutation(len(rows))[:num_rows].tolist()
    rates = {}
    for threads in (1, 2):
        start = time.perf_counter()
        for _ in read_ahead(rows.inputs.load, order, num_threads=threads):
            pass
        rates[threads] = len(order) / (time.perf_counter() - start)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--network', default='regnetx_064', help='of the config (its demo sibling)')
    parser.add_argument('--steps', type=int, default=40)
    parser.add_argument('--data_dir', type=Path, help='with the demo data; default: built anew')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    data_dir = args.data_dir or Path(tempfile.mkdtemp())
    results = {'versions': run_folder.versions(), 'cores': os.cpu_count()}
    for module in (hitachi_audio, hitachi_image):
        config = resolved(module, args.network)
        config.data.source = 'demo'
        dataset = train.prepare_data(config, data_dir)
        rows = media_inputs.rows(
            dataset, 'train', media_inputs.make(examples.preprocessing(config, []))
        )
        found = waiting(config, rows, args.steps) | {'rows_per_s': decoding(rows, 400)}
        name = f'{module.__name__.rpartition(".")[2]}:{config.model.name}'
        results[name] = found
        print(
            f'{name}: {found["seconds_per_step"] * 1e3:.0f} ms a step of {found["batch"]}, '
            f'{found["share_waiting"]:.1%} of it waiting for data; read '
            + ', '.join(f'{rate:.0f} rows/s by {n}' for n, rate in found['rows_per_s'].items())
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
    main()
