"""Converts published weights once, to a file that holds this package's own names and layouts.

python -m avsc_jax.convert clip_rn101 RN101.pt clip_rn101.safetensors
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax

import avsc_jax
from avsc_jax import models, weights
from avsc_jax.models import openl3_baseline
from avsc_jax.runtime import cli
from avsc_jax.weights.conversion import convert_for

JOINED = 'openl3_baseline_audio_video'  # the only network that is published in several files
FILES = ('audio', 'video', 'combined')

DESCRIPTION = """\
Reads published weights, fits them to a network of this package, every name accounted for, and
writes them as safetensors under the paths of the network's variables (params/..., batch_stats/...).

There is no need to: all commands read the published files too. The result opens faster, holds this
one network only, and needs no trust in its origin. --head=drop leaves out the last layer, which
belongs to the publisher's classes: a network of other classes draws its own.

One network is published in several files, and takes them in this order: the baseline of sound and
picture, whose halves are files of their own.
"""
EPILOG = f"""\
files read: {' '.join(weights.SUFFIXES)}
networks: {' '.join(weights.SOURCES)}

examples:
  python -m avsc_jax.convert clip_rn101 RN101.pt ~/.cache/avsc_jax/weights/clip_rn101.safetensors
  python -m avsc_jax.convert {JOINED} {' '.join(f'{f}.pt' for f in FILES)} \\
      b03.safetensors
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
    parser.add_argument('source', type=Path, nargs='+', help='the published file, or files')
    parser.add_argument('out', type=Path, help='the file to write, NAME.safetensors')
    parser.add_argument('--head', choices=['keep', 'drop'], default='keep', help='(default keep)')
    args = parser.parse_args(arguments)
    _check_paths(args.source, args.out)
    model = models.create_model(args.name, **({'num_classes': 0} if args.head == 'drop' else {}))
    variables = _variables(model, args.name, args.source, args.head)
    about = {
        'network': args.name,
        'source': ', '.join(source.name for source in args.source),
        'sha256': ', '.join(map(weights.fingerprint, args.source)),
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


def _variables(model: nn.Module, name: str, sources: Sequence[Path], head: str) -> dict:
    if name != JOINED:
        if len(sources) > 1:
            raise ValueError(f'{name} is made of one file, not of {len(sources)}; give one')
        return weights.convert_file(model, sources[0], head=head)
    if len(sources) != len(FILES):
        raise ValueError(
            f'{name} is made of {len(FILES)} files, not of {len(sources)}; give '
            f'{", ".join(FILES)} in this order'
        )
    return convert_for(model, openl3_baseline.joined(*map(weights.read, sources)), head=head)


def _check_paths(sources: Sequence[Path], out: Path) -> None:
    if out.suffix != '.safetensors':
        raise ValueError(f'{out} must end in .safetensors')
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f'{out.parent} is not a folder; make it first')
    if out.exists() and any(source.exists() and out.samefile(source) for source in sources):
        raise ValueError(f'{out} is the source itself; give the result another name')


def run() -> None:
    """Console script avsc-convert."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
