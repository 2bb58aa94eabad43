"""Names the scenes of media files, or of a prepared dataset, with a trained run.

python -m avsc_jax.predict clip.mp4 folder/ --model=runs/clip_fusion [--csv out.csv]
python -m avsc_jax.predict --dataset=evaluation --model=runs/hitachi_image --csv out.csv
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from avsc_jax import cli, tables, weights
from avsc_jax.data import media
from avsc_jax.data.batches import read_ahead
from avsc_jax.data.records import default_data_dir, open_dataset
from avsc_jax.features import FeatureInputs
from avsc_jax.inputs import Inputs
from avsc_jax.training import load_run
from avsc_jax.training.run_folder import RunFolder, default_weights_dir

SUFFIXES = ('.mp4', '.mkv', '.mov', '.avi', '.webm', '.m4v', '.mpg', '.mpeg', '.ts', '.wmv')


def main(arguments: list[str]) -> int:
    """Exit code 0 when every file got its scene, 1 when some could not be read."""
    args = parse(arguments)
    items = find_files(args.files) if args.files else []
    for warning in RunFolder(args.model).read_json('report.json')['about']['warnings']:
        print(f'! {warning}', file=sys.stderr)
    if args.download_weights:
        encoders = RunFolder(args.model).read_json('preprocessing.json').get('encoders', [])
        published = [e['name'] for e in encoders if not e['weights'].startswith('random:')]
        weights.download_all(published, args.weights_dir or default_weights_dir())
    model, variables, preprocess, classes = load_run(args.model, weights_dir=args.weights_dir)
    load = partial(read, preprocess=preprocess)
    if args.dataset:
        dataset = open_dataset('tfds_tau', args.dataset, args.data_dir or default_data_dir())
        fields = ('audio',) if preprocess.frame_rule is None else ('frames',)
        load = dataset.records(args.split, fields=fields).__getitem__
        items = range(dataset.num_records(args.split))

    def decode(item: Path | int) -> dict | ValueError | OSError:
        try:
            return load(item)
        except (ValueError, OSError) as error:
            return error

    apply = jax.jit(model.apply)
    done, probs, embeddings, errors = [], [], [], []
    found = read_ahead(decode, items, num_threads=os.cpu_count() or 1)
    for item, record in zip(tqdm(items, unit='file', disable=len(items) < 2), found, strict=True):
        if not isinstance(record, dict):
            errors.append(record)
            continue
        rows, count = _padded(preprocess(record))
        logits, out = apply(variables, rows)
        known = {'clip_id': item, 'segment': -1, 'label': -1}
        done.append([record.get(name, default) for name, default in known.items()])
        probs.append(softmax(np.asarray(logits[:count], np.float64), axis=1).mean(axis=0))
        embeddings.append(np.asarray(out['embedding'][:count]).mean(axis=0))
        best = np.argsort(-probs[-1], kind='stable')[: args.top]
        scenes = '  '.join(f'{classes[c]} {probs[-1][c]:.3f}' for c in best)
        tqdm.write(f'{done[-1][0]}  {scenes}')
    if done:
        _write(args, *zip(*done, strict=True), np.stack(probs), np.stack(embeddings), classes)
    for error in errors:
        print(f'error: {error}', file=sys.stderr)
    if errors:
        print(f'{len(done)} of {len(items)} files classified', file=sys.stderr)
    return 1 if errors else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments, checked as far as they can be before anything is read."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.predict',
        description='Prints the most likely scenes of each file, with their probabilities.',
    )
    parser.add_argument('files', nargs='*', type=Path, help='video files, or folders of them')
    parser.add_argument(
        '--dataset', help='in place of files: a config of the tfds_tau builder, such as evaluation'
    )
    parser.add_argument('--split', default='test', help='of the dataset (default test)')
    parser.add_argument('--data_dir', type=Path, help='where the dataset is prepared')
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
    if bool(args.files) == bool(args.dataset):
        raise ValueError('name the files to predict, or a --dataset: one of the two')
    for out, suffixes in ((args.csv, tables.SUFFIXES), (args.embeddings, ('.npz',))):
        if out and out.suffix not in suffixes:
            raise ValueError(f'{out} must end in {", ".join(suffixes)}')
        if out and not out.absolute().parent.is_dir():
            raise FileNotFoundError(f'{out.parent} is not a folder; make it first')
    return args


def read(file: Path, preprocess: FeatureInputs | Inputs) -> dict:
    """What the network takes of a file: its frames, or its sound."""
    if preprocess.frame_rule is None:
        audio, rate = media.read_audio(file)
        return {'audio': audio, 'sample_rate': rate}
    found = media.read_frames(file, preprocess.frame_rule, short_side=preprocess.short_side)
    return {'frames': list(found.images)}


def _padded(rows):
    """The rows, filled up to a power of two so that few shapes are compiled, and their number."""
    (count,) = {len(array) for array in jax.tree.leaves(rows)}
    more = (1 << (count - 1).bit_length()) - count
    return jax.tree.map(lambda x: np.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1)), rows), count


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


def _clip_ids(files: Sequence[Path]) -> list[str]:
    """Names without folder and suffix where that tells the files apart, else whole paths."""
    stems = [file.stem for file in files]
    return stems if len(set(stems)) == len(stems) else [str(file) for file in files]


def _write(args, clip_ids, segments, labels, probs, embeddings, classes) -> None:
    """The table and the embeddings, where they are asked for."""
    clip_ids = np.array(_clip_ids(clip_ids) if args.files else clip_ids)
    if args.csv:
        segments, labels = np.int32(segments), np.int32(labels)
        items = 'clip' if (segments < 0).all() else 'second'
        meta = {'classes': list(classes), 'granularity': items, 'pooled': items == 'clip'}
        meta['calibrated'] = False
        tables.write(tables.Predictions(clip_ids, segments, labels, probs, meta), args.csv)
    if args.embeddings:
        beside = args.embeddings.with_name(args.embeddings.name + '.part')
        with beside.open('wb') as file:
            np.savez(file, clip_id=clip_ids, embedding=embeddings)
        beside.replace(args.embeddings)


def run() -> None:
    """Console script avsc-predict."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
