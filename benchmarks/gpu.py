"""Measures one GPU in eight minutes: numbers equal to the CPU's, then speed, section by section.

    pip install -e '.[cuda13]' && python benchmarks/gpu.py --out gpu [--budget_s=480]
    python benchmarks/gpu.py --tiny --out gpu          # every section, small, on any device

Sections run in the order of SECTIONS. One that would not end within the budget is left out, as is
one whose libraries are missing; one that fails does not stop the others. Results are written after
each: OUT.json and OUT.md. Media libraries and TensorFlow Datasets are needed by `jobs` alone. Where
PyTorch sees the GPU too, steps are timed beside timm's (AMP, channels last, compiled).
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from avsc_jax import losses, models, weights
from avsc_jax.audio import frontends
from avsc_jax.data.batches import epoch_order
from avsc_jax.runs.state import TrainState
from avsc_jax.training.recipe import Recipe
from avsc_jax.training.steps import Steps

ROOT = Path(__file__).parents[1]
TINY = False  # set by --tiny
Row = dict[str, object]

# Largest relative error of an answer or a gradient, GPU against CPU in float32.
TOLERANCE = {'float32': 1e-4, 'tensorfloat32': 2e-2, 'bfloat16': 2e-1}
PRECISIONS = {
    'float32': (jnp.float32, 'highest'),
    'tensorfloat32': (jnp.float32, 'tensorfloat32'),
    'bfloat16': (jnp.bfloat16, 'default'),
}
# Networks of every kind, small or at 64 px, whose answers and gradients are compared.
COMPARED = (
    'resnet50', 'resnest50d', 'regnetx_064', 'hrnet_w18', 'tf_efficientnet_lite0',
    'tf_efficientnetv2_s', 'swin_tiny_patch4_window7_224',
)  # fmt: skip
# Networks whose training steps are timed: of pictures at 448 px, of spectrograms.
TRAINED = (
    'resnet50',
    'resnest50d',
    'regnetx_064',
    'tf_efficientnet_b1_ns',
    'swin_tiny_patch4_window7_224',
)
TOWERS = ('clip_vit_b32', 'clip_vit_l14', 'clip_rn101')


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the measurement.

    Attributes:
      expected_s: seconds that it takes on a GPU of 2024, with compiling.
      needs: modules without which it is left out.
    """

    run: Callable[[], Iterator[Row]]
    expected_s: int
    needs: tuple[str, ...] = ()


def seconds(call: Callable[[], object], rounds: int = 10) -> float:
    """The median seconds of a call, after one that compiles."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(2 if TINY else rounds):
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def devices() -> Iterator[Row]:
    """The devices and their memory, and a product of two matrices, the ceiling of speed."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    yield {'device': device.device_kind, 'memory, GB': stats.get('bytes_limit', 0) / 1e9}
    yield from ({'product of matrices': p, 'TFLOP/s': ceiling(p)} for p in PRECISIONS)


@functools.cache
def ceiling(precision: str) -> float:
    """TFLOP/s of a product of two square matrices."""
    side = 512 if TINY else 8192
    dtype, how = PRECISIONS[precision]
    with jax.default_matmul_precision(how):
        multiply = jax.jit(jnp.matmul)
        a = jnp.ones((side, side), dtype)
        return 2 * side**3 / seconds(lambda: multiply(a, a)) / 1e12


def parity() -> Iterator[Row]:
    """Answers and gradients of networks, this device against the CPU in float32."""
    for name in COMPARED[: 1 if TINY else None]:
        images = np.random.default_rng(0).standard_normal((4, 64, 64, 3), np.float32)
        cpu = answers(name, images, 'float32', jax.local_devices(backend='cpu')[0])
        for precision, allowed in [*TOLERANCE.items()][: 1 if TINY else None]:
            mine = answers(name, images, precision, jax.local_devices()[0])
            errors = [relative(x, y) for x, y in zip(mine, cpu, strict=True)]
            yield {
                'network': name,
                'precision': precision,
                'answer': errors[0],
                'gradient': errors[1],
                'allowed': allowed,
                'equal': max(errors) <= allowed,
            }


def answers(name: str, images: np.ndarray, precision: str, device: jax.Device) -> list[np.ndarray]:
    """The embedding of pictures, and the gradient of its mean square by all parameters."""
    dtype, how = PRECISIONS[precision]
    model = models.create_model(name, num_classes=0, image_size=images.shape[1], dtype=dtype)
    variables = weights.random_variables(model, 0)

    @jax.jit
    def both(variables, images):
        def loss(params):
            answer, _ = model.apply({**variables, 'params': params}, images)
            return jnp.square(answer.astype(jnp.float32)).mean(), answer

        gradient, answer = jax.grad(loss, has_aux=True)(variables['params'])
        flat = [leaf.astype(jnp.float32).ravel() for leaf in jax.tree.leaves(gradient)]
        return answer.astype(jnp.float32), jnp.concatenate(flat)

    with jax.default_matmul_precision(how), jax.default_device(device):
        return [
            np.asarray(x, np.float64) for x in both(*jax.device_put((variables, images), device))
        ]


