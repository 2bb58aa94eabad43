"""Converts published weights once, to a file that holds this package's own names and layouts.

python -m avsc_jax.convert clip_rn101 RN101.pt clip_rn101.safetensors
"""

import argparse
import sys
from pathlib import Path

import jax

import avsc_jax
from avsc_jax import cli, models, weights

DESCRIPTION = """\
Reads published weights, fits them to a network of this package, every name accounted for, and
writes them as safetensors under the paths of the network's variables (params/..., batch_stats/...).

There is no need to: all commands read the published files too. The result opens faster, holds this
one network only, and needs no trust in its origin. --head=drop leaves out the last layer, which
belongs to the publisher's classes: a network of other classes draws its own.
"""
EPILOG = f"""\
files read: {' '.join(weights.SUFFIXES)}
networks: {' '.join(weights.SOURCES)}

example:
  python -m avsc_jax.convert clip_rn101 RN101.pt ~/.cache/avsc_jax/weights/clip_rn101.safetensors
"""


def main(arguments: list[str]) -> int:
    """Reads, converts, writes; prints what came of it."""
    parser = argparse.ArgumentParser(
        prog='python -m avsc_jax.convert',
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('name', help='the network, such as clip_rn101')
    parser.add_argument('source', type=Path, help='the published file')
    parser.add_argument('out', type=Path, help='the file to write, NAME.safetensors')
    parser.add_argument('--head', choices=['keep', 'drop'], default='keep', help='(default keep)')
    args = parser.parse_args(arguments)
    _check_paths(args.source, args.out)
    model = models.create_model(args.name, **({'num_classes': 0} if args.head == 'drop' else {}))
    variables = weights.convert_file(model, args.source, head=args.head)
    about = {
        'network': args.name,
        'source': args.source.name,
        'sha256': weights.fingerprint(args.source),
        'version': avsc_jax.__version__,
    }
    weights.write(variables, args.out, about)
    print(
        f'{args.out}: {len(jax.tree.leaves(variables))} arrays, {args.out.stat().st_size:,} bytes, '
        f'SHA-256 {weights.fingerprint(args.out)}'
    )
    if args.name in weights.SOURCES:
        source = weights.SOURCES[args.name]
        print(f'licence: {source.licence}, from {source.publisher}')
    return 0


def _check_paths(source: Path, out: Path) -> None:
    if out.suffix != '.safetensors':
        raise ValueError(f'{out} must end in .safetensors')
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f'{out.parent} is not a folder; make it first')
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f'{out} is the source itself; give the result another name')


def run() -> None:
    """Console script avsc-convert."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
