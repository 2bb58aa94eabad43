"""The flags of avsc_jax.predict, their help, and the check of their combinations."""

import argparse
from pathlib import Path

from avsc_jax.predict.opened import add_ready, check_ready
from avsc_jax.runtime import arguments as parsing
from avsc_jax.runtime import beam, nearest

EPILOG = """examples:
  avsc-predict holiday.mp4
  avsc-predict holiday.mp4 --model runs/clip_fusion --report why.html
  avsc-predict recordings/ --model runs/hitachi_ensemble --csv scenes.csv --timeline windows.csv
  avsc-predict holiday.mp4 --zero_shot --classes "beach,forest,city street" --download_weights
  avsc-predict --follow recording.mkv --model runs/clip_fusion
  ffmpeg -i URL -f f32le -ac 2 -ar 48000 - | avsc-predict --follow - --rate 48000 --model RUN
  avsc-predict recordings/ --model RUN --csv scenes.csv --runner FlinkRunner -- --flink_master HOST
  find . -name '*.mkv' | avsc-predict - --model runs/feng_fusion-intermediate --jsonl scenes.jsonl

A file that cannot be read is one line at the end and exit code 1; the others get their answers.
The same command goes on where it was stopped. A file that has only sound or only pictures is
answered from those, even if the system takes both, and a note says so."""
# Flags that go with media files only.
FILES_ONLY = ('timeline', 'jsonl', 'report', 'shard', 'multihost', 'runner')


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line, and checks what can be checked before anything is read."""
    parser = parsing.Parser(
        prog='python -m avsc_jax.predict',
        description='Prints the most likely scenes of each file, with their probabilities; or '
        'writes the embeddings of an encoder.',
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    files = 'videos, sounds or pictures, or folders of them; - reads their names, one a line'
    add('files', nargs='*', type=Path, help=files)
    add('--top', type=int, default=3, help='scenes printed per file (default 3)')
    window = (
        'longer files are answered in windows of so many seconds, 0.5 to 60 (default: the length '
        'of the clips that the system was trained on, 10 for TAU)'
    )
    add('--window', type=float, help=window)
    add('--whole', action='store_true', help='a file without sound or without pictures is an error')
    _add_outputs(parser)
    _add_many(parser)
    add_live(parser)
    _add_dataset(parser)
    add_ready(parser)
    arguments, options = beam.split(arguments)
    args = parser.parse_args(arguments)
    args.runner = beam.Runner(args.runner, options) if args.runner else None
    if args.max_hours is None:
        args.max_hours = 1.0 if args.encoder else 24.0
    _check(args)
    return args


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('what is written').add_argument
    add('--csv', type=Path, help='a row for each file: .csv (commas), .tsv (tabs) or .npz')
    add('--timeline', type=Path, help='a row for each window: .csv (commas) or .tsv (tabs)')
    add(
        '--jsonl',
        type=Path,
        help='a line of JSON for each file; if the command is repeated, finished files are skipped',
    )
    add(
        '--embeddings',
        type=Path,
        help='write clip_id and embedding [N, D] to this .npz; with '
        '--encoder, a row for each window or frame, and time_s',
    )
    add('--report', type=Path, help='explain the answers: a page for one file (.html), or a folder')


def _add_many(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('many files').add_argument
    add('--shard', help='i/n: only every n-th file, i being 0 to n - 1')
    add('--multihost', action='store_true', help='share the files with the other processes')
    add('--runner', metavar='NAME', help=f'share the files out to the workers of {beam.HELP}')
    add('--fresh', action='store_true', help='answer files anew that were finished before')
    add('--workers', type=int, help='processes that decode (default: one a core)')
    add('--time_limit', type=float, default=120.0, help='seconds to decode a window (default 120)')
    hours = (
        'longest file, and longest time to decode one, in hours (default 24; 1 with --encoder, '
        'which reads a file as a whole)'
    )
    add('--max_hours', type=float, help=hours)
    add('--memory_limit', type=float, default=2.0, help='GiB for a decoder (default 2)')


def add_live(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `stream.source_of` and `stream.run` take."""
    add = parser.add_argument_group('live, in place of files').add_argument
    add(
        '--follow',
        metavar='FILE',
        help='tag a file each second while it grows (wav, mkv, ts, fragmented mp4); with --rate, '
        'raw sound from a pipe (- for the standard input). Ctrl-C ends it',
    )
    rate = 'sample rate of raw sound: 32-bit floats, as `ffmpeg -f f32le` writes them'
    add('--rate', type=int, metavar='HZ', help=rate)
    add('--channels', type=int, default=2, choices=(1, 2), help='channels of raw sound (default 2)')
    add('--frames', metavar='PIPE', help='raw pictures (rgb24), with raw sound or alone')
    add('--frame_size', metavar='WxH', help='size of raw pictures, such as 796x448')
    add('--frame_rate', type=float, default=25.0, help='raw pictures per second (default 25)')
    smooth = 'time constant of the exponential smoothing over time; 0 for none (default 3)'
    add('--smooth_s', type=float, default=3.0, help=smooth)
    patience = 'seconds without growth after which a file has ended (default 10)'
    add('--patience_s', type=float, default=10.0, help=patience)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('records in place of files').add_argument
    name = 'a config of tfds_tau, such as evaluation; NAME or NAME/CONFIG of other data sets'
    add('--dataset', help=name)
    add('--split', default='test', help='split of the dataset (default test)')
    add('--data_dir', type=Path, help='folder of prepared datasets')
    add('--media_dir', type=Path, help="folder of the dataset's videos, for runs that read them")


