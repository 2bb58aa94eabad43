"""The front ends on CPU, ours against librosa and numpy, per second of audio.

    pip install -e . && python benchmarks/frontends.py [--json out.json] [NAME ...]

Batches of one-second pieces, stereo at 48 kHz: 24 for Hitachi's log-mel with its deltas, 32 for the
three of IOA-CAS. Ours is one jitted call; the others do piece after piece (IOA-CAS: and channel
after channel), as they are called in a data pipeline. `filters kept` is librosa with its mel
filters built once, which melspectrogram does anew in each call; `numpy` is a windowed FFT in
float32 and a product with the filters, also built once. They take turns in one process; the medians
of their times are compared, and their results are to agree.
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

from avsc_jax.audio import frontends, ioacas

RATE = 48000
HITACHI = dict(n_fft=4096, hop_length=512)
IOACAS = dict(n_fft=24576, hop_length=8208, pad_mode='reflect')
HANN = np.hanning(24577)[:-1].astype(np.float32)


def with_deltas(mel):
    level = librosa.power_to_db(mel, ref=1.0)
    deltas = [librosa.feature.delta(level, order=order) for order in (1, 2)]
    return np.stack([level, *deltas], axis=-1)


def hitachi_by_librosa(audio):
    mel = librosa.feature.melspectrogram
    return [with_deltas(mel(y=piece.mean(1), sr=RATE, n_mels=256, **HITACHI)) for piece in audio]


def hitachi_with_filters_kept(filters, audio):
    def mel(piece):
        return filters @ np.abs(librosa.stft(piece.mean(1), **HITACHI)) ** 2

    return [with_deltas(mel(piece)) for piece in audio]


def ioacas_by(mel, audio):
    def channels(piece):
        return (piece[:, 0] + piece[:, 1]) / 2, piece[:, 0] - piece[:, 1]

    return [np.log(np.stack([mel(y) for y in channels(p)], 1).T + 1e-8) for p in audio]


def mel_by_librosa(y):
    return librosa.feature.melspectrogram(y=y, sr=RATE, n_mels=256, **IOACAS)


def mel_with_filters_kept(filters, y):
    return filters @ np.abs(librosa.stft(y, **IOACAS)) ** 2


def bands_by_numpy(filters, y):
    window, hop = IOACAS['n_fft'], IOACAS['hop_length']
    padded = np.pad(y, window // 2, mode='reflect')
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    return filters @ (np.abs(np.fft.rfft(frames * HANN)) ** 2).T


def comparisons():
    """(name, pieces, peers): the peers' functions of the batch by their names."""
    mel = librosa.filters.mel(sr=RATE, n_fft=HITACHI['n_fft'], n_mels=256)
    peers = {
        'librosa': hitachi_by_librosa,
        'librosa, filters kept': partial(hitachi_with_filters_kept, mel),
    }
    yield 'hitachi_logmel', 24, peers
    mel = librosa.filters.mel(sr=RATE, n_fft=IOACAS['n_fft'], n_mels=256)
    peers = {
        'librosa': partial(ioacas_by, mel_by_librosa),
        'librosa, filters kept': partial(ioacas_by, partial(mel_with_filters_kept, mel)),
        'numpy': partial(ioacas_by, partial(bands_by_numpy, mel)),
    }
    yield 'ioacas_logmel', 32, peers
    for name, filters in (
        ('ioacas_bark', ioacas.bark_matrix(RATE, IOACAS['n_fft'], 256)),
        ('ioacas_scalogram', ioacas.scalogram_matrix(RATE, IOACAS['n_fft'])),
    ):
        yield name, 32, {'numpy': partial(ioacas_by, partial(bands_by_numpy, filters))}


def seconds(function, *args):
    time.sleep(0.3)  # the last one's threads end spinning: OpenBLAS's take a core for 0.1 s
    jax.block_until_ready(function(*args))  # wakes its own
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def compare(name, pieces, peers, rounds):
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.1, (pieces, RATE, 2)).astype(np.float32)
    ours = jax.jit(partial(getattr(frontends, name), sample_rate_hz=RATE))
    runs = {'avsc_jax': ours, **peers}
    results = [np.asarray(run(audio)) for run in runs.values()]  # compiles and warms up
    largest = max(float(np.abs(results[0] - other).max()) for other in results[1:])
    taken = {name: [] for name in runs}
    for _ in range(rounds):
        for run_name, run in runs.items():
            taken[run_name].append(seconds(run, audio))
    medians = {name: statistics.median(times) / pieces for name, times in taken.items()}
    print(f'{name}, batch {pieces}; largest difference {largest:.1e}')
    for run_name, median in medians.items():
        ratio = median / medians['avsc_jax']
        print(f'  {run_name:22} {1e3 * median:7.2f} ms a second of audio, {ratio:5.1f} of ours')
    return {
        'batch': pieces,
        'seconds_per_second_of_audio': medians,
        'best': {name: min(times) / pieces for name, times in taken.items()},
        'times_as_fast': {name: m / medians['avsc_jax'] for name, m in medians.items()},
        'largest_difference': largest,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help='front ends (default: all)')
    parser.add_argument('--rounds', type=int, default=15, help='calls of each (default 15)')
    parser.add_argument('--json', type=Path, help='also write the numbers here')
    args = parser.parse_args()
    result = {
        name: compare(name, pieces, peers, args.rounds)
        for name, pieces, peers in comparisons()
        if not args.names or name in args.names
    }
    result['cores'] = os.cpu_count()
    result['versions'] = {'jax': jax.__version__, 'librosa': librosa.__version__}
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
