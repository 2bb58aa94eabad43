"""Names the scenes of media files, or of a prepared dataset, with a trained run.

python -m avsc_jax.predict clip.mp4 folder/ --model=runs/clip_fusion [--csv out.csv]
python -m avsc_jax.predict --dataset=evaluation --model=runs/hitachi_image --csv out.csv

Or writes the embeddings that an encoder gives of their pictures or sound; no run is needed.

python -m avsc_jax.predict folder/ --encoder=openl3_audio:hop_s=0.5 --embeddings out.npz
"""

import argparse
import ast
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from avsc_jax import cli, tables, weights
from avsc_jax.data.batches import one_ahead, read_ahead
from avsc_jax.data.records import default_data_dir, open_dataset
from avsc_jax.encoders import READING, EncoderSpec
from avsc_jax.features import FeatureInputs
from avsc_jax.rows import media_files
from avsc_jax.training import load_run
from avsc_jax.training.run_folder import RunFolder, default_weights_dir

SUFFIXES = ('.mp4', '.mkv', '.mov', '.avi', '.webm', '.m4v', '.mpg', '.mpeg', '.ts', '.wmv')
SOUND_SUFFIXES = ('.wav', '.flac', '.mp3', '.m4a', '.aac', '.ogg', '.opus', '.wma', '.aiff')
# How frames are picked for an encoder without a run: one each second, as large as the configs say.
PICTURES = {'frames': 'second_centres', 'short_side': 448}


def main(arguments: list[str]) -> int:
    """Exit code 0 when every file got what was asked for, 1 when some could not be read."""
    args = parse(arguments)
    return encode(args) if args.encoder else classify(args)


def classify(args: argparse.Namespace) -> int:
    """The scenes of each item by a trained run."""
    for warning in RunFolder(args.model).read_json('report.json')['about']['warnings']:
        print(f'! {warning}', file=sys.stderr)
    if args.download_weights:
        encoders = RunFolder(args.model).read_json('preprocessing.json').get('encoders', [])
        published = [e['name'] for e in encoders if not e['weights'].startswith('random:')]
        weights.download_all(published, args.weights_dir)
    model, variables, preprocess, classes = load_run(args.model, weights_dir=args.weights_dir)
    apply = jax.jit(model.apply)

    def answer(record: dict) -> tuple[np.ndarray, np.ndarray]:
        rows, count = _padded(preprocess(record))
        logits, out = apply(variables, rows)
        probs = softmax(np.asarray(logits[:count], np.float64), axis=1).mean(axis=0)
        return probs, np.asarray(out['embedding'][:count]).mean(axis=0)

    if args.dataset:
        items, load = _dataset(args, preprocess)
    else:
        items, load = find_files(args.files, _suffixes(preprocess)), preprocess.open
    ahead = partial(read_ahead, num_threads=os.cpu_count() or 1)
    work = Work(items, load, answer, getattr(preprocess, 'notes', None), ahead=ahead)
    done, probs, embeddings = [], [], []
    for item, record, (of_item, embedding) in work:
        known = {'clip_id': item, 'segment': -1, 'label': -1}
        done.append([record.get(name, default) for name, default in known.items()])
        probs.append(of_item)
        embeddings.append(embedding)
        best = np.argsort(-of_item, kind='stable')[: args.top]
        scenes = '  '.join(f'{classes[c]} {of_item[c]:.3f}' for c in best)
        tqdm.write(f'{done[-1][0]}  {scenes}')
    if done:
        _write(args, *zip(*done, strict=True), np.stack(probs), np.stack(embeddings), classes)
    return work.end('classified')