def _check(args: argparse.Namespace) -> None:
    """Raises ValueError or FileNotFoundError for the first argument that is wrong."""
    given = {name for name in vars(args) if getattr(args, name)}
    check_ready(args, others=() if args.zero_shot else ('encoder',))
    inputs = bool(args.files) + bool(args.dataset) + bool(given & {'follow', 'frames'})
    for wrong, sentence in (
        (
            inputs != 1,
            'give one input: files, --dataset or --follow, as in avsc-predict holiday.mp4',
        ),
        (
            args.encoder
            and not args.zero_shot
            and (not args.files or given & {'csv', *FILES_ONLY} or not args.embeddings),
            '--encoder needs files and --embeddings, and takes no other output; change these '
            'flags, or add --zero_shot',
        ),
        (
            args.backend == 'onnx' and args.encoder and not args.zero_shot,
            '--backend=onnx goes with systems that name scenes or tags, not with --encoder; leave '
            'it out',
        ),
        (
            args.window is not None and not 0.5 <= args.window <= 60,
            f'--window is {args.window or 0:g}; it must be 0.5 to 60 seconds',
        ),
        (
            not 0 < args.max_hours <= 1000,
            f'--max_hours is {args.max_hours:g}; it must be above 0 and at most 1000',
        ),
    ):
        if wrong:
            raise ValueError(sentence)
    _check_outputs(args, given)
    if 'runner' in given:
        _check_runner(given)
    for path in args.files:
        if str(path) != '-' and not path.exists():
            raise FileNotFoundError(
                f'{path} does not exist{nearest.path(path)}; name media files or folders of them'
            )


def _check_outputs(args: argparse.Namespace, given: set[str]) -> None:
    """Raises ValueError for flags of files beside a --dataset or --follow."""
    if args.dataset and not given & {'model', 'zero_shot'}:
        raise ValueError('--dataset needs --model or --zero_shot: ready-made tags are of files')
    if args.dataset and (wrong := given & {*FILES_ONLY}):
        raise ValueError(f'--{min(wrong)} goes with files, not with --dataset; leave it out')
    if given & {'follow', 'frames'} and (
        wrong := given & {'csv', 'embeddings', *FILES_ONLY} - {'jsonl'}
    ):
        raise ValueError(
            f'--{min(wrong)} goes with files, not with --follow; leave it out, or use --jsonl'
        )


def _check_runner(given: set[str]) -> None:
    """Raises ValueError for flags beside a --runner that its workers cannot follow."""
    if wrong := given & {'shard', 'multihost', 'report'}:
        raise ValueError(
            f'--{min(wrong)} and --runner exclude each other; give --runner to share the files out '
            'by Apache Beam, or leave it out'
        )
    if not given & {'csv', 'timeline', 'jsonl', 'embeddings'}:
        raise ValueError(
            '--runner needs an output in a folder that its workers share, such as --csv out.csv'
        )