def relative(one: np.ndarray, other: np.ndarray) -> float:
    """Length of the difference over the length of the other."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def training() -> Iterator[Row]:
    """Training steps in bfloat16: 20 pictures of 448 px, 24 spectrograms, beside timm's."""
    shapes = {'pictures': (4, 64, 64, 3)} if TINY else SHAPES
    for name in TRAINED[: 1 if TINY else None]:
        for what, shape in shapes.items():
            if what == 'spectrograms' and name.startswith('swin'):
                continue  # takes squares
            step, flops, peak = training_step(name, shape)
            taken = seconds(step)
            row: Row = {
                'network': name,
                'batch': f'{shape[0]} {what}',
                'images/s': shape[0] / taken,
                'share of ceiling': flops / taken / 1e12 / ceiling('bfloat16'),
                'peak, GB': peak() / 1e9,
            }
            yield row | beside_timm(name, shape, shape[0] / taken)


SHAPES = {'pictures': (20, 448, 448, 3), 'spectrograms': (24, 256, 94, 3)}


def training_step(name: str, shape: tuple[int, ...]):
    """A step as the training loop does it, its operations, and what tells the peak memory."""
    size = {'image_size': shape[1]} if shape[1] == shape[2] else {}
    model = models.create_model(name, num_classes=10, **size)
    optimizer, recipe = optax.sgd(1e-3), Recipe(is_half=True)  # config.precision=bfloat16
    steps = Steps(model, optimizer, losses.cross_entropy, jax.local_devices()[:1], recipe=recipe)
    state = steps.place(TrainState.create(model, optimizer, seed=0))
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    labels = np.arange(shape[0], dtype=np.int32) % 10
    batch = jax.device_put({'image': images, 'label': labels, 'mask': np.ones(shape[0], bool)})
    forward = jax.jit(lambda v, x: model.apply(v, x)[0]).lower(state.variables, images).compile()
    analysis = forward.cost_analysis() or {}

    def step():
        nonlocal state
        state, loss = steps.train(state, batch)
        return loss

    def peak() -> int:
        return (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0)

    return step, 3 * analysis.get('flops', 0.0), peak


def beside_timm(name: str, shape: tuple[int, ...], ours: float) -> Row:
    """The images a second of timm's network, and ours over it, where PyTorch sees the GPU."""
    if not all(importlib.util.find_spec(module) for module in ('torch', 'timm')):
        return {'timm, images/s': None}
    import backbones  # beside this file; it imports PyTorch
    import torch

    if not backbones.ON_GPU or shape[1] != shape[2]:
        return {'timm, images/s': None}
    case = backbones.Case('training', shape[0], shape[1])
    found = {}
    for compiled in (False, True):
        run = backbones.theirs(name, case, torch.channels_last, compiled=compiled)
        found['compiled' if compiled else 'eager'] = shape[0] / seconds(run)
    best = max(found.values())
    return {'timm, images/s': best, 'ours over timm': ours / best}


def towers() -> Iterator[Row]:
    """CLIP's towers, pictures a second."""
    for name in TOWERS[: 1 if TINY else None]:
        options = {'width': 16, 'layers': 1, 'image_size': 32, 'output_dim': 8} if TINY else {}
        model = models.create_model(name, dtype=jnp.bfloat16, **options)
        shape = (2 if TINY else 128, *model.input_spec.shape[1:])
        variables, images = jax.device_put(
            (weights.random_variables(model, 0), np.ones(shape, np.float32))
        )
        encode = jax.jit(lambda v, x, model=model: model.apply(v, x)[0])
        taken = seconds(lambda: encode(variables, images))  # noqa: B023
        yield {'tower': name, 'pictures/s': shape[0] / taken}


def late_fusion() -> Iterator[Row]:
    """An epoch of C04 at TAU's size: 103,752 rows of cached features."""
    rows_count = 480 if TINY else 103_752
    rng = np.random.default_rng(0)
    spec = models.input_spec('clip_late_fusion')
    rows = {k: rng.standard_normal((rows_count, s.shape[1]), np.float32) for k, s in spec.items()}
    rows['label'] = rng.integers(0, 10, rows_count).astype(np.int32)
    model, optimizer = models.create_model('clip_late_fusion'), optax.sgd(0.01, momentum=0.9)
    steps = Steps(model, optimizer, losses.cross_entropy, jax.local_devices()[:1])
    state, placed = steps.place(TrainState.create(model, optimizer, seed=0)), steps.place(rows)
    order, mask = epoch_order(rows_count, 48, shuffle_by=(0, 0))

    def epoch():
        nonlocal state
        state, values = steps.train_rows(state, placed, order, mask)
        return values

    yield {'epoch of C04, s': seconds(epoch, rounds=3), 'rows': rows_count}


