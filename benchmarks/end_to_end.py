"""Zero-shot ViT-B/32 from files to answers, against the script that people would write.

    pip install -e '.[parity]' && python benchmarks/end_to_end.py [--clips 1 2 20] [--json out.json]

The script is `naive` below: PyAV decodes all frames, Pillow and open_clip prepare twelve of each
ten seconds, and eager PyTorch encodes them, one clip after the other. Clips are 10 s of 720p at 25
frames a second; `--minutes` adds a long video. Weights are random, of full size. Each side runs as
a process of its own: seconds from its start to its last answer, seconds for each further clip, and
its peak memory with all its children. Ours runs as the command does, with all files at once, and by
a call for each file. The sides take turns.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import predict as clips  # benchmarks/predict.py

CLASSES = ['beach', 'forest', 'city street', 'office', 'kitchen']
PICTURES, WINDOW_S = 12, 10.0


def command(files: list[str]) -> None:
    """Answers by this package, as its command does, but with random weights."""
    from avsc_jax.predict import media_files

    for answer in media_files.tag(predictor(), [Path(file) for file in files]):
        print(time.perf_counter(), answer.scene, flush=True)


def calls(files: list[str]) -> None:
    """Answers by a call of the predictor for each file."""
    tagger = predictor()
    for file in files:
        print(time.perf_counter(), tagger(file).scene, flush=True)


def predictor():
    """Our zero-shot system."""
    from avsc_jax.predict.zero_shot import zero_shot
    from avsc_jax.runtime import compiled_programs

    compiled_programs.keep()
    return zero_shot(CLASSES, origin='random:0')


def naive(files: list[str]) -> None:
    """Answers by PyAV, Pillow and open_clip."""
    import torch
    from torch_peers import import_open_clip

    open_clip = import_open_clip()
    model, _, preprocess = open_clip.create_model_and_transforms('ViT-B-32-quickgelu')
    model.eval()
    tokens = open_clip.get_tokenizer('ViT-B-32-quickgelu')([f'a photo of a {c}' for c in CLASSES])
    with torch.inference_mode():
        texts = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1)
        for file in files:
            probs = []
            for images in windows(file):
                batch = torch.stack([preprocess(image) for image in images])
                seen = torch.nn.functional.normalize(model.encode_image(batch), dim=-1)
                probs.append((100 * seen @ texts.T).softmax(-1).mean(0))
            mean = torch.stack(probs).mean(0)
            print(time.perf_counter(), CLASSES[int(mean.argmax())], flush=True)


def windows(file: str):
    """Yields the pictures of each ten seconds, twelve of them evenly spaced."""
    import av

    images = []
    with av.open(file) as container:
        for frame in container.decode(video=0):
            at_s = frame.time % WINDOW_S
            if at_s >= (len(images) + 0.5) * WINDOW_S / PICTURES and len(images) < PICTURES:
                images.append(frame.to_image())
            if len(images) == PICTURES and at_s + 0.041 > WINDOW_S:
                yield images
                images = []
    if images:
        yield images


NAIVE = 'PyAV, Pillow, open_clip'
SIDES = {'avsc_jax': command, 'avsc_jax, by calls': calls, NAIVE: naive}


def measured(side: str, files: list[Path]) -> dict[str, float]:
    """Runs a side in a process of its own."""
    command = [sys.executable, __file__, '--side', side, *map(str, files)]
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    while process.poll() is None:
        peak = max(peak, sum(map(clips.memory_mib, clips.family(process.pid))))
        time.sleep(0.1)
    lines = process.stdout.read().splitlines()
    if process.returncode or len(lines) != len(files):
        raise SystemExit(f'{side} ended with {process.returncode} and {len(lines)} answers')
    at = [float(line.split()[0]) for line in lines]
    further = (at[-1] - at[0]) / (len(at) - 1) if len(at) > 1 else 0.0
    return {'wall_s': at[-1] - start, 'each_further_s': further, 'peak_mib': peak}


def compare(files: list[Path], rounds: int) -> dict:
    """The medians of both sides, and the script's over ours."""
    found = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            found[side].append(measured(side, files))
    sides = {
        side: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for side, runs in found.items()
    }
    ratios = {
        f'{side}, the script over it': {
            name: sides[NAIVE][name] / numbers[name] for name in numbers if numbers[name] > 1e-3
        }
        for side, numbers in sides.items()
        if side != NAIVE
    }
    return sides | ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('files', nargs='*', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--side', choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument('--clips', type=int, nargs='+', default=[1, 2, 20])
    parser.add_argument('--minutes', type=int, nargs='*', default=[])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--json', type=Path)
    flags = parser.parse_args()
    if flags.side:
        SIDES[flags.side]([str(file) for file in flags.files])
        return
    result = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = clips.render(folder / 'clip.mp4', 10 / 60)
        for count in flags.clips:
            files = [Path(shutil.copy(clip, folder / f'{k}.mp4')) for k in range(count)]
            result[f'{count} clips'] = compare(files, flags.rounds)
        for minutes in flags.minutes:
            long = clips.repeated(clip, folder / 'long.mp4', 6 * minutes)
            result[f'{minutes} min'] = compare([long], flags.rounds)
    for what, sides in result.items():
        for side, numbers in sides.items():
            shown = '  '.join(f'{key} {value:8.2f}' for key, value in numbers.items())
            print(f'{what:<10}{side:<40}{shown}')
    if flags.json:
        flags.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
