"""Images per second of CLIP's image towers at full size, ours against open_clip in PyTorch.

    pip install -e '.[parity]' && python benchmarks/towers.py [--only NAME] [--json out.json]

CONTRIBUTING.md has the second command that open_clip needs. Random weights, 224 / 288 / 224 px, a
batch as large as the extractor's. PyTorch is eager, in its two memory formats. The three take
turns in one process; the medians of their times are compared. On a GPU both run in bfloat16.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch_peers import import_open_clip

from avsc_jax import models, weights
from avsc_jax.input_pipeline import encoders

PEERS = {
    'clip_vit_b32': 'ViT-B-32-quickgelu',
    'clip_rn101': 'RN101-quickgelu',
    'clip_rn50x4': 'RN50x4-quickgelu',
}


def ours(name, images, dtype):
    """A function that encodes the batch once."""
    model = models.create_model(name, dtype=dtype)
    variables, batch = jax.device_put((weights.random_variables(model, 0), images))
    encode = encoders.compiled(model)
    return lambda: encode(variables, batch).block_until_ready()


def theirs(name, images, dtype, device, memory_format):
    """The same in PyTorch."""
    tower = import_open_clip().create_model(PEERS[name], pretrained=None).visual.eval()
    tower = tower.to(device, dtype, memory_format=memory_format)
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    batch = batch.to(device, dtype).to(memory_format=memory_format)

    def encode():
        with torch.inference_mode():
            tower(batch)
        if device == 'cuda':
            torch.cuda.synchronize()

    return encode


def compare(name, batch, rounds):
    """Medians of seconds a batch, and what they say."""
    on_gpu = jax.default_backend() == 'gpu' and torch.cuda.is_available()
    device = 'cuda' if on_gpu else 'cpu'
    shape = (batch, *models.input_spec(name).shape[1:])
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    kinds = torch.bfloat16 if on_gpu else torch.float32
    runs = {
        'avsc_jax': ours(name, images, jnp.bfloat16 if on_gpu else jnp.float32),
        'PyTorch': theirs(name, images, kinds, device, torch.contiguous_format),
        'PyTorch channels last': theirs(name, images, kinds, device, torch.channels_last),
    }
    for run in runs.values():  # compile and warm up
        run()
    seconds = {kind: [] for kind in runs}
    for _ in range(rounds):
        for kind, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[kind].append(time.perf_counter() - start)
    medians = {kind: statistics.median(times) for kind, times in seconds.items()}
    best = min(medians['PyTorch'], medians['PyTorch channels last'])
    return {
        'batch': batch,
        'images_per_second': {kind: batch / median for kind, median in medians.items()},
        'ratio_of_times': medians['avsc_jax'] / best,
        'all_seconds': seconds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', choices=list(PEERS), help='one tower')
    parser.add_argument('--batch', type=int, default=encoders.FRAMES_PER_CALL)
    parser.add_argument('--rounds', type=int, default=5, help='batches of each (default 5)')
    parser.add_argument('--json', type=Path, help='also write the numbers here')
    args = parser.parse_args()
    results = {}
    for name in [args.only] if args.only else PEERS:
        results[name] = found = compare(name, args.batch, args.rounds)
        rates = ', '.join(f'{k} {v:.1f}' for k, v in found['images_per_second'].items())
        print(f'{name}: images per second {rates}; ratio of times {found["ratio_of_times"]:.2f}')
    if args.json:
        versions = {'jax': jax.__version__, 'torch': torch.__version__}
        result = {'towers': results, 'versions': versions, 'threads': torch.get_num_threads()}
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
