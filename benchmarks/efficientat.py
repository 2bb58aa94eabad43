"""Times EfficientAT: clips of ten seconds a second, encoded and trained, and memory.

    pip install -e . && python benchmarks/efficientat.py [--network mn10_as] [--part PART]

`encode` is the front end and the network, as features are extracted; `network` is its forward pass
alone; `train` is a step of configs/efficientat_audio.py, front end, augmentation and mixup
included, on sound that is on the device. Random weights, float32. Memory is the largest that the
process had. Where PyTorch is installed and AVSC_EFFICIENTAT names a clone of fschmid56/EfficientAT,
its own network takes turns with ours in `network`.
"""

import argparse
import contextlib
import importlib.util
import os
import resource
import statistics
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np

from avsc_jax import losses, models, weights
from avsc_jax.audio import efficientat
from avsc_jax.input_pipeline import encoders, examples, media_inputs
from avsc_jax.models import build
from avsc_jax.runs.state import TrainState
from avsc_jax.training import optimizer, recipe
from avsc_jax.training.steps import Steps

SAMPLES = round(efficientat.WINDOW_S * efficientat.SAMPLE_RATE_HZ)


def encode(network, batch):
    """A function that encodes a batch of sound once."""
    encoder = encoders.EncoderSpec(network, {'num_classes': 0}, 'random:0').make(Path())
    sound = np.random.default_rng(0).normal(0, 0.1, (batch, SAMPLES, 1)).astype(np.float32)
    return partial(encoder, list(sound))


def spectrograms(batch):
    return np.random.default_rng(0).standard_normal((batch, 128, 1000, 1)).astype(np.float32)


def forward(network, batch):
    """A function that does the network's forward pass once."""
    model = models.create_model(network)
    variables = jax.device_put(weights.random_variables(model, 0))
    run, x = encoders.compiled(model), jax.device_put(spectrograms(batch))
    return lambda: run(variables, x).block_until_ready()


def theirs(network, batch):
    """Returns the forward pass of the source's own network, in PyTorch."""
    import torch
    import torch_peers

    with contextlib.redirect_stdout(None):  # it prints the network
        source = torch_peers.import_efficientat('models.mn.model')
        module = source.get_model(width_mult=int(network[2:4]) / 10).eval()
    x = torch.from_numpy(spectrograms(batch)).permute(0, 3, 1, 2)
    x = x.contiguous(memory_format=torch.channels_last)
    module = module.to(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: module(x))


def train(network, batch):
    """A function that does a training step of the config once."""
    from avsc_jax.configs import efficientat_audio

    config = efficientat_audio.get_config(network)
    model = build.make_model(config.model.to_dict(), num_classes=10)
    made, _ = optimizer.make_optimizer(config, 100)
    settings, augment = examples.preprocessing(config, []), config.augment.to_dict()
    prepare = media_inputs.make(settings, None, augment).prepare_batch
    mix = recipe.mixing(config)
    steps = Steps(model, made, losses.cross_entropy, jax.devices()[:1], prepare, mix=mix)
    state = steps.place(TrainState.create(model, made, seed=0))
    draw = np.random.default_rng(0)
    sound = draw.normal(0, 0.1, (batch, SAMPLES, 2)).astype(np.float32)
    rows = {'audio': sound, 'label': np.arange(batch) % 10, 'mask': np.ones(batch, bool)}
    rows = jax.device_put(rows)

    def run():
        nonlocal state
        state, loss = steps.train(state, rows)
        jax.block_until_ready((state.params, loss))

    return run


PARTS = {'encode': encode, 'network': forward, 'train': train}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--network', default='mn10_as', help='default mn10_as')
    parser.add_argument('--part', choices=PARTS, default='encode', help='default encode')
    parser.add_argument('--batch', type=int, default=16, help='clips at once (default 16)')
    parser.add_argument('--rounds', type=int, default=5, help='calls (default 5)')
    args = parser.parse_args()
    sides = {'avsc_jax': PARTS[args.part](args.network, args.batch)}
    has_peer = 'AVSC_EFFICIENTAT' in os.environ and importlib.util.find_spec('torch')
    if args.part == 'network' and has_peer:
        sides['PyTorch'] = theirs(args.network, args.batch)
    for run in sides.values():
        run()  # compiles
    seconds = {side: [] for side in sides}
    for _ in range(args.rounds):
        for side, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - start)
    rates = {side: args.batch / statistics.median(each) for side, each in seconds.items()}
    told = ', '.join(f'{side} {rate:.1f}' for side, rate in rates.items())
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f'{args.network}, {args.part}, batch {args.batch}: clips a second {told}', end='')
    print(f'; {gigabytes:.1f} GB at most')


if __name__ == '__main__':
    main()
