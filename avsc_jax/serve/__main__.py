"""Serves a small local page: drop a clip and see its scenes, their times, and the reasons.

python -m avsc_jax.serve --model=runs/clip_fusion
python -m avsc_jax.serve --zero_shot --classes "beach,forest,city street" --download_weights
curl -F file=@clip.mp4 http://127.0.0.1:8000/api/tag

The page is for users of this machine. A clip is kept in a temporary file while it is tagged, and is
sent nowhere.
"""

import argparse
import sys

from avsc_jax.predict.opened import add_ready, check_ready
from avsc_jax.runtime import arguments as parsing
from avsc_jax.runtime import cli


def main(arguments: list[str]) -> int:
    """Serves the page until Ctrl-C."""
    args = parse(arguments)
    from avsc_jax.runs import checksums
    from avsc_jax.serve import command  # loads JAX, which --help does not need

    with checksums.trusting(args.trust_edited):
        return command.run(args)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line; raises ValueError for a number that is out of range."""
    parser = parsing.Parser(
        prog='python -m avsc_jax.serve',
        description='Serves a page for users of this machine: drop a clip and see its scenes.',
    )
    add = parser.add_argument
    add('--host', default='127.0.0.1', help='address to listen at (default 127.0.0.1)')
    add(
        '--port',
        type=int,
        default=8000,
        help='port to listen at, 0 for any free one (default 8000)',
    )
    add(
        '--max_mb',
        type=float,
        default=200.0,
        help='largest clip that is accepted, in MB (default 200)',
    )
    add(
        '--max_seconds',
        type=float,
        default=120.0,
        help='longest time to work on a clip, in seconds (default 120)',
    )
    add(
        '--window',
        type=float,
        help='length of a window in seconds, 0.5 to 60 (default: that of the clips that the system '
        'was trained on, 10 for TAU)',
    )
    add_ready(parser)
    args = parser.parse_args(arguments)
    for name, low, high in (('window', 0.5, 60), ('max_mb', 0.001, 1e5), ('max_seconds', 1, 1e5)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f'--{name} is {value:g}; it must be {low:g} to {high:g}')
    check_ready(args)
    return args


def run() -> None:
    """Console script avsc-serve."""
    sys.exit(cli.main(main, next_start='start it and send clips again'))


if __name__ == '__main__':
    run()
