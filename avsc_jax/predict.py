"""Names the scenes of media files with a trained run.

python -m avsc_jax.predict clip.mp4 folder/ --model=runs/clip_fusion [--csv out.csv]
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from avsc_jax import cli, tables, weights
from avsc_jax.data import media
from avsc_jax.data.batches import read_ahead
from avsc_jax.training import load_run
from avsc_jax.training.run_folder import RunFolder, default_weights_dir

SUFFIXES = ('.mp4', '.mkv', '.mov', '.avi', '.webm', '.m4v', '.mpg', '.mpeg', '.ts', '.wmv')


def main(arguments: list[str]) -> int:
    """Exit code 0 when every file got its scene, 1 when some could not be read."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.predict',
        description='Prints the most likely scenes of each file, with their probabilities.',
    )
    parser.add_argument('files', nargs='+', type=Path, help='video files, or folders of them')
    parser.add_argument('--model', required=True, type=Path, help='run folder of avsc_jax.main')
    parser.add_argument(
        '--csv', type=Path, help='write a predictions table: .csv/.tsv (DCASE, tabs) or .npz'
    )
    parser.add_argument(
        '--embeddings', type=Path, help='write clip_id and embedding [N, D] to this .npz'
    )
    parser.add_argument('--weights_dir', type=Path, help='pretrained weights of the encoders')
    parser.add_argument(
        '--download_weights', action='store_true', help='fetch those that are missing there'
    )
    parser.add_argument('--top', type=int, default=3, help='scenes printed per file (default 3)')
    args = parser.parse_args(arguments)
    files = find_files(args.files)
    for out, suffixes in ((args.csv, tables.SUFFIXES), (args.embeddings, ('.npz',))):
        if out and out.suffix not in suffixes:
            raise ValueError(f'{out} must end in {", ".join(suffixes)}')
        if out and not out.absolute().parent.is_dir():
            raise FileNotFoundError(f'{out.parent} is not a folder; make it first')
    for warning in RunFolder(args.model).read_json('report.json')['about']['warnings']:
        print(f'! {warning}', file=sys.stderr)
    if args.download_weights:
        encoders = RunFolder(args.model).read_json('preprocessing.json')['encoders']
        published = [e['name'] for e in encoders if not e['weights'].startswith('random:')]
        weights.download_all(published, args.weights_dir or default_weights_dir())
    model, variables, preprocess, classes = load_run(args.model, weights_dir=args.weights_dir)

    def decode(file: Path) -> dict | ValueError | OSError:
        try:
            found = media.read_frames(file, preprocess.frame_rule, short_side=preprocess.short_side)
            return {'frames': list(found.images)}
        except (ValueError, OSError) as error:
            return error

    apply = jax.jit(model.apply)
    done, probs, embeddings, errors = [], [], [], []
    records = read_ahead(decode, files, num_threads=os.cpu_count() or 1)
    for file, record in zip(tqdm(files, unit='file', disable=len(files) < 2), records, strict=True):
        if not isinstance(record, dict):
            errors.append(record)
            continue
        logits, out = apply(variables, preprocess(record))
        done.append(file)
        probs.append(softmax(np.asarray(logits, np.float64), axis=1).mean(axis=0))
        embeddings.append(np.asarray(out['embedding']).mean(axis=0))
        best = np.argsort(-probs[-1], kind='stable')[: args.top]
        scenes = '  '.join(f'{classes[c]} {probs[-1][c]:.3f}' for c in best)
        tqdm.write(f'{file}  {scenes}')
    clip_ids = _clip_ids(done)
    if done and args.csv:
        tables.write(_table(clip_ids, np.stack(probs), classes), args.csv)
    if done and args.embeddings:
        beside = args.embeddings.with_name(args.embeddings.name + '.part')
        with beside.open('wb') as file:
            np.savez(file, clip_id=np.array(clip_ids), embedding=np.stack(embeddings))
        beside.replace(args.embeddings)
    for error in errors:
        print(f'error: {error}', file=sys.stderr)
    if errors:
        print(f'{len(done)} of {len(files)} files classified', file=sys.stderr)
    return 1 if errors else 0


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the videos below the folders named, sorted and each once."""
    found = []
    for path in paths:
        if path.is_dir():
            found += sorted(f for f in path.rglob('*') if f.suffix.lower() in SUFFIXES)
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f'{path} does not exist; name video files or folders of them')
    if not found:
        raise FileNotFoundError(
            f'no videos below {", ".join(map(str, paths))}; looked for {" ".join(SUFFIXES)}'
        )
    return list(dict.fromkeys(found))


def _clip_ids(files: list[Path]) -> list[str]:
    """Names without folder and suffix where that tells the files apart, else whole paths."""
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(stems) else [str(file) for file in files]


def _table(clip_ids: list[str], probs: np.ndarray, classes: tuple[str, ...]) -> tables.Predictions:
    unknown = np.full(len(clip_ids), -1, np.int32)
    meta = {'classes': list(classes), 'granularity': 'clip', 'pooled': True, 'calibrated': False}
    return tables.Predictions(np.array(clip_ids), unknown, unknown, probs, meta)


def run() -> None:
    """Console script avsc-predict."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
