"""Converts published weights to a file with this package's own names and layouts.

python -m avsc_jax.convert clip_rn101 RN101.pt clip_rn101.safetensors
"""

import argparse
import sys
from pathlib import Path

from avsc_jax.runtime import arguments as parsing
from avsc_jax.runtime import cli

DESCRIPTION = """\
Reads published weights, converts them to a network of this package (a missing or unexpected name
is an error), and writes them as safetensors under the paths of the network's variables
(params/..., batch_stats/...).

This is optional: all commands read the published files, too. The result opens faster, holds one
network only, and cannot contain code. --head=drop leaves out the last layer, which belongs to the
publisher's classes; a network of other classes initialises its own.

Files are known by their content, whatever they are called. Checkpoints of one's own may hold
several weights (--select), names with a prefix (--strip_prefix) or other classes (--num_classes).

The DCASE baseline of sound and picture is published in three files; give them in the order of the
example.
"""
EPILOG = """\
examples:
  python -m avsc_jax.convert clip_rn101 RN101.pt ~/.cache/avsc_jax/weights/clip_rn101.safetensors
  python -m avsc_jax.convert openl3_baseline_audio_video audio.pt video.pt combined.pt \\
      b03.safetensors
  python -m avsc_jax.convert resnet50 checkpoint.pth.tar own.safetensors --num_classes=10 \\
      --select=state_dict_ema --strip_prefix=module.
"""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit code."""
    args = parse(arguments)
    from avsc_jax.convert import command  # loads JAX, which --help does not need

    return command.run(args)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = parsing.Parser(
        prog='python -m avsc_jax.convert',
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('name', help='the network, such as clip_rn101')
    add('source', type=Path, nargs='+', help='the published file, or files')
    add('out', type=Path, help='the file to write, NAME.safetensors')
    add(
        '--head',
        choices=['keep', 'drop'],
        default='keep',
        help='whether to keep the last layer (default keep)',
    )
    add(
        '--num_classes',
        type=int,
        metavar='N',
        help="width of the last layer where it is not the publisher's, as after fine-tuning",
    )
    add(
        '--strip_prefix',
        default='',
        metavar='PREFIX',
        help='take this off the names, such as module. or model.; names that do not begin with it '
        'are left out',
    )
    add(
        '--select',
        metavar='ENTRY',
        help='which weights of a checkpoint with several, such as state_dict_ema',
    )
    add('--list', action=_List, nargs=0, help='print the networks and the kinds of files, and exit')
    return parser.parse_args(arguments)


class _List(argparse.Action):
    """Prints the networks and exits; they load JAX, so --help does not print them."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from avsc_jax.convert import command

        print(command.list_networks())
        parser.exit()


def run() -> None:
    """Console script avsc-convert."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
