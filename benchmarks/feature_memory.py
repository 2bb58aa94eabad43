"""Peak memory of a training on cached features at TAU's size, beside the features themselves.

    pip install -e . && python benchmarks/feature_memory.py [--clips=8646] [--json out.json]

Features of 96 rows of 1,024 numbers a clip are made up and cached, block by block, as an
extraction leaves them. Another process then does what a training on standardised features does
before its first step: it reads them, measures and standardises them, makes the network's rows, and
places them on the device. Its peak, less what it had before, over the bytes of the features.
"""

import argparse
import dataclasses
import json
import multiprocessing
import tempfile
from pathlib import Path

import jax
import numpy as np

from avsc_jax.data.batches import Rows
from avsc_jax.input_pipeline import examples, feature_cache, pooling
from avsc_jax.runtime import made_with

FRAMES, NUMBERS = 96, 1024
SETTINGS = {'inputs': {'audio_embedding': 'openl3'}, 'pool': None}


def write(folder: Path, clips: int) -> list[Path]:
    """Writes the cached blocks of made-up features."""
    rng, paths = np.random.default_rng(0), []
    drawn = rng.standard_normal((feature_cache.CLIPS_PER_BLOCK, FRAMES, NUMBERS), np.float32)
    for first in range(0, clips, feature_cache.CLIPS_PER_BLOCK):
        count = min(feature_cache.CLIPS_PER_BLOCK, clips - first)
        paths.append(folder / f'block_{first:05d}.npz')
        columns = {
            'clip_id': np.array([str(first + k) for k in range(count)]),
            'segment': np.full(count, -1, np.int32),
            'features': drawn[:count] + np.float32(first % 7),
            'made_with': np.array(json.dumps(made_with.facts())),
            'stamps': np.zeros((count, 3), np.int64),
        }
        feature_cache.write_arrays(paths[-1], **columns)
    return paths


def peak_bytes(paths: list[Path]) -> int:
    """The most memory of this process while it prepares the features, less what it had before."""
    jax.device_put(np.zeros(1)).block_until_ready()
    Path('/proc/self/clear_refs').write_text('5')
    before = resident('VmHWM')
    features = feature_cache._read('openl3', paths, set())
    stats = pooling.measure(SETTINGS, features.arrays)
    counts = {'openl3': features.num_rows('openl3')}
    inputs, rows = pooling.clip_inputs(SETTINGS, features.arrays, counts, stats, overwrite=True)
    made: Rows = examples.feature_rows(
        dataclasses.replace(features, label=np.zeros(len(rows), np.int32)),
        inputs,
        rows,
    )
    jax.block_until_ready(jax.device_put(made.inputs))
    return resident('VmHWM') - before


def resident(field: str) -> int:
    """A number of bytes that Linux tells of this process."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--clips', type=int, default=8646)
    parser.add_argument('--json', type=Path)
    flags = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context('spawn').Pool(1) as pool,
    ):
        paths = write(Path(folder), flags.clips)
        size = flags.clips * FRAMES * NUMBERS * 4
        peak = pool.apply(peak_bytes, (paths,))
    result = {'features, MB': size / 1e6, 'peak, MB': peak / 1e6, 'ratio': peak / size}
    for name, value in result.items():
        print(f'{name:<16}{value:>10,.2f}')
    if flags.json:
        flags.json.write_text(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
