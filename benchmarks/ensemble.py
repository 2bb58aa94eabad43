"""The decision stage and the search for weights at the papers' sizes.

    python benchmarks/ensemble.py [--json out.json]

Made-up tables of 12 members on 3,645 clips and 36,450 seconds, 10 classes, numpy on the host. The
search is timed on members that differ, as networks do, and the lowest of several times is told:
what a machine shared with other work adds is left out. Up to 9 members it is exact; 12 take the
coordinate search. Memory is the peak of all that a search allocates beside the members' tables.
"""

import argparse
import functools
import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avsc_jax import ensemble
from avsc_jax.scenes import SCENES

CLIPS, SECONDS = 3_645, 36_450


def tables(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Twelve members [12, rows, 10] between .6 and .8 accuracy, and the labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, len(SCENES), rows)
    logits = 3 * np.eye(len(SCENES))[labels] + rng.normal(size=(12, rows, len(SCENES)))
    logits += rng.uniform(0.5, 1.5, (12, 1, 1)) * rng.normal(size=(12, rows, len(SCENES)))
    probs = np.exp(logits)
    return probs / probs.sum(axis=-1, keepdims=True), labels


def decide(members: np.ndarray) -> np.ndarray:
    """E02: A04, V04 and C04 as means of three, then the gate, the clamp and the fusion."""
    audio, visual, clip = (ensemble.mean(members[k : k + 3]) for k in (0, 3, 6))
    return ensemble.hitachi(audio, visual, clip, classes=SCENES, clamp='per_model')


def lowest(run: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def peak(run: Callable[[], object]) -> float:
    """MiB."""
    tracemalloc.start()
    run()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5, help='runs of each (default 5)')
    parser.add_argument('--json', type=Path, help='also write the numbers here')
    args = parser.parse_args()
    result = {'cores': os.cpu_count(), 'numpy': np.__version__, 'rounds': args.rounds}
    clips, seconds = tables(CLIPS), tables(SECONDS)
    result['decision stage, 3645 x 9 x 10'] = lowest(lambda: decide(clips[0]), args.rounds)
    for name, (members, labels) in (('3645', clips), ('36450', seconds)):
        for number in (6, 9, 12):
            search = functools.partial(ensemble.search_weights, members[:number], labels)
            told = f'search, {name} items, {number} members'
            result[told] = lowest(search, args.rounds)
            result[f'{told}, MiB'] = peak(search)
    for name, value in result.items():
        unit = '' if name.endswith('MiB') else ' s'
        print(f'{name:40}', f'{value:.4f}{unit}' if isinstance(value, float) else value)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
