"""Takes a trained network elsewhere: ONNX with a recipe of its inputs, and StableHLO.

python -m avsc_jax.export runs/clip_fusion-demo exported
"""

import argparse
import sys
from pathlib import Path

from avsc_jax.runtime import cli

DESCRIPTION = """\
Writes what another program needs to run a finished run without this package (docs/export.md has
two such programs, of 15 lines each):

recipe.json   classes, files, and how the network's inputs are made of a clip, every constant named
network.onnx  the network: its inputs as the recipe names them -> probabilities, softmax inside;
              encoder_NAME.onnx beside it are the frozen encoders whose embeddings it takes
system.bin    StableHLO by jax.export for CPU, CUDA and TPU: pieces of sound and resized pictures
              of one clip -> probabilities, front ends and encoders inside

All of it is compared with the run before anything is there under its name; more than 1e-4 between
probabilities is an error.
"""


def main(arguments: list[str]) -> int:
    """Reads the run, writes the folder; prints what came of it."""
    args = parse(arguments)
    from avsc_jax.export import command  # loads JAX, which --help does without

    return command.run(args)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.export',
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('run', type=Path, help='a finished run folder')
    parser.add_argument('out', type=Path, help='the folder to make')
    parser.add_argument('--format', default='both', help='onnx, stablehlo or both (default)')
    parser.add_argument('--batch', type=int, help='rows of the ONNX files (default: any number)')
    parser.add_argument('--clip', type=Path, help='a media file, which the comparison takes too')
    parser.add_argument('--weights_dir', type=Path, help='where encoders lie; see avsc_jax.main')
    return parser.parse_args(arguments)


def run() -> None:
    """Console script avsc-export."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
