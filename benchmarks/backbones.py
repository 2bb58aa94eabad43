"""Time of every image network, forward and a training step, ours against timm's in PyTorch.

    pip install -e '.[parity]' && python benchmarks/backbones.py --out backbones.json

CONTRIBUTING.md has the second command that timm needs. Every network takes hours on two cores, so
it can be done in pieces: --only NAME, and --resume, which leaves alone what FILE holds.

Random weights, ten classes, float32. All sides of a comparison take turns in one process, and the
medians of their times are compared. On a GPU both compute in bfloat16 (PyTorch by AMP, channels
last, compiled), at batch 20 and 448 px. A training step is forward, backward and SGD, batch
statistics and cross entropy, on a batch that is on the device. ONNX Runtime takes part where onnx
and onnxruntime are installed.
"""

import argparse
import dataclasses
import gc
import importlib.util
import io
import json
import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # PyTorch needs the GPU too

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.utils.flop_counter import FlopCounterMode
from torch_peers import create_timm

from avsc_jax import losses, models, weights
from avsc_jax.input_pipeline import encoders
from avsc_jax.runs.state import TrainState
from avsc_jax.training.steps import Steps

LARGE_PICTURES = ('regnetx_064', 'resnest50d', 'hrnet_w18')  # V01 to V03 are trained at 448 px
NETWORKS = (
    *LARGE_PICTURES,
    'resnet50',
    'tf_efficientnet_b0',
    'tf_efficientnet_b1_ns',
    'tf_efficientnet_b5',
    'efficientnet_b5',
    'tf_efficientnetv2_s',
    'efficientnetv2_s',
    'swin_tiny_patch4_window7_224',
)
SMALL = ('resnet18', 'regnetx_002', 'resnest14d', 'hrnet_w18_small', 'tf_efficientnet_lite0')
NUM_CLASSES = 10
LEARNING_RATE = 1e-3
TARGETS = {'forward': (1.0, 1.3), 'training': (1.0, 1.5)}  # of the ratios: median, worst
OURS, FOLDED = 'avsc_jax', 'avsc_jax folded'  # BatchNorms as they are, and fold_batchnorm's
EAGER, COMPILED = ('PyTorch', 'PyTorch channels last'), 'PyTorch compiled'
ONNX = 'ONNX Runtime'
ON_GPU = jax.default_backend() == 'gpu' and torch.cuda.is_available()


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed: `forward` or a `training` step on square pictures."""

    kind: str
    batch: int
    pixels: int

    def __str__(self):
        return f'{self.kind}, batch {self.batch}, {self.pixels} px'

    @property
    def images(self) -> np.ndarray:
        shape = (self.batch, self.pixels, self.pixels, 3)
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    @property
    def labels(self) -> np.ndarray:
        return np.arange(self.batch) % NUM_CLASSES


def cases(name: str, *, quick: bool) -> list[Case]:
    """What is timed of a network on this machine."""
    if ON_GPU:
        return [Case('forward', 20, 448), Case('training', 20, 448)]
    if quick:
        return [Case('forward', 8, 224), Case('training', 4, 224)]
    large = [Case('training', 2, 448)] if name in LARGE_PICTURES else []
    return [Case('forward', 1, 224), Case('forward', 8, 224), Case('training', 8, 224), *large]


def network(name: str, case: Case) -> tuple[nn.Module, dict]:
    """Ours, with random variables."""
    dtype = jnp.bfloat16 if ON_GPU else jnp.float32
    options = {'num_classes': NUM_CLASSES, 'image_size': case.pixels, 'dtype': dtype}
    model = models.create_model(name, **options)
    return model, weights.random_variables(model, 0)


def forward(name: str, case: Case, *, folded: bool = False) -> Callable[[], None]:
    """Does the case once, the way that the extractor does."""
    model, variables = network(name, case)
    if folded:
        model, variables = models.fold_batchnorm(model, variables)
    variables, images = jax.device_put((variables, case.images))
    run = encoders.compiled(model)
    return lambda: run(variables, images).block_until_ready()


def training(name: str, case: Case) -> Callable[[], None]:
    """Does the case once, the way that the training loop does."""
    model, variables = network(name, case)
    optimizer = optax.sgd(LEARNING_RATE)
    steps = Steps(model, optimizer, losses.cross_entropy, jax.devices()[:1])
    state = TrainState(
        step=jnp.int32(0),
        params=variables['params'],
        batch_stats=variables.get('batch_stats', {}),
        opt_state=optimizer.init(variables['params']),
        key=jax.random.key(0),
    )
    batch = {'image': case.images, 'label': case.labels, 'mask': np.ones(case.batch, bool)}
    batch = jax.device_put(batch)

    def run():
        nonlocal state
        state, loss = steps.train(state, batch)
        jax.block_until_ready((state.params, loss))

    return run


def theirs(
    name: str, case: Case, memory_format: torch.memory_format, *, compiled: bool = False
) -> Callable[[], None]:
    """The case in PyTorch."""
    device = 'cuda' if ON_GPU else 'cpu'
    module = peer(name, case).to(device, memory_format=memory_format)
    images = torch.from_numpy(case.images).permute(0, 3, 1, 2).contiguous()
    images = images.to(device, memory_format=memory_format)
    labels = torch.from_numpy(case.labels).to(device)
    module.train(case.kind == 'training')
    optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE)
    call = torch.compile(module) if compiled else module
    precision = torch.autocast(device, torch.bfloat16, enabled=ON_GPU)

    def answer():
        with torch.inference_mode(), precision:
            call(images)

    def train():
        optimizer.zero_grad()
        with precision:
            loss = torch.nn.functional.cross_entropy(call(images), labels)
        loss.backward()
        optimizer.step()

    def run():
        answer() if case.kind == 'forward' else train()
        if ON_GPU:
            torch.cuda.synchronize()

    return run


def peer(name: str, case: Case) -> torch.nn.Module:
    """timm's network; that of a transformer is made for a size."""
    size = {'img_size': case.pixels} if name.startswith('swin') else {}
    return create_timm(name, num_classes=NUM_CLASSES, **size)


