"""The flags of avsc_jax.predict, their help, and what of them does not go together."""

import argparse
import re
from pathlib import Path

EPILOG = """examples:
  avsc-predict holiday.mp4 --model runs/clip_fusion --report why.html
  avsc-predict recordings/ --model runs/hitachi_ensemble --csv scenes.csv --timeline windows.csv
  avsc-predict --follow recording.mkv --model runs/clip_fusion
  ffmpeg -i URL -f f32le -ac 2 -ar 48000 - | avsc-predict --follow - --rate 48000 --model RUN
  find . -name '*.mkv' | avsc-predict - --model runs/feng_fusion-intermediate --jsonl scenes.jsonl

A file that cannot be read is one line at the end and exit code 1; the others get their answers.
The same command goes on where it was stopped. A file that has only sound or only a picture is told
by that, where the system takes both, and a note says so."""
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
    add = parser.add_argument
    files = 'videos, sounds or pictures, or folders of them; - reads their names, one a line'
    add('files', nargs='*', type=Path, help=files)
    add('--model', type=Path, help='run folder of a system, or of an ensemble')
    add('--top', type=int, default=3, help='scenes printed per file (default 3)')
    window = 'seconds that are told apart in longer files (default 10, as in TAU; 0.5 to 60)'
    add('--window', type=float, default=10.0, help=window)
    add('--whole', action='store_true', help='a file that lacks sound or picture is an error')
    _add_outputs(parser)
    _add_many(parser)
    add_live(parser)
    _add_dataset(parser)
    _add_weights(parser)
    args = parser.parse_args(arguments)
    _check(args)
    return args


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('what is written').add_argument
    add('--csv', type=Path, help='a row for each file: .csv/.tsv (DCASE, tabs) or .npz')
    add('--timeline', type=Path, help='a row for each window: .csv/.tsv, tabs')
    add(
        '--jsonl',
        type=Path,
        help='a line of JSON for each file; kept, so that finished files are '
        'skipped when the folder has grown',
    )
    add(
        '--embeddings',
        type=Path,
        help='clip_id and embedding [N, D] into this .npz; by an '
        '--encoder, a row for each window or frame, with time_s',
    )
    add('--report', type=Path, help='why: a page for one file (.html), or a folder of pages')


def _add_many(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('many files').add_argument
    add('--shard', help='i/n: only every n-th file, from the i-th on, from 0')
    add('--multihost', action='store_true', help='shares the files with the other processes')
    add('--workers', type=int, help='processes that decode (default: one a core)')
    add('--time_limit', type=float, default=120.0, help='seconds to decode a window (default 120)')
    add('--memory_limit', type=float, default=2.0, help='GiB for a decoder (default 2)')


def add_live(parser: argparse.ArgumentParser) -> None:
    """The flags that `stream.source_of` and `stream.run` take."""
    add = parser.add_argument_group('live, in place of files').add_argument
    add(
        '--follow',
        metavar='FILE',
        help='tag a file while it grows (wav, mkv, ts, fragmented mp4), each second; with --rate, '
        'raw sound of a pipe, - being the standard input. Ctrl-C ends it',
    )
    rate = 'of raw sound: 32-bit floats, as `ffmpeg -f f32le` writes them'
    add('--rate', type=int, metavar='HZ', help=rate)
    add('--channels', type=int, default=2, choices=(1, 2), help='of raw sound (default 2)')
    add('--frames', metavar='PIPE', help='raw pictures, rgb24, beside raw sound or alone')
    add('--frame_size', metavar='WxH', help='of raw pictures, such as 796x448')
    add('--frame_rate', type=float, default=25.0, help='of raw pictures (default 25 a second)')
    smooth = 'time constant of the exponential smoothing over time; 0 for none (default 3)'
    add('--smooth_s', type=float, default=3.0, help=smooth)
    patience = 'a file that has not grown for so long has ended (default 10)'
    add('--patience_s', type=float, default=10.0, help=patience)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('records in place of files').add_argument
    name = 'a config of tfds_tau, such as evaluation; NAME or NAME/CONFIG of other data sets'
    add('--dataset', help=name)
    add('--split', default='test', help='of the dataset (default test)')
    add('--data_dir', type=Path, help='where the dataset is prepared')
    add('--media_dir', type=Path, help="the dataset's video files, for runs that take them")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('weights').add_argument
    add(
        '--encoder',
        help='in place of a run, for embeddings: a network with published weights and its options, '
        'such as openl3_audio:hop_s=0.5,embedding_size=6144',
    )
    add('--weights', help='random:SEED in place of the published ones')
    add('--weights_dir', type=Path, help='pretrained weights of the encoders')
    add('--download_weights', action='store_true', help='fetch those that are missing there')


def _check(args: argparse.Namespace) -> None:
    """Raises ValueError or FileNotFoundError for arguments that do not hold, the first of them."""
    given = {name for name in vars(args) if getattr(args, name)}
    inputs = bool(args.files) + bool(args.dataset) + bool(given & {'follow', 'frames'})
    for wrong, sentence in (
        (
            bool(args.model) == bool(args.encoder),
            'name the run by --model, or an --encoder: one of the two',
        ),
        (
            inputs != 1,
            'name the files to predict, or a --dataset, or --follow: one of them',
        ),
        (
            args.encoder and (not args.files or given & {'csv', *OF_FILES} or not args.embeddings),
            'an --encoder writes --embeddings of files, and nothing else',
        ),
        (
            args.weights and not (args.encoder and re.fullmatch(r'random:\d+', args.weights)),
            f'--weights is {args.weights!r}, it may be random:SEED, of an --encoder',
        ),
        (
            not 0.5 <= args.window <= 60,
            f'--window is {args.window:g}; it must be 0.5 to 60 seconds',
        ),
    ):
        if wrong:
            raise ValueError(sentence)
    _check_strange(args, given)
    for path in args.files:
        if str(path) != '-' and not path.exists():
            raise FileNotFoundError(f'{path} does not exist; name media files or folders of them')


def _check_strange(args: argparse.Namespace, given: set[str]) -> None:
    """Raises ValueError for flags of files beside a --dataset or --follow."""
    if args.dataset and (strange := given & {*OF_FILES}):
        raise ValueError(f'--{min(strange)} is of files, not of a --dataset')
    if given & {'follow', 'frames'} and (
        strange := given & {'csv', 'embeddings', *OF_FILES} - {'jsonl'}
    ):
        raise ValueError(
            f'--{min(strange)} is of files, not of --follow, which prints and writes --jsonl'
        )
