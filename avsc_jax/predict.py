"""Names the scenes of media files, or of a prepared dataset, with a trained run.

python -m avsc_jax.predict clip.mp4 folder/ --model=runs/clip_fusion [--csv out.csv]
python -m avsc_jax.predict --dataset=evaluation --model=runs/hitachi_image --csv out.csv

Or writes the embeddings that an encoder gives of their pictures or sound; no run is needed.

python -m avsc_jax.predict folder/ --encoder=openl3_audio:hop_s=0.5 --embeddings out.npz
"""

import argparse
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from avsc_jax import cli, hosts, tables, weights
from avsc_jax.data.decoder import Limits
from avsc_jax.data.records import default_data_dir, open_dataset
from avsc_jax.tagging import dataset, embeddings, files, outputs
from avsc_jax.tagging.journal import Journal
from avsc_jax.tagging.tagger import Tagger, load
from avsc_jax.training.run_folder import RunFolder, default_weights_dir

EPILOG = """examples:
  avsc-predict holiday.mp4 --model runs/clip_fusion --report why.html
  avsc-predict recordings/ --model runs/hitachi_ensemble --csv scenes.csv --timeline windows.csv
  find . -name '*.mkv' | avsc-predict - --model runs/feng_fusion-intermediate --jsonl scenes.jsonl

A file that cannot be read is one line at the end and exit code 1; the others get their answers.
The same command goes on where it was stopped. A file that has only sound or only a picture is told
by that, where the system takes both, and a note says so."""


def main(arguments: list[str]) -> int:
    """Exit code 0 when every file got what was asked for, 1 when some could not be read."""
    args = parse(arguments)
    if args.multihost:
        hosts.initialize()
        args.shard = f'{jax.process_index()}/{jax.process_count()}'
    if args.encoder:
        if args.download_weights and not args.weights:
            weights.download_all([args.encoder.partition(':')[0]], args.weights_dir)
        given = {'weights_dir': args.weights_dir, 'origin': args.weights}
        return embeddings.encode(args.files, args.encoder, args.embeddings, **given)
    if args.download_weights:
        weights.download_all(published(args.model), args.weights_dir)
    tagger = load(args.model, args.weights_dir)
    for warning in tagger.warnings:
        print(f'! {warning}', file=sys.stderr)
    code = of_dataset(args, tagger) if args.dataset else of_files(args, tagger)
    if args.multihost:
        hosts.finish()
    return code


def published(model: Path) -> list[str]:
    """The encoders of a run, or of an ensemble's members, that have published weights."""
    folder = RunFolder(model)
    if (model / 'members.json').exists():
        runs = [Path(member['folder']) for member in folder.read_json('members.json')]
        return list(dict.fromkeys(itertools.chain(*map(published, runs))))
    found = folder.read_json('preprocessing.json').get('encoders', [])
    return [e['name'] for e in found if 'run' not in e and len(e['weights']) == 64]


def of_files(args: argparse.Namespace, tagger: Tagger) -> int:
    """The scenes of media files."""
    found = files.find(args.files, tagger.takes)
    if args.shard:
        found = files.shard(found, args.shard)
    out = {name: _of_shard(getattr(args, name), args.shard) for name in WRITTEN}
    first = next(filter(None, (out['csv'], out['timeline'], out['embeddings'])), None)
    path = out['jsonl'] or (first and first.with_name(f'{first.name}.unfinished.jsonl'))
    model = f'{tagger.title} {RunFolder(args.model).config_hash}'
    journal = Journal(path, {'model': model, 'window_s': args.window})
    keeps = bool(out['embeddings'])
    todo = [file for file in found if not journal.has(file, embedding=keeps)]
    if len(todo) < len(found):
        done = f'{len(found) - len(todo):,} of {len(found):,} files'
        print(f'{done} are finished, by {path}', file=sys.stderr)
    tagged = files.tag(
        tagger,
        todo,
        window_s=args.window,
        fallback=not args.whole,
        keep=bool(args.report),
        workers=args.workers,
        limits=Limits(args.time_limit, round(args.memory_limit * 2**30)),
    )
    for one in tqdm(tagged, total=len(todo), unit='file', disable=len(todo) < 2):
        line = journal.add(one, tagger.classes, embedding=keeps)
        if not one.error:
            tqdm.write(_shown(line, tagger.classes, args.top))
        if args.report and not one.error:
            _explain(args, tagger, one, alone=len(found) == 1)
    lines = [journal.lines[str(file)] for file in found]
    journal.write(found)
    good = [line for line in lines if 'error' not in line]
    if good:
        _write(out, good, tagger)
    if path != out['jsonl']:
        path.unlink(missing_ok=True)
    told: dict[str, list[str]] = {}
    for line in good:
        for note in line['notes']:
            told.setdefault(note, []).append(line['file'])
    errors = [line['error'] for line in lines if 'error' in line]
    return outputs.end(told, errors, len(found), 'classified')


