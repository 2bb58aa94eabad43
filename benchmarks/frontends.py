"""The Hitachi front end on CPU, ours against librosa, per second of audio.

    pip install -e . && python benchmarks/frontends.py [--json out.json]

Log-mel, delta and delta-delta of a batch of 24 one-second pieces, stereo at 48 kHz. Ours is one
jitted call; librosa does piece after piece, as it is called in a data pipeline. `filters kept` is
librosa with its mel filters built once, which melspectrogram does anew in each call. They take
turns in one process; the medians of their times are compared, and their results are to agree.
"""

import argparse
import json
import os
import statistics
import time
from functools import partial
from pathlib import Path

import jax
import librosa
import numpy as np

from avsc_jax.audio.frontends import hitachi_logmel

BATCH, RATE = 24, 48000


def with_deltas(mel):
    level = librosa.power_to_db(mel, ref=1.0)
    deltas = [librosa.feature.delta(level, order=order) for order in (1, 2)]
    return np.stack([level, *deltas], axis=-1)


def by_librosa(audio):
    settings = dict(sr=RATE, n_fft=4096, hop_length=512, n_mels=256)
    mel = librosa.feature.melspectrogram
    return [with_deltas(mel(y=piece.mean(1), **settings)) for piece in audio]


def with_filters_kept(filters, audio):
    def mel(piece):
        return filters @ np.abs(librosa.stft(piece.mean(1), n_fft=4096, hop_length=512)) ** 2

    return [with_deltas(mel(piece)) for piece in audio]


def seconds(function, *args):
    jax.block_until_ready(function(*args))  # wakes its threads; those of the last one end spinning
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=15, help='calls of each (default 15)')
    parser.add_argument('--json', type=Path, help='also write the numbers here')
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.1, (BATCH, RATE, 2)).astype(np.float32)
    filters = librosa.filters.mel(sr=RATE, n_fft=4096, n_mels=256)
    runs = {
        'avsc_jax': jax.jit(partial(hitachi_logmel, sample_rate_hz=RATE)),
        'librosa': by_librosa,
        'librosa, filters kept': partial(with_filters_kept, filters),
    }
    results = [np.asarray(run(audio)) for run in runs.values()]  # compiles and warms up
    largest = max(float(np.abs(results[0] - other).max()) for other in results[1:])
    taken = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            taken[name].append(seconds(run, audio))
    medians = {name: statistics.median(times) / BATCH for name, times in taken.items()}
    result = {
        'batch': BATCH,
        'seconds_per_second_of_audio': medians,
        'best': {name: min(times) / BATCH for name, times in taken.items()},
        'times_as_fast': {name: m / medians['avsc_jax'] for name, m in medians.items()},
        'largest_difference_db': largest,
        'cores': os.cpu_count(),
        'versions': {'jax': jax.__version__, 'librosa': librosa.__version__},
    }
    for name, median in medians.items():
        ratio = median / medians['avsc_jax']
        print(f'{name:22} {1e3 * median:7.2f} ms a second of audio, {ratio:5.1f} of ours')
    print(f'largest difference {largest:.1e} dB')
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