def encode(args: argparse.Namespace) -> int:
    """A row for each window of sound or frame of each file, into one archive."""
    name, options = encoder_options(args.encoder)
    if 'frames' in READING.get(name, ()):
        options.setdefault('frames', PICTURES['frames'])
    options.setdefault('num_classes', 0)
    is_stored = EncoderSpec(name, options, '').takes == 'frames'
    settings = {k: options.pop(k, v) for k, v in PICTURES.items()} if is_stored else {}
    if args.download_weights and not args.weights:
        weights.download_all([name], args.weights_dir)
    origin = args.weights or weights.identify(name, args.weights_dir)
    spec = EncoderSpec(name, options, origin)
    encoder = spec.make(args.weights_dir)
    inputs = FeatureInputs(settings, [encoder])
    files = find_files(args.files, _suffixes(inputs))

    def embeddings_of(record: dict) -> np.ndarray:
        return encoder(encoder.items(record))

    work = Work(files, inputs.open, embeddings_of, inputs.notes, ahead=few_ahead)
    done, times, embeddings = [], [], []
    for file, record, found in work:
        done.append(file)
        times.append(encoder.times_s(record, len(found)))
        embeddings.append(found)
        tqdm.write(f'{file}  {len(found)} embeddings of {found.shape[1]} values')
    if done:
        clip_id = np.repeat(_clip_ids(done), [len(found) for found in embeddings])
        _save(
            args.embeddings,
            clip_id=clip_id,
            time_s=np.concatenate(times).astype(np.float64),
            embedding=np.concatenate(embeddings),
            about=json.dumps(spec.to_json() | settings),
        )
    return work.end('encoded')


class Work:
    """Items with what was read and made of them; what fails is told at the end.

    Args:
      load: item -> record.
      use: record -> result.
      notes: record -> what the user should know of it.
      ahead: (load, items) -> records, in their order.
    """

    def __init__(
        self,
        items: Sequence,
        load: Callable[[Any], dict],
        use: Callable[[dict], Any],
        notes: Callable[[dict], list[str]] | None = None,
        *,
        ahead: Callable[[Callable, Sequence], Iterator],
    ):
        self._items, self._load, self._use = items, load, use
        self._notes, self._ahead = notes or (lambda record: []), ahead
        self._told: dict[str, list] = {}
        self._errors: list[str] = []

    def __iter__(self) -> Iterator[tuple[Any, dict, Any]]:
        found = self._ahead(self._read, self._items)
        off = len(self._items) < 2
        for item in tqdm(self._items, unit='file', disable=off):
            record = next(found)
            try:
                if not isinstance(record, dict):
                    raise record
                result = self._use(record)
            except (ValueError, OSError) as error:
                known = str(item) in str(error) or not isinstance(item, Path)
                self._errors.append(str(error) if known else f'{item}: {error}')
                continue
            for note in self._notes(record):
                self._told.setdefault(note, []).append(item)
            yield item, record, result

    def end(self, verb: str) -> int:
        """Tells the notes and the errors; the exit code."""
        for note, items in self._told.items():
            more = f' and {len(items) - 1} more' if items[1:] else ''
            print(f'note: {note}: {items[0]}{more}', file=sys.stderr)
        for error in self._errors:
            print(f'error: {error}', file=sys.stderr)
        if self._errors:
            done = len(self._items) - len(self._errors)
            print(f'{done} of {len(self._items)} files {verb}', file=sys.stderr)
        return 1 if self._errors else 0

    def _read(self, item: Any) -> dict | ValueError | OSError:
        try:
            return self._load(item)
        except (ValueError, OSError) as error:
            return error


def few_ahead(load: Callable, items: Iterable) -> Iterator:
    """As `read_ahead`, with one that waits: an hour of sound takes more than a gigabyte."""
    return one_ahead(map(load, items))


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments, checked as far as they can be before anything is read."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.predict',
        description='Prints the most likely scenes of each file, with their probabilities; or '
        'writes the embeddings of an encoder.',
    )
    parser.add_argument(
        'files', nargs='*', type=Path, help='video (or sound) files, or folders of them'
    )
    parser.add_argument(
        '--dataset', help='in place of files: a config of the tfds_tau builder, such as evaluation'
    )
    parser.add_argument('--split', default='test', help='of the dataset (default test)')
    parser.add_argument('--data_dir', type=Path, help='where the dataset is prepared')
    parser.add_argument(
        '--media_dir', type=Path, help="the dataset's video files, for runs that take them"
    )
    parser.add_argument('--model', type=Path, help='run folder of avsc_jax.main')
    parser.add_argument(
        '--encoder',
        help='in place of a run, for embeddings: a network with published weights and its options, '
        'such as openl3_audio:hop_s=0.5,embedding_size=6144',
    )
    parser.add_argument('--weights', help="random:SEED in place of the encoder's published weights")
    parser.add_argument(
        '--csv', type=Path, help='write a predictions table: .csv/.tsv (DCASE, tabs) or .npz'
    )
    parser.add_argument(
        '--embeddings',
        type=Path,
        help='write clip_id and embedding [N, D] to this .npz; by an --encoder, a row for each '
        'window or frame, with time_s',
    )
    parser.add_argument(
        '--weights_dir',
        type=Path,
        default=default_weights_dir(),
        help='pretrained weights of the encoders',
    )
    parser.add_argument(
        '--download_weights', action='store_true', help='fetch those that are missing there'
    )
    parser.add_argument('--top', type=int, default=3, help='scenes printed per file (default 3)')
    args = parser.parse_args(arguments)
    _check(args)
    return args