def of_dataset(args: argparse.Namespace, tagger: Tagger) -> int:
    """The scenes of the records of a prepared dataset."""
    data_dir = args.data_dir or default_data_dir()
    name, _, config = args.dataset.rpartition('/')
    data = open_dataset(name or 'tfds_tau', config, data_dir)
    loaded = dataset.records(tagger, data, args.split, data_dir, args.media_dir)
    ids, segments, labels, probs, found = [], [], [], [], []
    while batch := list(itertools.islice(loaded, files.WINDOWS_PER_BATCH)):
        for one, answer in zip(batch, tagger(batch), strict=True):
            ids.append(one['clip_id'])
            segments.append(one['segment'])
            labels.append(one['label'])
            probs.append(answer.probs)
            found.append(answer.embedding)
            tqdm.write(f'{ids[-1]}  {_top(answer.probs, tagger.classes, args.top)}')
    segments, labels = np.int32(segments), np.int32(labels)
    if args.csv:
        items = 'clip' if (segments < 0).all() else 'second'
        meta = {'classes': list(tagger.classes), 'granularity': items, 'pooled': items == 'clip'}
        meta['calibrated'] = tagger.is_calibrated
        table = tables.Predictions(np.array(ids), segments, labels, np.stack(probs), meta)
        tables.write(table, args.csv)
    if args.embeddings:
        outputs.write_arrays(args.embeddings, clip_id=np.array(ids), embedding=np.stack(found))
    return 0


# Flags that name a file to write -> the endings that it may have.
WRITTEN = {
    'csv': tables.SUFFIXES,
    'timeline': ('.csv', '.tsv', '.txt'),
    'jsonl': ('.jsonl',),
    'embeddings': ('.npz',),
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments, checked as far as they can be before anything is read."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.predict',
        description='Prints the most likely scenes of each file, with their probabilities; or '
        'writes the embeddings of an encoder.',
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'files',
        nargs='*',
        type=Path,
        help='videos, sounds or pictures, or folders of them; - reads their names, one a line',
    )
    parser.add_argument('--model', type=Path, help='run folder of a system, or of an ensemble')
    parser.add_argument('--top', type=int, default=3, help='scenes printed per file (default 3)')
    window = 'seconds that are told apart in longer files (default 10, as in TAU; 0.5 to 60)'
    parser.add_argument('--window', type=float, default=10.0, help=window)
    parser.add_argument(
        '--whole', action='store_true', help='a file that lacks sound or picture is an error'
    )

    out = parser.add_argument_group('what is written')
    out.add_argument(
        '--csv', type=Path, help='a row for each file: .csv/.tsv (DCASE, tabs) or .npz'
    )
    out.add_argument('--timeline', type=Path, help='a row for each window: .csv/.tsv, tabs')
    out.add_argument(
        '--jsonl',
        type=Path,
        help='a line of JSON for each file; kept, so that finished files are '
        'skipped when the folder has grown',
    )
    out.add_argument(
        '--embeddings',
        type=Path,
        help='clip_id and embedding [N, D] into this .npz; by an '
        '--encoder, a row for each window or frame, with time_s',
    )
    out.add_argument(
        '--report', type=Path, help='why: a page for one file (.html), or a folder of pages'
    )

    many = parser.add_argument_group('many files')
    many.add_argument('--shard', help='i/n: only every n-th file, from the i-th on, from 0')
    many.add_argument(
        '--multihost', action='store_true', help='shares the files with the other processes'
    )
    many.add_argument('--workers', type=int, help='processes that decode (default: one a core)')
    many.add_argument(
        '--time_limit', type=float, default=120.0, help='seconds to decode a window (default 120)'
    )
    many.add_argument(
        '--memory_limit', type=float, default=2.0, help='GiB for a decoder (default 2)'
    )

    data = parser.add_argument_group('records in place of files')
    data.add_argument(
        '--dataset',
        help='a config of the tfds_tau builder, such as evaluation; of another, name/config',
    )
    data.add_argument('--split', default='test', help='of the dataset (default test)')
    data.add_argument('--data_dir', type=Path, help='where the dataset is prepared')
    data.add_argument(
        '--media_dir', type=Path, help="the dataset's video files, for runs that take them"
    )

    encoder = parser.add_argument_group('weights')
    encoder.add_argument(
        '--encoder',
        help='in place of a run, for embeddings: a network with published weights and its options, '
        'such as openl3_audio:hop_s=0.5,embedding_size=6144',
    )
    encoder.add_argument('--weights', help='random:SEED in place of the published ones')
    encoder.add_argument(
        '--weights_dir',
        type=Path,
        default=default_weights_dir(),
        help='pretrained weights of the encoders',
    )
    encoder.add_argument(
        '--download_weights', action='store_true', help='fetch those that are missing there'
    )
    args = parser.parse_args(arguments)
    _check(args)
    return args


