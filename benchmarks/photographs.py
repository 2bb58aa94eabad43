"""Time to encode photographs of many sizes, and of one size, with decoding.

    pip install -e . && python benchmarks/photographs.py [--count 1125] [--sizes 231] [--rounds 3]

Made-up photographs are written as JPEG files of many sizes, and once more after Pillow has resized
each to the median size. Both folders are decoded, encoded and cached as a job does it, by Lite0
(its published weights, or random ones where they are not at hand: no time depends on them) and by a
narrow CLIP. Compilation is part of it. The folders take turns; medians are compared, of the wall
clock and of the processor's time, which says more on a machine that others use.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from avsc_jax import weights
from avsc_jax.data import media
from avsc_jax.input_pipeline import feature_cache
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.weights.cache import default_weights_dir

NARROW = {'width': 64, 'layers': 2, 'patch_size': 32}  # a CLIP of which the reading is the cost


class Photographs:
    """A folder of photographs as a data set, each a record of one frame."""

    def __init__(self, folder: Path):
        self._files = sorted(folder.glob('*.jpg'))
        self.name = self.fingerprint = folder.name

    def num_records(self, split):
        return len(self._files)

    def outlines(self, split):
        return [{'clip_id': file.stem, 'segment': -1, 'label': 0} for file in self._files]

    def records(self, split, *, fields=()):
        return self

    def __len__(self):
        return len(self._files)

    def __getitem__(self, index):
        file = self._files[index]
        return {'clip_id': file.stem, 'segment': -1, 'frames': [media.read_picture(file)]}


def write(folder: Path, count: int, num_sizes: int) -> tuple[Path, Path]:
    """Writes the photographs of many sizes and those of their median size."""
    rng = np.random.default_rng(0)
    sizes = set()
    while len(sizes) < num_sizes:
        sizes.add((int(rng.integers(200, 560)), int(rng.integers(200, 560))))
    sizes = sorted(sizes)
    median = tuple(int(side) for side in np.median([sizes[k % num_sizes] for k in range(count)], 0))
    folders = folder / 'many', folder / 'one'
    for each in folders:
        each.mkdir()
    for k in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        photograph = small.resize(sizes[k % num_sizes], Image.Resampling.BICUBIC)
        photograph.save(folders[0] / f'{k:05d}.jpg', quality=90)
        photograph.resize(median).save(folders[1] / f'{k:05d}.jpg', quality=90)
    return folders


def seconds(
    folder: Path, spec: EncoderSpec, cache_dir: Path, weights_dir: Path
) -> tuple[float, float]:
    """Wall and processor seconds from nothing but the files to their features."""
    started, used = time.perf_counter(), time.process_time()
    feature_cache.extract(
        Photographs(folder),
        ['all'],
        [spec],
        cache_dir=cache_dir,
        weights_dir=weights_dir,
        fresh=True,
    )
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--count', type=int, default=1125, help='photographs (1125)')
    parser.add_argument('--sizes', type=int, default=231, help='sizes among them (231)')
    parser.add_argument('--rounds', type=int, default=3, help='turns of each folder (3)')
    parser.add_argument('--weights_dir', type=Path, default=default_weights_dir())
    args = parser.parse_args()
    try:
        lite0 = weights.identify('tf_efficientnet_lite0', args.weights_dir)
    except FileNotFoundError:
        lite0 = 'random:0'
    specs = [
        EncoderSpec('tf_efficientnet_lite0', {'num_classes': 0}, lite0),
        EncoderSpec('clip_vit_b32', NARROW, 'random:0'),
    ]
    with tempfile.TemporaryDirectory() as place:
        folders = write(Path(place), args.count, args.sizes)
        print(f'{args.count} photographs of {args.sizes} sizes, and of one size:')
        for spec in specs:
            took = {folder: [] for folder in folders}
            for _ in range(args.rounds):
                for folder in folders:
                    cache = Path(place) / 'cache'
                    took[folder].append(seconds(folder, spec, cache, args.weights_dir))
            for k, clock in enumerate(('wall', 'processor')):
                many, one = (statistics.median(t[k] for t in took[folder]) for folder in folders)
                print(f'{spec.name}, {clock}: {many:.1f} s and {one:.1f} s, {many / one:.2f}')


if __name__ == '__main__':
    main()