def openl3() -> Iterator[Row]:
    """OpenL3's embeddings of sound, front end included."""
    model = models.create_model('openl3_audio', dtype=jnp.bfloat16)
    variables = weights.random_variables(model, 0)
    count = 2 if TINY else 96
    sound = np.random.default_rng(0).standard_normal((count, 48_000, 2), np.float32)
    front_end = functools.partial(frontends.openl3_mel256, sample_rate_hz=48_000)
    embed = jax.jit(lambda v, x: model.apply(v, front_end(x))[0])
    variables, sound = jax.device_put((variables, sound))
    yield {'network': 'openl3_audio', 'windows/s': count / seconds(lambda: embed(variables, sound))}


def front_ends() -> Iterator[Row]:
    """Front ends, seconds of sound a second."""
    count = 2 if TINY else 64
    sound = jax.device_put(np.random.default_rng(0).standard_normal((count, 48_000, 2), np.float32))
    for name in ('hitachi_logmel', 'ioacas_logmel', 'ioacas_bark', 'ioacas_scalogram'):
        run = jax.jit(functools.partial(getattr(frontends, name), sample_rate_hz=48_000))
        taken = seconds(lambda run=run: run(sound))
        yield {'front end': name, 'seconds of sound/s': count / taken}


def jobs() -> Iterator[Row]:
    """The main job and a hybrid on the demo, from the command to the report."""
    for config in ('clip_fusion.py:demo', 'ioacas_fusion.py:demo')[: 1 if TINY else None]:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            command = [sys.executable, '-m', 'avsc_jax.main', f'--config=configs/{config}']
            subprocess.run([*command, f'--workdir={folder}/run'], cwd=ROOT, check=True)
            yield {'job': config, 's': time.perf_counter() - start}


SECTIONS = {
    'devices': Section(devices, 15),
    'parity': Section(parity, 150),
    'training': Section(training, 150),
    'towers': Section(towers, 40),
    'late_fusion': Section(late_fusion, 15),
    'front_ends': Section(front_ends, 15),
    'openl3': Section(openl3, 15),
    'jobs': Section(jobs, 90, ('tensorflow_datasets', 'array_record', 'av', 'soundfile')),
}


def write(out: Path, results: dict[str, dict]) -> None:
    """Writes all results so far as JSON and as tables."""
    out.with_suffix('.json').write_text(json.dumps(results, indent=1, default=str) + '\n')
    lines = [f'Measured by `benchmarks/gpu.py`, jax {jax.__version__}.']
    for name, result in results.items():
        lines += ['', f'**{name}** ({result["seconds"]:.0f} s)', '']
        lines += [result['note'], ''] if result['note'] else []
        columns = list(dict.fromkeys(key for row in result['rows'] for key in row))
        if columns:
            lines += ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
        for row in result['rows']:
            lines.append('| ' + ' | '.join(shown(row.get(key)) for key in columns) + ' |')
    out.with_suffix('.md').write_text('\n'.join(lines) + '\n')


def shown(value: object) -> str:
    """A cell of a table."""
    if isinstance(value, float):
        return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'
    return '' if value is None else str(value)


def measured(section: Section, left_s: float) -> dict:
    """Runs a section, if its libraries are there and the time that is left suffices."""
    result: dict = {'rows': [], 'note': '', 'seconds': 0.0}
    missing = [name for name in section.needs if importlib.util.find_spec(name) is None]
    if missing or left_s < section.expected_s:
        why = f'{", ".join(missing)} missing' if missing else f'{left_s:.0f} s were left'
        return result | {'note': f'not run: {why}'}
    start = time.perf_counter()
    try:
        for row in section.run():
            result['rows'].append(row)
            print('  '.join(f'{key} {shown(value)}' for key, value in row.items()), flush=True)
    except Exception as error:  # the other sections are measured all the same
        result['note'] = f'ended by {type(error).__name__}: {str(error).splitlines()[0]:.200}'
    return result | {'seconds': time.perf_counter() - start}


def main() -> int:
    global TINY
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--out', type=Path, default=Path('gpu'), help='OUT.json and OUT.md')
    parser.add_argument('--budget_s', type=float, default=480.0)
    parser.add_argument('--only', nargs='+', choices=SECTIONS, help='sections (default: all)')
    parser.add_argument('--tiny', action='store_true', help='small sizes, to try the program')
    flags = parser.parse_args()
    TINY = flags.tiny
    began, results = time.perf_counter(), {}
    for name in flags.only or SECTIONS:
        print(f'== {name}', flush=True)
        results[name] = measured(SECTIONS[name], flags.budget_s - time.perf_counter() + began)
        print(results[name]['note'])
        write(flags.out, results)
    unequal = [row for row in results.get('parity', {}).get('rows', ()) if not row['equal']]
    failed = [name for name, result in results.items() if result['note'].startswith('ended')]
    return 1 if unequal or failed else 0


if __name__ == '__main__':
    sys.exit(main())
