"""Three systems from files to answers, against the scripts that people would write.

    pip install -e '.[parity]' && python benchmarks/end_to_end.py [--only clip] [--json out.json]

`clip` is zero-shot ViT-B/32, `openl3` embeddings of sound every half second, `yamnet` embeddings
of a log-mel CNN. The scripts are in naive_scripts.py. Clips are 10 s of 720p at 25 frames a second,
with 48 kHz stereo; `--minutes` adds a long video. Weights are random, of full size (but YAMNet's
are its own); CLIP's are read from one file by both sides. First comes the network alone, on the
rows of a clip: it bounds what the rest can gain. Then each side runs as a process of its own:
seconds from its start to its last answer, seconds for each further clip, and its peak memory with
all its children. Of ours, `first start` has an empty user's cache, `command` has what a start has
kept, and `calls`, for CLIP, calls the predictor once a file. The sides take turns. `--tiny` runs
our sides alone, in half a minute, with narrow networks; it needs nothing of PyTorch.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import predict as clips  # benchmarks/predict.py
from naive_scripts import CLASSES, SCRIPTS, network

NAIVE, FIRST = 'script', 'first start'
SIDES = (FIRST, 'command', 'calls', NAIVE)
ENCODERS = {'clip': 'clip_vit_b32', 'openl3': 'openl3_audio:hop_s=0.5', 'yamnet': 'yamnet'}
ROWS = {'clip': 12, 'openl3': 20, 'yamnet': 21}  # of a clip of ten seconds
TINY = {
    'clip': 'clip_vit_b32:width=16,layers=1,image_size=32,text_width=16,text_layers=1',
    'openl3': 'openl3_audio:hop_s=5',
    'yamnet': 'yamnet:width=0.25',
}


def command(system: str, files: list[str], folder: Path, tiny: bool) -> None:
    """Runs our command; CLIP's is given one more kind of weights than users have, random ones."""
    from avsc_jax.predict import media_files
    from avsc_jax.predict.__main__ import main

    if system == 'clip':
        for answer in media_files.tag(predictor(folder, tiny), [Path(file) for file in files]):
            print(answer.file, answer.scene, flush=True)
        return
    encoder = (TINY if tiny else ENCODERS)[system]
    origin = [] if encoder == 'yamnet' else ['--weights=random:0']  # its own are installed
    main([*files, f'--encoder={encoder}', *origin, f'--embeddings={folder}/out.npz'])


def calls(system: str, files: list[str], folder: Path, tiny: bool) -> None:
    """Answers by a call of the predictor for each file."""
    tagger = predictor(folder, tiny)
    for file in files:
        print(file, tagger(file).scene, flush=True)


def predictor(folder: Path, tiny: bool):
    """Our zero-shot system, as `avsc-predict --zero_shot` opens it."""
    from avsc_jax.predict.zero_shot import zero_shot
    from avsc_jax.runtime import compiled_programs

    os.environ.setdefault('USE_TORCH', '0')  # as runtime.cli does
    compiled_programs.keep()
    if tiny:
        return zero_shot(CLASSES, encoder=TINY['clip'], origin='random:0')
    return zero_shot(CLASSES, weights_dir=folder, origin=(folder / 'sha256').read_text())


def ours_alone(system: str, folder: Path, tiny: bool):
    """Our network alone, on all rows of one clip; random weights take the same time."""
    import numpy as np

    from avsc_jax.predict import embeddings

    text = (TINY if tiny else ENCODERS)[system].partition(',text')[0]
    spec, _ = embeddings.specified(text, folder, 'random:0')
    encoder = spec.make(folder)
    rows = [np.zeros(encoder.transform.item.shape, encoder.transform.item.dtype)] * ROWS[system]
    return lambda: encoder(rows)


def alone_s(run) -> float:
    """The median time of some calls after the first one."""
    run()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measured(system: str, side: str, files: list[Path], flags, folder: Path) -> dict[str, float]:
    """Runs a side in a process of its own."""
    line = [sys.executable, __file__, f'--side={side}', f'--only={system}', f'--folder={folder}']
    line += ['--tiny'] * flags.tiny + [str(file) for file in files]
    home = folder / ('fresh' if side == FIRST else 'home')
    shutil.rmtree(folder / 'fresh', ignore_errors=True)
    home.mkdir(exist_ok=True)
    start, at, errors = time.perf_counter(), [], folder / 'errors.txt'
    with errors.open('w') as stderr:
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env={k: v for k, v in os.environ.items() if k != 'JAX_COMPILATION_CACHE_DIR'}
            | {'HOME': str(home)},
        )  # fmt: skip

    def listen() -> None:
        at.extend(time.perf_counter() for line in process.stdout if '.mp4' in line)

    listener = threading.Thread(target=listen)
    listener.start()
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(map(clips.memory_mib, clips.family(process.pid))))
        time.sleep(0.1)
    listener.join()
    if process.returncode or len(at) != len(files):
        raise SystemExit(
            f'{side} of {system} ended with {process.returncode} and {len(at)} answers:\n'
            + errors.read_text()[-2000:]
        )
    # answers of one batch come together: of them, a further clip's time says nothing
    seconds = (at[-1] - at[0]) / max(1, len(at) - 1)
    further = {'each_further_s': seconds} if seconds > 0.01 else {}
    return {'wall_s': at[-1] - start} | further | {'peak_mib': peak}


