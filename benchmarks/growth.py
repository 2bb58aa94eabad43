"""Computes what more GPUs and more machines would give, from rates measured on one machine.

    pip install -e . && python benchmarks/growth.py [--clip_s=0.52] [--frame_ms=1.12] [--help]

Nothing is measured here: the first table divides counted operations by stated peaks, the second
simulates machines that take tasks as `predict --runner` cuts them. Each figure that goes in is a
flag; --help says where its default comes from.
"""

import argparse
import heapq
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from avsc_jax import models
from avsc_jax.predict import on_beam

# Chips, dense bfloat16 operations a second that their makers state for one, and cores: assumed.
PLACES = {
    '1 H100, 16 cores': (1, 989e12, 16),
    '8 H100, 96 cores': (8, 989e12, 96),
    'TPU v5e-8, 112 cores': (8, 197e12, 112),
}
# What is done with a row: network, its input, the row, passes (a gradient takes two of a forward).
JOBS = {
    'training, RegNetX-6.4GF, pictures of 448 px': ('regnetx_064', (448, 448), 'frame', 3),
    'training, ResNeSt-50d, pictures of 448 px': ('resnest50d', (448, 448), 'frame', 3),
    'training, RegNetX-6.4GF, seconds of sound': ('regnetx_064', (256, 94), 'sound', 3),
    'features, CLIP ViT-B/32, pictures of 224 px': ('clip_vit_b32', (224, 224), 'frame', 1),
}
CLIP_S = 10  # of video a clip


def operations(name: str, size: tuple[int, int]) -> float:
    """The operations of a network's forward pass over one row, as XLA counts them."""
    model = models.create_model(name, num_classes=0 if name.startswith('clip') else 10)
    variables = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct(model.input_spec.shape, np.float32)
    )
    rows = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    return jax.jit(model.apply).lower(variables, rows).cost_analysis()['flops']


def feeding(share: float, ms: dict[str, float]) -> Iterator[tuple]:
    """Rows a second that chips need and that cores give, for each job and place."""
    for job, (name, size, row, passes) in JOBS.items():
        count = passes * operations(name, size)
        for place, (chips, peak, cores) in PLACES.items():
            needed, given = chips * peak * share / count, 1000 / ms[row]
            yield job, place, needed, given, needed / given, min(1.0, cores * given / needed)


def task_sizes(hours: float, file_s: float, file_bytes: float) -> list[int]:
    """The clips of each task, as avsc_jax.predict.on_beam.tasks cuts files of one size."""
    files = round(hours * 3600 / file_s)
    most = min(on_beam.FILES_PER_TASK, max(1, int(on_beam.BYTES_PER_TASK / file_bytes)))
    clips = round(file_s / CLIP_S)
    return [clips * min(most, files - first) for first in range(0, files, most)]


def simulated(
    sizes: Sequence[int],
    machines: int,
    *,
    clip_s: float,
    startup_s: float,
    machine_s: float = 0.0,
    spread: float = 0.0,
    slow_share: float = 0.0,
    slow_factor: float = 1.0,
    is_fixed: bool = False,
    seed: int = 0,
) -> float:
    """Hours until the last machine has ended.

    Args:
      sizes: the clips of each task.
      startup_s: until a worker has its network, after `machine_s` for its machine.
      spread: deviation of the logarithm of a task's time.
      slow_share: of machines, which take `slow_factor` times as long.
      is_fixed: each machine has its share of tasks beforehand; else the next free one takes one.
    """
    draw = np.random.default_rng(seed)
    slow = np.where(np.arange(machines) < round(slow_share * machines), slow_factor, 1.0)
    seconds = clip_s * np.array(sizes) * np.exp(draw.normal(-(spread**2) / 2, spread, len(sizes)))
    began = machine_s + startup_s
    if is_fixed:
        ends = [began + slow[k] * seconds[k::machines].sum() for k in range(machines)]
        return max(ends) / 3600
    free = [(began, k) for k in range(machines)]
    for each in seconds:
        at, k = heapq.heappop(free)
        heapq.heappush(free, (at + slow[k] * each, k))
    return max(free)[0] / 3600


def table(head: Sequence[str], rows: Iterator[Sequence] | Sequence[Sequence]) -> None:
    """Prints a Markdown table."""
    print(f'| {" | ".join(head)} |\n|{"---|" * len(head)}')
    for row in rows:
        print(f'| {" | ".join(map(str, row))} |')
    print()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--frame_ms', type=float, default=1.12, help='core time of a picture: rows.py')
    add('--sound_ms', type=float, default=1.11, help='core time of a second of sound: rows.py')
    add('--share', type=float, default=0.35, help="of a chip's peak; assumed")
    add('--hours', type=float, default=1000.0, help='of video')
    add('--clip_s', type=float, default=0.52, help='a further clip on a machine; docs/growth.md')
    add('--startup_s', type=float, default=15.5, help='of a worker; docs/growth.md')
    add('--machine_s', type=float, default=120.0, help='until a machine is there; assumed')
    add('--clip_mb', type=float, default=0.6, help='of ten seconds of video')
    add('--spread', type=float, default=0.2, help='of the logarithm of task times; assumed')
    add('--slow_share', type=float, default=0.05, help='of machines that are slow; assumed')
    add('--slow_factor', type=float, default=3.0, help='by which they are slow; assumed')
    add('--machines', type=int, nargs='+', default=[1, 10, 100])
    args = parser.parse_args()

    print(f'Computed: rows that chips at {args.share:.0%} of their peak need, and cores give\n')
    head = 'job (computed)', 'place', 'needed, rows/s', 'given, rows/s a core', 'cores to feed it'
    rows = (
        (job, place, f'{needed:,.0f}', f'{given:,.0f}', f'{cores:.1f}', f'{fed:.0%}')
        for job, place, needed, given, cores, fed in feeding(
            args.share, {'frame': args.frame_ms, 'sound': args.sound_ms}
        )
    )
    table((*head, 'fed by its cores'), rows)

    print(f'Computed: {args.hours:g} hours of video, machines of two cores\n')
    head = 'machines (computed)', 'files of', 'tasks', 'work alone, h', 'next free takes a task, h'
    lines = []
    for file_s in (CLIP_S, 600):
        sizes = task_sizes(args.hours, file_s, args.clip_mb * 1e6 * file_s / CLIP_S)
        alone = args.clip_s * sum(sizes) / 3600
        for machines in args.machines:
            given = {name: getattr(args, name) for name in NAMES}
            free = simulated(sizes, machines, **given)
            fixed = simulated(sizes, machines, **given, is_fixed=True)
            lines.append(
                (machines, f'{file_s} s', f'{len(sizes):,}', f'{alone / machines:.2f}',
                 f'{free:.2f}', f'{alone / machines / free:.0%}', f'{fixed:.2f}')
            )  # fmt: skip
    table((*head, 'of it work', 'fixed shares, h'), lines)


NAMES = ('clip_s', 'startup_s', 'machine_s', 'spread', 'slow_share', 'slow_factor')

if __name__ == '__main__':
    main()
