"""How finished runs answer disturbed clips of their own test split.

python -m avsc_jax.robustness runs/clip_fusion runs/hitachi_ensemble [--out table.md]
"""

import argparse
import sys
from pathlib import Path

from avsc_jax.runtime import cli


def main(arguments: list[str]) -> int:
    """Scores each run; the table is written once all are scored."""
    options = parse(arguments)
    from avsc_jax.score import robustness  # loads JAX, which --help does without

    return robustness.run(options)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.robustness', description=__doc__.split('\n\n')[0]
    )
    add = parser.add_argument
    add('runs', nargs='+', type=Path, metavar='RUN', help='a finished run folder')
    add('--split', help="of the run's data (default: the one it is scored on)")
    clips = 'only so many records of the split, evenly spread'
    add('--clips', type=int, metavar='N', help=clips)
    add('--out', type=Path, help='write the table here: .md, .tsv or .json')
    add('--data_dir', type=Path, help='where the data is prepared')
    add('--media_dir', type=Path, help='of video files, for systems on OpenL3')
    add('--weights_dir', type=Path, help='pretrained weights of the encoders')
    return parser.parse_args(arguments)


def run() -> None:
    """The console script avsc-robustness."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
