"""Time to compile each network's training step, and time of a step, without PyTorch.

    python benchmarks/compiling.py [--only NAME ...] [--tiny] [--forward] [--options NAME=VALUE ...]

Random weights, ten classes, float32, batch 8 at 224 px, on this machine's CPU. A step is that of
avsc_jax.main: forward, backward, batch statistics and SGD. `wall` and `processor` are seconds of
XLA's compiler; `lowering` is JAX's part before it; `call` is a step. --options tries others of XLA.
"""

import argparse
import contextlib
import gc
import json
import statistics
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from avsc_jax import losses, models, weights
from avsc_jax.input_pipeline import encoders
from avsc_jax.runs.state import TrainState
from avsc_jax.runtime import compiler
from avsc_jax.training.steps import Steps

NETWORKS = (
    'resnet50',
    'resnest50d',
    'regnetx_064',
    'hrnet_w18',
    'tf_efficientnet_b0',
    'tf_efficientnet_b1_ns',
    'tf_efficientnet_b5',
    'efficientnet_b5',
    'tf_efficientnetv2_s',
    'efficientnetv2_s',
    'swin_tiny_patch4_window7_224',
)
TINY = ('resnet18', 'regnetx_002', 'tf_efficientnet_lite0')
NUM_CLASSES = 10
TARGET_S = 20
LOWERING = ('jaxpr_trace_duration', 'jaxpr_to_mlir_module_duration')
COMPILING = 'backend_compile_duration'


class Spent:
    """Seconds that JAX says it has spent on the largest program since `clear`."""

    def __init__(self):
        self.clear()
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def clear(self) -> None:
        self.lowering, self.wall, self.processor = 0.0, 0.0, 0.0
        self._lowering, self._since = 0.0, time.process_time()

    def _add(self, event: str, seconds: float, **_) -> None:
        event, now = event.rsplit('/', 1)[-1], time.process_time()
        if event in LOWERING:
            self._lowering += seconds
        elif event == COMPILING and seconds > self.wall:
            self.wall, self.processor, self.lowering = seconds, now - self._since, self._lowering
        if event in (*LOWERING, COMPILING):
            self._since = now
        if event == COMPILING:
            self._lowering = 0.0


def training(name: str, batch: int, pixels: int):
    """Returns a function that trains one step, and whose first call compiles it."""
    model = models.create_model(name, num_classes=NUM_CLASSES, image_size=pixels)
    variables, optimizer = weights.random_variables(model, 0), optax.sgd(1e-3)
    steps = Steps(model, optimizer, losses.cross_entropy, jax.devices()[:1])
    state = TrainState(
        step=jnp.int32(0),
        params=variables['params'],
        batch_stats=variables.get('batch_stats', {}),
        opt_state=optimizer.init(variables['params']),
        key=jax.random.key(0),
    )
    state = steps.place(state)  # as the training loop does; else a second call compiles again
    rows = {'image': pictures(batch, pixels), 'label': np.arange(batch) % NUM_CLASSES}
    rows = jax.device_put(rows | {'mask': np.ones(batch, bool)})

    def run():
        nonlocal state
        state, loss = steps.train(state, rows)
        jax.block_until_ready((state, loss))

    return run


def forward(name: str, batch: int, pixels: int):
    """Returns a function that runs the network, and whose first call compiles it."""
    model = models.create_model(name, num_classes=NUM_CLASSES, image_size=pixels)
    variables = jax.device_put(weights.random_variables(model, 0))
    call, images = encoders.compiled(model), jax.device_put(pictures(batch, pixels))
    return lambda: call(variables, images).block_until_ready()


def pictures(batch: int, pixels: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, pixels, pixels, 3), np.float32)


def measure(run, spent: Spent, rounds: int) -> dict[str, float]:
    """Seconds of the first call's parts, and of a later call."""
    spent.clear()
    run()
    found = {'lowering': spent.lowering, 'wall': spent.wall, 'processor': spent.processor}
    times = []
    for _ in range(rounds):
        processor, start = time.process_time(), time.perf_counter()
        run()
        times.append((time.perf_counter() - start, time.process_time() - processor))
    call, processor = (statistics.median(each) for each in zip(*times, strict=True))
    return found | {'call': call, 'call_processor': processor}


def typed(value: str) -> bool | int | str:
    """Reads an option's value: JAX wants true, false and numbers as such."""
    with contextlib.suppress(ValueError):
        return json.loads(value)
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', metavar='NAME', help='these networks')
    parser.add_argument('--tiny', action='store_true', help='three small networks at 64 px')
    parser.add_argument('--forward', action='store_true', help='the forward pass, no training')
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--pixels', type=int, default=224)
    parser.add_argument('--rounds', type=int, default=3, help='calls after the first one')
    parser.add_argument('--options', nargs='+', default=[], metavar='NAME=VALUE', help="XLA's")
    parser.add_argument('--out', type=Path, help='write the numbers to this JSON file')
    args = parser.parse_args()
    jax.config.update('jax_enable_compilation_cache', False)
    names = args.only or (TINY if args.tiny else NETWORKS)
    pixels = 64 if args.tiny else args.pixels
    given = dict(each.split('=', 1) for each in args.options)
    plain, more = compiler.options, {name: typed(value) for name, value in given.items()}
    found, spent = {}, Spent()
    with mock.patch.object(compiler, 'options', lambda **kind: plain(**kind) | more):
        for name in names:
            run = (forward if args.forward else training)(name, args.batch, pixels)
            found[name] = numbers = measure(run, spent, args.rounds)
            parts = '  '.join(f'{part} {seconds:.2f}' for part, seconds in numbers.items())
            print(f'{name:29}{parts}', flush=True)
            del run
            gc.collect()
            jax.clear_caches()
    longest = max(found, key=lambda name: found[name]['wall'])
    print(f'slowest to compile: {longest}, {found[longest]["wall"]:.1f} s (target: {TARGET_S} s)')
    if args.out:
        args.out.write_text(json.dumps({'jax': jax.__version__, 'seconds': found}, indent=1) + '\n')


if __name__ == '__main__':
    main()
