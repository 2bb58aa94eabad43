"""Sizes and times of exported networks with 32 and 8 bits, on this CPU.

    python -m avsc_jax.export runs/hitachi_image-demo exported --format=onnx --int8
    python benchmarks/int8.py exported

The two take turns, with one thread each; the median of CPU times is shown, for 16 rows of noise.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

ROWS, TURNS = 16, 30


def session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=['CPUExecutionProvider'])


def main(folder: Path) -> None:
    random, facts = np.random.default_rng(0), json.loads((folder / 'recipe.json').read_text())
    for name, about in facts['int8']['files'].items():
        files = [folder / f'{name}.onnx', folder / about['file']]
        sessions, times = [session(file) for file in files], ([], [])
        given = {
            each.name: random.standard_normal((ROWS, *each.shape[1:]), np.float32)
            for each in sessions[0].get_inputs()
        }
        for turn in range(-2, TURNS):  # the first two are not counted
            for runner, kept in zip(sessions, times, strict=True):
                began = time.process_time()
                runner.run(None, given)
                if turn >= 0:
                    kept.append(1000 * (time.process_time() - began))
        sizes = [file.stat().st_size for file in files]
        float_ms, int8_ms = map(statistics.median, times)
        print(
            f'{name}: {sizes[0]:,} -> {sizes[1]:,} bytes ({sizes[1] / sizes[0]:.2f}), '
            f'{float_ms:.2f} -> {int8_ms:.2f} ms ({int8_ms / float_ms:.2f})'
        )


if __name__ == '__main__':
    main(Path(sys.argv[1]))
