"""Clips decoded per second on one core: our reader against the ffmpeg command line.

    pip install -e . && python benchmarks/builder.py [--json out.json]

It needs `ffmpeg` on the path. The work: 12 frames of a 10 s clip, 1280 x 720 at 30 frames a second
in H.264 at 5 Mb/s, scaled to a short side of 448 (bicubic), as JPEG. Ours: media.read_frames and
media.encode_jpeg, one codec thread, in a process that is already running. ffmpeg: one process a
clip with one thread, which selects the same frames (its start, some hundredths of a second, is
part of its way of working). The two take turns; the medians are compared, of wall time and of
processor time. Groups of 15 pictures are what action cameras write, groups of 250 what x264 does
by default.
"""

import argparse
import json
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image

from avsc_jax.data import media

RULE, SHORT_SIDE, NUM_FRAMES = 'clip12', 448, 300


def render(path: Path, group: int) -> None:
    """A panning texture with moving blocks and a little noise, which costs 5 Mb/s to code."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (60, 120, 3), dtype=np.uint8))
    canvas = np.asarray(coarse.resize((1900, 760), Image.Resampling.BICUBIC)).astype(np.int16)
    noise = rng.normal(0, 4, (760, 1400, 1)).astype(np.int16)
    options = {'preset': 'fast', 'g': str(group), 'sc_threshold': '0', 'bf': '0'}
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = (
            1280,
            720,
            'yuv420p',
            5_000_000,
        )
        for i in range(NUM_FRAMES):
            dx, dy = rng.integers(0, 40, 2)
            image = canvas[:720, 2 * i : 2 * i + 1280] + noise[dy : dy + 720, dx : dx + 1280]
            image[300:500, 4 * i % 1100 : 4 * i % 1100 + 120] = 255 - i % 200
            image = np.clip(image, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())


def ours(path: Path) -> int:
    frames = media.read_frames(path, RULE, short_side=SHORT_SIDE)
    return len([media.encode_jpeg(image) for image in frames.images])


def ffmpeg(path: Path) -> int:
    index = media.pick_frames(RULE, NUM_FRAMES, duration_s=10.0)
    select = '+'.join(f'eq(n,{i})' for i in index)
    with tempfile.TemporaryDirectory() as folder:
        command = ['ffmpeg', '-loglevel', 'error', '-threads', '1', '-filter_threads', '1']
        command += ['-i', str(path), '-an', '-vsync', '0', '-threads', '1', '-q:v', '2']
        command += ['-vf', f"select='{select}',scale=-2:{SHORT_SIDE}:flags=bicubic"]
        subprocess.run([*command, f'{folder}/%02d.jpg'], check=True)
        return len(list(Path(folder).iterdir()))


def seconds(function: Callable[[Path], int], path: Path) -> tuple[float, float]:
    """Wall and processor seconds, children included, of one call."""

    def spent() -> float:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    wall, processor = time.perf_counter(), spent()
    if function(path) != 12:
        raise ValueError(f'{function.__name__} did not give 12 pictures')
    return time.perf_counter() - wall, spent() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--json', type=Path, help='write the results here')
    parser.add_argument('--repeats', type=int, default=7)
    args = parser.parse_args()
    if not shutil.which('ffmpeg'):
        parser.error('no `ffmpeg` on the path; install it to compare with')
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for group in (15, 250):
            path = Path(folder) / f'group{group}.mp4'
            render(path, group)
            ours(path), ffmpeg(path)
            turns = [(seconds(ours, path), seconds(ffmpeg, path)) for _ in range(args.repeats)]
            medians = np.median(np.asarray(turns), axis=0)
            for clock, (mine, theirs) in zip(('wall', 'processor'), medians.T, strict=True):
                rate, peer = 1 / mine, 1 / theirs
                rows.append(
                    dict(group=group, clock=clock, ours=rate, ffmpeg=peer, ratio=rate / peer)
                )
    print('clips per second on one core (medians)')
    print(f'{"group":>6} {"clock":>10} {"ours":>7} {"ffmpeg":>7} {"ratio":>6}')
    for row in rows:
        print('{group:6d} {clock:>10} {ours:7.2f} {ffmpeg:7.2f} {ratio:6.2f}'.format(**row))
    if args.json:
        args.json.write_text(json.dumps(dict(repeats=args.repeats, rows=rows), indent=2) + '\n')


if __name__ == '__main__':
    main()