def _check(args: argparse.Namespace) -> None:
    if bool(args.model) == bool(args.encoder):
        raise ValueError('name the run by --model, or an --encoder: one of the two')
    if bool(args.files) == bool(args.dataset):
        raise ValueError('name the files to predict, or a --dataset: one of the two')
    of_files = [name for name in ('timeline', 'jsonl', 'report', 'shard') if getattr(args, name)]
    if args.encoder and (args.dataset or args.csv or of_files or not args.embeddings):
        raise ValueError('an --encoder writes --embeddings of files, and nothing else')
    if args.dataset and (of_files or args.multihost):
        raise ValueError(f'--{[*of_files, "multihost"][0]} is of files, not of a --dataset')
    if args.weights and not (args.encoder and re.fullmatch(r'random:\d+', args.weights)):
        raise ValueError(f'--weights is {args.weights!r}, it may be random:SEED, of an --encoder')
    if not 0.5 <= args.window <= 60:
        raise ValueError(f'--window is {args.window:g}; it must be 0.5 to 60 seconds')
    for path in args.files:
        if str(path) != '-' and not path.exists():
            raise FileNotFoundError(f'{path} does not exist; name media files or folders of them')
    for name, suffixes in WRITTEN.items():
        out = getattr(args, name)
        if out and out.suffix not in suffixes:
            raise ValueError(f'{out} must end in {", ".join(suffixes)}')
        if out and not out.absolute().parent.is_dir():
            raise FileNotFoundError(f'{out.parent} is not a folder; make it first')


def _of_shard(path: Path | None, shard: str | None) -> Path | None:
    """'out.csv' of the shard 1/4 -> 'out-1-of-4.csv'."""
    if path is None or shard is None:
        return path
    return path.with_stem(f'{path.stem}-{shard.replace("/", "-of-")}')


def _top(probs: Sequence[float], classes: Sequence[str], count: int) -> str:
    best = np.argsort(-np.asarray(probs), kind='stable')[:count]
    return '  '.join(f'{classes[c]} {probs[c]:.3f}' for c in best)


def _shown(line: Mapping, classes: Sequence[str], top: int) -> str:
    """A file's scenes and, where it has several windows, its timeline."""
    shown = f'{line["file"]}  {_top([line["probs"][name] for name in classes], classes, top)}'
    if len(line['timeline']) < 2:
        return shown
    return '\n  '.join([shown, *outputs.stretches(line['timeline'])])


def _write(out: Mapping[str, Path | None], lines: Sequence[Mapping], tagger: Tagger) -> None:
    """The files that are asked for."""
    if out['csv']:
        outputs.write_table(out['csv'], lines, tagger.classes, calibrated=tagger.is_calibrated)
    if out['timeline']:
        outputs.write_timeline(out['timeline'], lines, tagger.classes)
    if out['embeddings']:
        ids, rows = outputs.clip_ids(lines), [line['embedding'] for line in lines]
        outputs.write_arrays(
            out['embeddings'], clip_id=np.array(ids), embedding=np.array(rows, np.float32)
        )


def _explain(args: argparse.Namespace, tagger: Tagger, one: files.Tagged, *, alone: bool) -> None:
    """Writes the page that says why."""
    from avsc_jax.report import explanation  # matplotlib takes a second
    from avsc_jax.tagging.explain import explain

    path = args.report
    if not (alone and path.suffix == '.html'):
        path.mkdir(exist_ok=True)
        path = path / f'{outputs.page_name(one.file)}.html'
    page = explanation.document(
        str(one.file),
        tagger.classes,
        [(start_s, end_s, answer.probs) for start_s, end_s, answer in one.windows],
        [explain(tagger, window) for window in one.kept],
        one.notes,
        tagger.warnings,
    )
    beside = path.with_name(path.name + '.part')
    beside.write_text(page, encoding='utf-8')
    beside.replace(path)


def run() -> None:
    """Console script avsc-predict."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