def onnx_runtime(name: str, case: Case) -> Callable[[], None]:
    """The forward pass of timm's network as PyTorch exports it."""
    import onnxruntime

    images = np.ascontiguousarray(case.images.transpose(0, 3, 1, 2))
    file = io.BytesIO()
    torch.onnx.export(peer(name, case).eval(), (torch.from_numpy(images),), file, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    inputs = {session.get_inputs()[0].name: images}
    return lambda: session.run(None, inputs)


def sides(case: Case, *, quick: bool) -> dict[str, Callable]:
    """Name -> what builds the side: (network's name, case) -> the function that is timed."""
    found = {OURS: training}
    if case.kind == 'forward':
        found = {OURS: forward, FOLDED: partial(forward, folded=True)}
    if not ON_GPU:
        found[EAGER[0]] = partial(theirs, memory_format=torch.contiguous_format)
    found[EAGER[1]] = partial(theirs, memory_format=torch.channels_last)
    if not quick:
        found[COMPILED] = partial(theirs, memory_format=torch.channels_last, compiled=True)
        has_onnx = all(importlib.util.find_spec(name) for name in ('onnx', 'onnxruntime'))
        if case.kind == 'forward' and not ON_GPU and has_onnx:
            found[ONNX] = onnx_runtime
    return found


def compare(name: str, case: Case, *, rounds: int, quick: bool) -> dict:
    """Seconds of every side, and of its first call, and why a side is missing."""
    runs, first, failed = {}, {}, {}
    for side, build in sides(case, quick=quick).items():
        try:
            run = build(name, case)
            start = time.perf_counter()
            run()
            first[side] = time.perf_counter() - start
            run()
        except Exception as error:
            if side not in (COMPILED, ONNX):
                raise
            failed[side] = f'{type(error).__name__}: {error}'.splitlines()[0]
            continue
        runs[side] = run
    seconds = {side: [] for side in runs}
    for _ in range(rounds):
        for side, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - start)
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    # on a GPU all of PyTorch's ways are the measure, else the eager ones
    best = min(medians[s] for s in (*EAGER, *([COMPILED] if ON_GPU else [])) if s in medians)
    ratios = {side: medians[side] / best for side in (OURS, FOLDED) if side in medians}
    return {
        'median_seconds': medians,
        'ratios': ratios,
        'compile_seconds': {side: first[side] - medians[side] for side in ratios},
        'all_seconds': seconds,
        'failed': failed,
    }


def peak_bytes(name: str, case: Case, side: str, quick: bool) -> int:
    """Most memory of one side, its compilation included; for a process of its own."""
    before = resident_peak()
    run = sides(case, quick=quick)[side](name, case)
    for _ in range(3):
        run()
    if not ON_GPU:
        return resident_peak() - before
    if side in (OURS, FOLDED):
        return jax.local_devices()[0].memory_stats()['peak_bytes_in_use']
    return torch.cuda.max_memory_allocated()


def resident_peak() -> int:
    """Most bytes in memory so far. Linux's ru_maxrss would begin with what the parent had."""
    return 1024 * int(re.search(r'VmHWM:\s*(\d+)', Path('/proc/self/status').read_text())[1])


def measure_memory(name: str, case: Case, runs: list[str], quick: bool) -> dict[str, int]:
    """Bytes of each side beyond what the imports take, each in a new process."""
    found = {}
    for side in runs:
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            found[side] = pool.apply(peak_bytes, (name, case, side, quick))
    return found


def operations(name: str, case: Case) -> int:
    """Of the products of the case; counted on PyTorch's side, without computing anything."""
    with torch.device('meta'):
        module = peer(name, case).train(case.kind == 'training')
        images = torch.zeros(case.batch, 3, case.pixels, case.pixels)
    with FlopCounterMode(display=False) as counter:
        logits = module(images)
        if case.kind == 'training':
            logits.sum().backward()
    return counter.get_total_flops()


