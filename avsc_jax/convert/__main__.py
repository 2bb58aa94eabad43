"""Converts published weights once, to a file that holds this package's own names and layouts.

python -m avsc_jax.convert clip_rn101 RN101.pt clip_rn101.safetensors
"""

import argparse
import sys
from pathlib import Path

from avsc_jax.runtime import cli

DESCRIPTION = """\
Reads published weights, fits them to a network of this package, every name accounted for, and
writes them as safetensors under the paths of the network's variables (params/..., batch_stats/...).

There is no need to: all commands read the published files too. The result opens faster, holds this
one network only, and needs no trust in its origin. --head=drop leaves out the last layer, which
belongs to the publisher's classes: a network of other classes draws its own.

One network is published in several files, and takes them in this order: the baseline of sound and
picture, whose halves are files of their own.
"""
EPILOG = """\
examples:
  python -m avsc_jax.convert clip_rn101 RN101.pt ~/.cache/avsc_jax/weights/clip_rn101.safetensors
  python -m avsc_jax.convert openl3_baseline_audio_video audio.pt video.pt combined.pt \\
      b03.safetensors
"""


def main(arguments: list[str]) -> int:
    """Reads, converts, writes; prints what came of it."""
    args = parse(arguments)
    from avsc_jax.convert import command  # loads JAX, which --help does without

    return command.run(args)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.convert',
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('name', help='the network, such as clip_rn101')
    add('source', type=Path, nargs='+', help='the published file, or files')
    add('out', type=Path, help='the file to write, NAME.safetensors')
    add('--head', choices=['keep', 'drop'], default='keep', help='(default keep)')
    add('--list', action=_List, nargs=0, help='print the networks and kinds of files, and end')
    return parser.parse_args(arguments)


class _List(argparse.Action):
    """Needs the networks, which load JAX; so --help does not print them."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from avsc_jax.convert import command

        print(command.list_networks())
        parser.exit()


def run() -> None:
    """Console script avsc-convert."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
