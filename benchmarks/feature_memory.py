"""Peak memory of trainings on cached features at TAU's size, beside the features themselves.

    pip install -e . && python benchmarks/feature_memory.py [--data_dir=DIR] [--json=out.json]

The data set is that of benchmarks/outlines.py: 12,291 tiny made-up clips. OpenL3's features of its
clips, 96 of sound and 96 of the picture, are made up and cached where a training looks for them
(4.8 GB; DIR keeps them). Then, each in a process of its own, a training does all that comes before
its first step: it reads the features of its splits, measures and standardises them, makes the
network's rows, and places them on the device. Its peak, less what it had before, over the bytes of
the features that it trains and scores on.
"""

import argparse
import importlib
import json
import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax
import numpy as np
import outlines
from ml_collections import ConfigDict

from avsc_jax.data import sources
from avsc_jax.input_pipeline import examples, feature_cache
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.runtime import made_with

# What is trained -> its config, and the fold that is reported on
CASES = {
    'openl3_baseline:audio_video': ('openl3_baseline', 'audio_video,tau', None),
    'openl3_baseline:early, a fold': ('openl3_baseline', 'early,tau', 0),
    'openl3_baseline:audio': ('openl3_baseline', 'audio,tau', None),
    'feng_fusion:weighted, means of clips': ('feng_fusion', 'weighted,tau', None),
}


def settled(case: str) -> ConfigDict:
    """Returns a case's config, with its fold."""
    file, tokens, fold = CASES[case]
    config = importlib.import_module(f'avsc_jax.configs.{file}').get_config(tokens)
    with config.unlocked():
        if fold is not None:
            config.data.fold = fold
    return config


def specs_of(config: ConfigDict) -> list[EncoderSpec]:
    return [EncoderSpec(n, options.to_dict(), 'random:0') for n, options in config.encoders.items()]


def write(data_dir: Path) -> None:
    """Writes made-up features of all clips, block by block, where a training looks for them."""
    config = settled('openl3_baseline:audio_video')
    dataset, draw = sources.find('tfds_tau').open(config.data, data_dir), np.random.default_rng(0)
    folder = data_dir / 'features' / dataset.name.replace('/', '-')
    media = sources.media_files(dataset, data_dir, data_dir)
    extraction = feature_cache._Extraction(dataset, specs_of(config), folder, data_dir, media)
    for split in ('train', 'train_inner', 'validation', 'test'):
        clips = [outline['clip_id'] for outline in dataset.outlines(split)]
        stamps = extraction._stamps(split)
        for spec in specs_of(config):
            drawn = draw.standard_normal((32, 96, *spec.output_shape), np.float32)
            for k, path in enumerate(extraction.files(split)[spec.name]):
                names = clips[k * 32 : (k + 1) * 32]
                if path.exists():
                    continue
                columns = {
                    'clip_id': np.array(names),
                    'segment': np.full(len(names), -1, np.int32),
                    'features': drawn[: len(names)] + np.float32(k % 7),
                    'made_with': np.array(json.dumps(made_with.facts())),
                    'stamps': np.array(stamps[k * 32 : (k + 1) * 32], np.int64),
                }
                feature_cache._write_block(path, columns)


class Unkept:
    """A run folder's store that measures and keeps nothing on disk."""

    def stats(self, measure) -> Mapping:
        return measure()

    def means(self, measure) -> Mapping:
        return measure()


def peak(case: str, data_dir: Path) -> tuple[int, int]:
    """Returns the features' bytes, and the most memory that preparing them takes besides."""
    config = settled(case)
    dataset = sources.find('tfds_tau').open(config.data, data_dir)
    jax.device_put(np.zeros(1)).block_until_ready()
    Path('/proc/self/clear_refs').write_text('5')
    before = resident('VmHWM')
    loaded = examples.load(
        config,
        Unkept(),
        dataset,
        specs_of(config),
        data_dir=data_dir,
        weights_dir=data_dir,
        media_dir=data_dir,
    )
    rows = [rows for rows in loaded.splits.values()]
    jax.block_until_ready([jax.device_put({**each.inputs}) for each in rows])
    clips = sum(len({*each.clip_id}) for each in rows)
    size = clips * 96 * 4 * sum(spec.output_shape[0] for spec in specs_of(config))
    return size, resident('VmHWM') - before


def resident(field: str) -> int:
    """A number of bytes that Linux gives of this process."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--data_dir', type=Path, help='holds or gets the data; default: deleted')
    parser.add_argument('--json', type=Path)
    flags = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.data_dir or Path(temporary)
        if not (folder / 'tfds_tau').exists():
            outlines.build(folder)
        write(folder)
        for case in CASES:
            spawn = multiprocessing.get_context('spawn')
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                size, most = pool.submit(peak, case, folder).result()
            results[case] = {'features, MB': size / 1e6, 'ratio': most / size}
            print(f'{case:<38} {size / 1e6:>7,.0f} MB of features, peak {most / size:.2f} of it')
    if flags.json:
        flags.json.write_text(json.dumps(results, indent=2))


if __name__ == '__main__':
    main()