def bfloat16_ceiling(size: int = 8192, count: int = 20) -> float:
    """Operations a second of large matrix products."""
    x = jnp.full((size, size), 1 / size, jnp.bfloat16)
    product = jax.jit(lambda x, y: x @ y)
    product(x, x).block_until_ready()
    start, y = time.perf_counter(), x
    for _ in range(count):
        y = product(x, y)
    y.block_until_ready()
    return 2 * size**3 * count / (time.perf_counter() - start)


def row(name: str, case: str, found: dict) -> str:
    """A line of the table."""
    times = '  '.join(f'{k} {v * 1e3:.1f}' for k, v in found['median_seconds'].items())
    ratios = ' '.join(f'{ratio:.2f}' for ratio in found['ratios'].values())
    line = f'{name:29}{case:30}{ratios:10}  ms: {times}'
    line += f'; compiled in {found["compile_seconds"][OURS]:.1f} s'
    if 'share_of_ceiling' in found:
        line += f'; {found["images_per_second"]:.0f} images/s'
        line += f', {found["share_of_ceiling"]:.0%} of the ceiling'
    if 'peak_bytes' in found:
        sizes = '  '.join(f'{k} {v / 2**20:.0f}' for k, v in found['peak_bytes'].items())
        line += f'; MiB: {sizes}'
    return line + ''.join(f'; no {side}: {why}' for side, why in found['failed'].items())


def print_table(networks: dict) -> None:
    """All rows, and how the ratios stand to the targets."""
    print(f'{"network":29}{"case":30}ratio of times, folded')
    for name, found in networks.items():
        for case, numbers in found.items():
            print(row(name, case, numbers))
    for kind, side in (('forward', OURS), ('forward', FOLDED), ('training', OURS)):
        ratios = [
            (numbers['ratios'][side], name, case)
            for name, found in networks.items()
            for case, numbers in found.items()
            if case.startswith(kind)
        ]
        if ratios:
            median, worst = TARGETS[kind]
            middle = statistics.median(ratio for ratio, *_ in ratios)
            most, name, case = max(ratios)
            print(
                f'{kind}, {side}: ratio of times, median {middle:.2f} (target {median}), '
                f'worst {most:.2f} (target {worst}): {name}, {case}'
            )


def save(path: Path, result: dict) -> None:
    """Writes beside and renames, so that a stop loses one case at most."""
    beside = path.with_suffix('.tmp')
    beside.write_text(json.dumps(result, indent=1) + '\n')
    beside.replace(path)


def machine() -> dict:
    """What the numbers depend on."""
    return {
        'device': jax.devices()[0].device_kind if ON_GPU else platform.processor(),
        'threads': torch.get_num_threads(),
        'versions': {'jax': jax.__version__, 'torch': torch.__version__},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choices = [*NETWORKS, *SMALL]
    parser.add_argument('--only', nargs='+', choices=choices, metavar='NAME', help='these networks')
    parser.add_argument('--small', action='store_true', help='the small siblings too')
    parser.add_argument('--quick', action='store_true', help='two cases, eager PyTorch, 3 rounds')
    parser.add_argument('--rounds', type=int, help='calls of each side (default 5)')
    parser.add_argument('--memory', action='store_true', help='also peak memory (on Linux)')
    parser.add_argument('--out', type=Path, help='write the numbers to this JSON file')
    parser.add_argument('--resume', action='store_true', help='keep what the file already holds')
    args = parser.parse_args()
    result = {'machine': machine(), 'networks': {}}
    if args.resume and args.out and args.out.exists():
        result = json.loads(args.out.read_text())
    ceiling = bfloat16_ceiling() if ON_GPU else None
    rounds = args.rounds or (3 if args.quick else 5)
    for name in args.only or (NETWORKS + (SMALL if args.small else ())):
        done = result['networks'].setdefault(name, {})
        for case in cases(name, quick=args.quick):
            if str(case) in done and (args.quick or not done[str(case)]['quick']):
                continue
            found = compare(name, case, rounds=rounds, quick=args.quick) | {'quick': args.quick}
            gc.collect()
            jax.clear_caches()
            torch.compiler.reset()  # or the next network of the family would not be compiled
            if args.memory:
                runs = list(found['median_seconds'])
                found['peak_bytes'] = measure_memory(name, case, runs, args.quick)
            if ON_GPU:
                speed = 1 / found['median_seconds'][OURS]
                found['images_per_second'] = case.batch * speed
                found['share_of_ceiling'] = operations(name, case) * speed / ceiling
            done[str(case)] = found
            print(row(name, str(case), found), flush=True)
            if args.out:
                save(args.out, result)
    print_table(result['networks'])


if __name__ == '__main__':
    main()
