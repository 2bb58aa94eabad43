"""Forward time of networks by ONNX Runtime, as --backend onnx runs them, against ours by XLA.

    pip install -e '.[export]' && python benchmarks/onnx_backend.py [--only NAME ...] [--batch 12]

Random weights, float32, features of each network, on this machine's CPU. Both take turns in one
process; medians of --rounds, and how long the first call of either takes.
"""

import argparse
import statistics
import tempfile
import time
from unittest import mock

import jax
import numpy as np

from avsc_jax import models, weights
from avsc_jax.input_pipeline import encoders
from avsc_jax.predict.onnx_backend import OnnxNetwork

NETWORKS = (
    'resnet50',
    'resnest50d',
    'regnetx_064',
    'hrnet_w18',
    'tf_efficientnet_b1_ns',
    'tf_efficientnetv2_s',
    'swin_tiny_patch4_window7_224',
    'clip_vit_b32',
    'openl3_audio',
)


def measure(name: str, batch: int, rounds: int) -> str:
    """Returns the line of one network."""
    model = models.create_model(name)
    variables = jax.device_put(weights.random_variables(model, 0))
    shape = (batch, *model.input_spec.shape[1:])
    rows = np.random.default_rng(0).standard_normal(shape, np.float32)
    by_jax, first = encoders.compiled(model), {}
    sides = {'XLA': by_jax}
    # a home of its own, in which nothing is kept yet
    with tempfile.TemporaryDirectory() as home, mock.patch.dict('os.environ', HOME=home):
        for side in ('XLA', 'ONNX Runtime', 'ONNX Runtime, kept'):
            if side not in sides:
                sides[side] = OnnxNetwork(name, 'benchmark', model, ['features']).beside(by_jax)
            first[side] = seconds(sides[side], variables, rows)
    del sides['ONNX Runtime, kept']
    times = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            times[side].append(seconds(run, variables, rows))
    medians = {side: statistics.median(each) for side, each in times.items()}
    ratio = medians['XLA'] / medians['ONNX Runtime']
    line = '  '.join(f'{side} {1e3 * each:.0f} ms' for side, each in medians.items())
    started = '  '.join(f'{side} {each:.1f} s' for side, each in first.items())
    return f'{ratio:.2f} times as fast  {line}; first call: {started}'


def seconds(run, variables, rows) -> float:
    start = time.perf_counter()
    np.asarray(run(variables, rows))
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', default=NETWORKS, metavar='NAME')
    parser.add_argument('--batch', type=int, default=12)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    jax.config.update('jax_enable_compilation_cache', False)
    for name in args.only:
        try:
            line = measure(name, args.batch, args.rounds)
        except ValueError as error:  # it cannot be converted
            line = str(error)
        print(f'{name:29}{line}', flush=True)


if __name__ == '__main__':
    main()