def compare(system: str, files: list[Path], flags, folder: Path) -> dict:
    """The medians of each side, and the script's over each of ours."""
    sides = [s for s in flags.sides if (s != 'calls' or system == 'clip') and not
             (s == NAIVE and flags.tiny)]  # fmt: skip
    runs: dict[str, list] = {side: [] for side in sides}
    for _ in range(flags.rounds):
        for side in sides:
            runs[side].append(measured(system, side, files, flags, folder))
    found = {
        side: {
            name: statistics.median(run[name] for run in each)
            for name in each[0]
            if all(name in run for run in each)
        }
        for side, each in runs.items()
    }
    for side in [side for side in sides if side != NAIVE and NAIVE in sides]:
        script = found[NAIVE]
        ratio = {
            name: script[name] / value for name, value in found[side].items() if name in script
        }
        found[f'script / {side}'] = ratio
    return found


def shown(what: str, sides: dict) -> None:
    for side, numbers in sides.items():
        line = '  '.join(f'{key} {value:8.2f}' for key, value in numbers.items())
        print(f'{what:<20}{side:<24}{line}', flush=True)


def run_side(flags) -> None:
    """Runs one side of the comparison in a process of its own."""
    (system,), files = flags.only, [str(file) for file in flags.files]
    weights_file = str(flags.folder / 'clip_vit_b32.safetensors')
    if flags.side == 'weights':
        from naive_scripts import write_clip

        write_clip(weights_file)
    elif flags.side == NAIVE:
        SCRIPTS[system](files, weights_file)
    elif flags.side.startswith('network'):
        ours = flags.side == 'network'
        alone = ours_alone(system, flags.folder, flags.tiny) if ours else network(
            system, weights_file)  # fmt: skip
        print(alone_s(alone))
    else:
        side = calls if flags.side == 'calls' else command
        side(system, files, flags.folder, flags.tiny)


def helper(side: str, system: str, flags, folder: Path) -> str:
    """Returns what one side prints about itself, in a process that is not timed."""
    line = [sys.executable, __file__, f'--side={side}', f'--only={system}', f'--folder={folder}']
    line += ['--tiny'] * flags.tiny
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add = parser.add_argument
    add('files', nargs='*', type=Path, help=argparse.SUPPRESS)
    add('--side', help=argparse.SUPPRESS)
    add('--folder', type=Path, help=argparse.SUPPRESS)
    add('--only', nargs='+', choices=SCRIPTS, default=[*SCRIPTS], help='which systems')
    add('--sides', nargs='+', choices=SIDES, default=[*SIDES], help='which sides, of all four')
    add('--clips', type=int, nargs='*', default=[1, 2, 20])
    add('--minutes', type=int, nargs='*', default=[], help='length of long videos')
    add('--rounds', type=int, default=3)
    add('--tiny', action='store_true', help='narrow networks, one and two clips, no scripts')
    add('--json', type=Path)
    flags = parser.parse_args()
    if flags.side:
        run_side(flags)
        return
    if flags.tiny:
        flags.clips, flags.rounds = [1, 2], 1
    result: dict = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = clips.render(folder / 'clip.mp4', 10 / 60)
        if 'clip' in flags.only and not flags.tiny:
            helper('weights', 'clip', flags, folder)
            content = (folder / 'clip_vit_b32.safetensors').read_bytes()
            (folder / 'sha256').write_text(hashlib.sha256(content).hexdigest())
            del content
        for system in flags.only:
            sides = {'ours': 'network'} | ({} if flags.tiny else {'script': 'network of script'})
            alone = {
                name: {'network_s_a_clip': float(helper(side, system, flags, folder))}
                for name, side in sides.items()
            }
            shown(system, alone)
            result[system] = {'network alone': alone}
            for count in flags.clips:
                files = [Path(shutil.copy(clip, folder / f'{k}.mp4')) for k in range(count)]
                result[system][f'{count} clips'] = compare(system, files, flags, folder)
                shown(f'{system}, {count} clips', result[system][f'{count} clips'])
            for minutes in flags.minutes:
                long = clips.repeated(clip, folder / 'long.mp4', 6 * minutes)
                result[system][f'{minutes} min'] = compare(system, [long], flags, folder)
                shown(f'{system}, {minutes} min', result[system][f'{minutes} min'])
    if flags.json:
        flags.json.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
