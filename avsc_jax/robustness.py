"""Scores finished runs on disturbed clips of their own test split.

python -m avsc_jax.robustness runs/clip_fusion runs/hitachi_ensemble [--out table.md]
"""

import argparse
import sys
from pathlib import Path

from avsc_jax.runtime import arguments as parsing
from avsc_jax.runtime import cli


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    options = parse(arguments)
    from avsc_jax.runs import checksums
    from avsc_jax.score import robustness  # loads JAX, which --help does not need

    with checksums.trusting(options.trust_edited):
        return robustness.run(options)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parsing.Parser(
        prog='python -m avsc_jax.robustness', description=__doc__.split('\n\n')[0]
    )
    add = parser.add_argument
    add('runs', nargs='+', type=Path, metavar='RUN', help='a finished run folder')
    add('--split', help="split of the run's data, or several as a+b (default: its test split)")
    clips = 'number of records, evenly spread over the split, or the first of a+b (default: all)'
    add('--clips', type=int, metavar='N', help=clips)
    add('--out', type=Path, help='write the table here: .md, .tsv or .json')
    add('--data_dir', type=Path, help='folder of prepared datasets')
    add('--media_dir', type=Path, help='folder of video files, for systems on OpenL3')
    add('--weights_dir', type=Path, help='folder of published weights')
    add('--trust_edited', action='store_true', help=cli.TRUST_EDITED)
    return parser.parse_args(arguments)


def run() -> None:
    """The console script avsc-robustness."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
