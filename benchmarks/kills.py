"""Kills the demo's pipeline at random moments; the end results must be the same each time.

    pip install -e . && python benchmarks/kills.py --kills=100 [--json out.json]

A round begins with nothing and gives four commands as a user does: the main job (which builds the
data, extracts features, trains and reports), `python -m avsc_jax.predict` with the run on the
demo's films, `score` on the run's predictions, and `export` of the run as StableHLO.
The first round is left alone. In each round after it a command is killed (SIGKILL to it and its
children) at a random moment and given again, until it ends by itself; then the round's results
must be byte for byte those of the first. RESULTS says which files these are. Each round's media are
other files, so the stamps that cached features keep of them are not compared.

The main job is killed within half of its undisturbed length after each start, so that the kills of
one round are spread over all of it, and predict within its length, for it goes on, too. Scoring
and exporting start anew: they are killed once a round, within their length.
Arguments after `--` are passed on to the main job.
"""

import argparse
import collections
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = (
    'data/features/**/*.npz',
    'run/*.json',  # config, environment with the data's fingerprint, preprocessing, report
    'run/metrics.jsonl',
    'run/predictions/*.npz',
    'scored/report.json',
    'scored/predictions.npz',
    'scenes.csv',
    'windows.tsv',
    'exported/*',
)
MEDIA = 'data/downloads/tfds_tau_demo-1.0.0'  # of the demo, which the main job renders
STARTS_ANEW = ('score', 'export')  # what is done is not kept


def commands(config: str, arguments: list[str], kind: str = 'video') -> dict[str, list[str]]:
    """The commands and files of a round, as a user gives them.

    Args:
      kind: the files that predict answers, 'audio' or 'video'; the demo's films have no sound.
    """
    config = f'--config={ROOT / "configs"}/{config}'
    main = ['avsc_jax.main', config, '--data_dir=data', '--workdir=run', *arguments]
    tables = ['--csv=scenes.csv', '--timeline=windows.tsv']
    each = {
        'main': main,
        'predict': ['avsc_jax.predict', f'{MEDIA}/{kind}', '--model=run', *tables],
        'score': ['avsc_jax.score', 'run/predictions/test.npz', '--out=scored'],
        'export': ['avsc_jax.export', 'run', 'exported', '--format=stablehlo'],
    }
    return {name: [sys.executable, '-m', *command] for name, command in each.items()}


def ends(command: list[str], folder: Path, *, limit_s: float | None = None) -> bool:
    """Runs a command to its end, or kills it after `limit_s`; whether it came to its end."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    file = folder / 'log.txt'
    with file.open('w') as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, 'PYTHONPATH': path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
    if code:
        raise RuntimeError(f'{command[2]} ended with {code}: {file.read_text()[-2000:]}')
    return True


def stage(name: str, folder: Path) -> str:
    """What a killed command was at, by what it has left."""
    if name != 'main':
        return name
    if not (folder / 'log.txt').stat().st_size:
        return 'start'
    if not list(folder.glob('data/tfds_tau/demo/*/dataset_info.json')):
        return 'build'
    if not (folder / 'run/checkpoints').exists():
        return 'extraction'
    return 'report' if (folder / 'run/predictions/test.npz').exists() else 'training'


def disturb(
    folder: Path,
    given: dict[str, list[str]],
    longest_s: dict[str, float],
    rng: np.random.Generator,
    most: int,
) -> list[dict]:
    """Gives each command until it comes to its end; returns the kills, `most` or fewer."""
    kills = []
    for name, command in given.items():
        allowed = min(most, len(kills) + 1) if name in STARTS_ANEW else most
        while len(kills) < allowed:
            limit_s = rng.uniform(0, longest_s[name])
            if ends(command, folder, limit_s=limit_s):
                break
            kills.append({'stage': stage(name, folder), 'seconds': limit_s})
            print(
                '  killed at {stage}, {seconds:.1f} s after it began'.format(**kills[-1]),
                flush=True,
            )
        else:
            ends(command, folder)
    return kills


def results(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that makes up the result of a round; see `_sha256`."""
    files = {file for pattern in RESULTS for file in folder.glob(pattern)}
    files.discard(folder / 'run/checksums.json')  # Orbax writes times into its files
    return {str(file.relative_to(folder)): _sha256(file) for file in sorted(files)}


def _sha256(file: Path) -> str:
    """SHA-256 of a file; of cached features without the stamps of the media, times and inodes."""
    if 'features' not in file.parts:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    with np.load(file) as arrays:
        for name in sorted({*arrays} - {'stamps'}):
            array = arrays[name]
            digest.update(f'{name} {array.dtype} {array.shape}'.encode() + array.tobytes())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument(
        '--commands', default='main,predict,score,export', help='which, of all four'
    )
    parser.add_argument('--config', default='clip_fusion.py:demo', help='a file of configs/')
    parser.add_argument(
        '--media', default='video', choices=('audio', 'video'), help='that it takes'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--data_dir', type=Path, help='begin each round with a copy of this')
    parser.add_argument('--json', type=Path, help='also write the numbers here')
    parser.add_argument('arguments', nargs='*', help='after `--`: more flags of the main job')
    args = parser.parse_args()
    every = commands(args.config, args.arguments, args.media)
    rng, rounds = np.random.default_rng(args.seed), []
    given = {name: every[name] for name in args.commands.split(',')}
    with tempfile.TemporaryDirectory() as place:
        folder, lasted = begin(place, args.data_dir), {}
        for name, command in given.items():
            began = time.monotonic()
            ends(command, folder)
            lasted[name] = time.monotonic() - began
        expected = results(folder)
        spent = ' + '.join(f'{seconds:.0f}' for seconds in lasted.values())
        print(f'{len(expected)} files in {spent} s', flush=True)
        longest_s = lasted | {'main': lasted['main'] / 2}
        while (left := args.kills - sum(map(len, rounds))) > 0:
            folder = begin(place, args.data_dir)
            rounds.append(disturb(folder, given, longest_s, rng, left))
            differ = {name for name, _ in expected.items() ^ results(folder).items()}
            if differ:
                print(f'error: round {len(rounds)} gave other results: {", ".join(sorted(differ))}')
                return 1
            print(f'round {len(rounds)}: {len(rounds[-1])} kills, the same results', flush=True)
            shutil.rmtree(folder)
    stages = dict(collections.Counter(kill['stage'] for kills in rounds for kill in kills))
    print(f'{args.kills} kills in {len(rounds)} rounds, every result the same: {stages}')
    if args.json:
        told = dict(undisturbed_s=lasted, files=list(expected), kills=stages, rounds=rounds)
        args.json.write_text(json.dumps(told, indent=1) + '\n')
    return 0


def begin(place: str, data_dir: Path | None) -> Path:
    """A new folder for a round."""
    folder = Path(tempfile.mkdtemp(dir=place))
    if data_dir:
        shutil.copytree(data_dir, folder / 'data')
    return folder


if __name__ == '__main__':
    sys.exit(main())