def _check(args: argparse.Namespace) -> None:
    if bool(args.model) == bool(args.encoder):
        raise ValueError('name the run by --model, or an --encoder: one of the two')
    if bool(args.files) == bool(args.dataset):
        raise ValueError('name the files to predict, or a --dataset: one of the two')
    if args.encoder and (args.dataset or args.csv or not args.embeddings):
        raise ValueError('an --encoder writes --embeddings of files, and nothing else')
    if args.weights and not (args.encoder and re.fullmatch(r'random:\d+', args.weights)):
        raise ValueError(f'--weights is {args.weights!r}, it may be random:SEED, of an --encoder')
    for path in args.files:
        if not path.exists():
            raise FileNotFoundError(f'{path} does not exist; name media files or folders of them')
    for out, suffixes in ((args.csv, tables.SUFFIXES), (args.embeddings, ('.npz',))):
        if out and out.suffix not in suffixes:
            raise ValueError(f'{out} must end in {", ".join(suffixes)}')
        if out and not out.absolute().parent.is_dir():
            raise FileNotFoundError(f'{out.parent} is not a folder; make it first')


def encoder_options(text: str) -> tuple[str, dict[str, Any]]:
    """'openl3_audio:hop_s=0.5,version=0.4-kapre' -> the name, and the options by theirs."""
    name, _, rest = text.partition(':')
    weights.source_of(name)  # an error if there are none
    if name.endswith('_text'):
        raise ValueError(f'{name} encodes texts; name an encoder of pictures or sound')
    options = {}
    for part in filter(None, re.split(r',(?![^(]*\))', rest)):  # not within (4, 8)
        option, is_set, value = part.partition('=')
        if not is_set:
            raise ValueError(f'--encoder has {part!r}; options are given as option=value')
        try:
            options[option] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[option] = value
    return name, options


def _dataset(args: argparse.Namespace, preprocess: Any) -> tuple[range, Callable[[int], dict]]:
    """The records' places in a split, and what reads one."""
    data_dir = args.data_dir or default_data_dir()
    dataset = open_dataset('tfds_tau', args.dataset, data_dir)
    records = dataset.records(args.split, fields=preprocess.fields)
    if 'media_frames' not in preprocess.fields:
        return range(len(records)), records.__getitem__
    media = media_files(dataset, data_dir, args.media_dir)

    def load(index: int) -> dict:
        record = records[index]
        return record | preprocess.pictures(media(record['clip_id']))

    return range(len(records)), load


def _suffixes(preprocess: Any) -> tuple[str, ...]:
    """Of the files that are looked for in folders."""
    return SUFFIXES + SOUND_SUFFIXES if preprocess.fields == ('audio',) else SUFFIXES


def _padded(rows):
    """The rows, filled up to a power of two so that few shapes are compiled, and their number."""
    (count,) = {len(array) for array in jax.tree.leaves(rows)}
    more = (1 << (count - 1).bit_length()) - count
    return jax.tree.map(lambda x: np.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1)), rows), count


def find_files(paths: Iterable[Path], suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The files named, and those below the folders named, sorted and each once."""
    found = []
    for path in paths:
        if path.is_dir():
            found += sorted(f for f in path.rglob('*') if f.suffix.lower() in suffixes)
        else:
            found.append(path)
    if not found:
        raise FileNotFoundError(
            f'no videos{" or sounds" * (suffixes != SUFFIXES)} below '
            f'{", ".join(map(str, paths))}; looked for {" ".join(suffixes)}'
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
        _save(args.embeddings, clip_id=clip_ids, embedding=embeddings)


def _save(path: Path, **arrays) -> None:
    beside = path.with_name(path.name + '.part')
    with beside.open('wb') as file:
        np.savez(file, **arrays)
    beside.replace(path)


def run() -> None:
    """Console script avsc-predict."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
