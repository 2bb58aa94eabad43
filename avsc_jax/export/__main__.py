"""Exports a finished run for other programs: ONNX with a recipe of its inputs, and StableHLO.

python -m avsc_jax.export runs/clip_fusion-demo exported
"""

import argparse
import sys
from pathlib import Path

from avsc_jax.runtime import arguments as parsing
from avsc_jax.runtime import cli

DESCRIPTION = """\
Exports a finished run, so that other programs can use it without this package (docs/export.md has
two of them, of 15 lines each):

recipe.json   classes, files, and how to make the network's inputs from a clip, with all constants
network.onnx  the network: inputs, named as in the recipe -> probabilities, softmax (of several
              labels sigmoid) inside; beside it encoder_NAME.onnx, the frozen encoders whose
              embeddings it takes
NAME.int8.onnx  with --int8: 8-bit integers, checked on the run's test clips
system.bin    StableHLO by jax.export for CPU, CUDA and TPU: pieces of sound and resized pictures
              of one clip -> probabilities, front ends and encoders inside

Everything is compared with the run before the folder is written; a difference of more than 1e-4 in
probabilities is an error.
"""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    args = parse(arguments)
    from avsc_jax.export import command  # loads JAX, which --help does not need
    from avsc_jax.runs import checksums

    with checksums.trusting(args.trust_edited):
        return command.run(args)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parsing.Parser(
        prog='python -m avsc_jax.export',
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('run', type=Path, help='a finished run folder')
    parser.add_argument('out', type=Path, help='the folder to write')
    parser.add_argument('--format', default='both', help='onnx, stablehlo or both (default)')
    parser.add_argument('--batch', type=int, help='rows of the ONNX files (default: any number)')
    parser.add_argument(
        '--int8', action='store_true', help='also write ONNX files of 8-bit integers, as accurate'
    )
    parser.add_argument('--data_dir', type=Path, help='prepared datasets, of the clips for --int8')
    parser.add_argument('--clip', type=Path, help='a media file to compare on, besides noise')
    parser.add_argument('--weights_dir', type=Path, help="folder of the encoders' weights")
    parser.add_argument('--trust_edited', action='store_true', help=cli.TRUST_EDITED)
    return parser.parse_args(arguments)


def run() -> None:
    """Console script avsc-export."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
