"""How fast predict is on a long 720p clip, where its time goes, and how much memory it takes.

    pip install -e . && python benchmarks/predict.py RUN [--minutes 1 10 60] [--json out.json]

RUN is a finished run, such as runs/clip_fusion-demo. The clip is rendered: a textured picture that
drifts, H.264 at 25 frames a second with a key frame every ten seconds, and stereo AAC of 48 kHz. It
is a minute that is repeated, packet for packet.

The command runs as a user's does, in a process of its own. Memory is that of it and its decoders
together, by their proportional set sizes, sampled five times a second. The shares are of CPU time
that is spent on the same clip once more, one stage after the other in one process.
"""

import argparse
import fractions
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import jax
import numpy as np

from avsc_jax.data import windows
from avsc_jax.predict.predictor import load

SIZE, RATE = (1280, 720), 25
SHARES_OF_MIN = 10
APART_S = fractions.Fraction(1, 10)  # between repetitions; packets reach beyond the end


def render(path: Path, minutes: float) -> Path:
    """The clip that is repeated."""
    draw = np.random.default_rng(0)
    small = draw.integers(0, 256, (90, 160, 3), np.uint8)
    large = np.kron(small, np.ones((16, 16, 1), np.uint8)) // 2
    large += draw.integers(0, 64, large.shape, np.uint8)
    with av.open(path, 'w') as container:
        shown = container.add_stream('libx264', rate=RATE)
        shown.width, shown.height, shown.pix_fmt = *SIZE, 'yuv420p'
        shown.options = {'preset': 'veryfast', 'crf': '26', 'g': str(10 * RATE)}
        heard = container.add_stream('aac', rate=48000, layout='stereo')
        for k in range(round(60 * minutes * RATE)):
            x, y = (k % 1200, k // 2 % 700)
            frame = np.ascontiguousarray(large[y : y + SIZE[1], x : x + SIZE[0]])
            container.mux(shown.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
            noise = draw.normal(0, 0.1, (2, 48000 // RATE)).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(noise, 'fltp', 'stereo')
            frame.sample_rate, frame.pts = 48000, k * 48000 // RATE
            container.mux(heard.encode(frame))
        for stream in container.streams:
            container.mux(stream.encode())
    return path


def repeated(piece: Path, path: Path, times: int) -> Path:
    """The piece so many times over, without encoding it again."""
    with av.open(piece) as source, av.open(path, 'w') as container:
        streams = {s: container.add_stream_from_template(s) for s in source.streams}
        length_s = fractions.Fraction(source.duration, av.time_base) + APART_S
        for k in range(times):
            source.seek(0)
            for packet in source.demux():
                if packet.size:
                    shift = round(k * length_s / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream]
                    container.mux(packet)
    return path


def predicted(model: Path, clip: Path, folder: Path) -> dict[str, float]:
    """Wall clock and peak memory of the command."""
    command = ['-m', 'avsc_jax.predict', str(clip), f'--model={model}', f'--csv={folder}/out.csv']
    start, peak = time.monotonic(), 0.0
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(map(memory_mib, family(process.pid))))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit('predict failed, as told above')
    return {'wall_s': time.monotonic() - start, 'peak_mib': peak}


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        threads = Path(f'/proc/{pid}/task').iterdir()
        children = {c for t in threads for c in (t / 'children').read_text().split()}
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def memory_mib(pid: int) -> float:
    """The proportional set size; 0 of a process that is gone."""
    try:
        lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith('Pss:'))


def shares(model: Path, clip: Path) -> dict[str, float]:
    """CPU seconds of each stage."""
    tagger = load(model)
    spent = dict.fromkeys(('decode', 'front end and encoders', 'network'), 0.0)
    found = windows.read(clip, tagger.wants())
    first = True
    while True:
        start = time.process_time()
        batch = [window for window, _ in zip(found, range(8), strict=False)]
        spent['decode'] += time.process_time() - start
        if not batch:
            return spent
        for part in tagger.parts:
            for _ in range(1 + first):  # the first time it compiles
                start = time.process_time()
                rows = part.rows(batch)
                middle = time.process_time()
                part.apply({k: np.concatenate([r[k] for r in rows]) for k in rows[0]})
                end = time.process_time()
            spent['front end and encoders'] += middle - start
            spent['network'] += end - middle
        first = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', type=Path)
    parser.add_argument('--minutes', type=int, nargs='+', default=[1, 10, 60])
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    result = {'model': args.model.name, 'devices': [str(d) for d in jax.devices()]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print('rendering', file=sys.stderr)
        minute = render(folder / 'minute.mp4', 1)
        for minutes in args.minutes:
            clip = repeated(minute, folder / f'{minutes}.mp4', minutes)
            found = predicted(args.model, clip, folder)
            found['real_time_factor'] = 60 * minutes / found['wall_s']
            result[f'{minutes} min'] = found
            if minutes == SHARES_OF_MIN:
                result['cpu_s'] = shares(args.model, clip)
            clip.unlink()
            print(f'{minutes} min: {json.dumps(found)}', flush=True)
    if 'cpu_s' in result:
        total = sum(result['cpu_s'].values())
        for stage, seconds in result['cpu_s'].items():
            print(f'{stage:24}{seconds:8.1f} s{seconds / total:8.1%}')
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
