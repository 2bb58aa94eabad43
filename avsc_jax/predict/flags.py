"""The flags of avsc_jax.predict, their help, and what of them does not go together."""

import argparse
import re
from pathlib import Path

from avsc_jax import tables
from avsc_jax.predict import stream
from avsc_jax.weights.cache import default_weights_dir

EPILOG = """examples:
  avsc-predict holiday.mp4 --model runs/clip_fusion --report why.html
  avsc-predict recordings/ --model runs/hitachi_ensemble --csv scenes.csv --timeline windows.csv
  avsc-predict --follow recording.mkv --model runs/clip_fusion
  ffmpeg -i URL -f f32le -ac 2 -ar 48000 - | avsc-predict --follow - --rate 48000 --model RUN
  find . -name '*.mkv' | avsc-predict - --model runs/feng_fusion-intermediate --jsonl scenes.jsonl

A file that cannot be read is one line at the end and exit code 1; the others get their answers.
The same command goes on where it was stopped. A file that has only sound or only a picture is told
by that, where the system takes both, and a note says so."""
# Flags that name a file to write -> the endings that it may have.
WRITTEN = {
    'csv': tables.SUFFIXES,
    'timeline': ('.csv', '.tsv', '.txt'),
    'jsonl': ('.jsonl',),
    'embeddings': ('.npz',),
}
# Flags of media files alone.
OF_FILES = ('timeline', 'jsonl', 'report', 'shard', 'multihost')


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

    stream.add_arguments(parser)

    data = parser.add_argument_group('records in place of files')
    data.add_argument(
        '--dataset',
        help='a config of the tfds_tau builder, such as evaluation; of others, NAME or NAME/CONFIG',
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
    args.source = stream.source_of(args) if args.follow or args.frames else None
    if bool(args.files) + bool(args.dataset) + bool(args.source) != 1:
        raise ValueError('name the files to predict, or a --dataset, or --follow: one of them')
    given = {name for name in vars(args) if getattr(args, name)}
    if args.encoder and (given & {'dataset', 'source', 'csv', *OF_FILES} or not args.embeddings):
        raise ValueError('an --encoder writes --embeddings of files, and nothing else')
    if args.dataset and (strange := given & {*OF_FILES}):
        raise ValueError(f'--{min(strange)} is of files, not of a --dataset')
    if args.source and (strange := given & {'csv', 'embeddings', *OF_FILES} - {'jsonl'}):
        raise ValueError(
            f'--{min(strange)} is of files, not of --follow, which prints and writes --jsonl'
        )
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
