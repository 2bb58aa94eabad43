"""Runs avsc_jax.convert on parsed flags: reads, converts and writes weights."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax

import avsc_jax
from avsc_jax import models, weights
from avsc_jax.models import openl3_baseline
from avsc_jax.weights.conversion import convert_for, stripped

JOINED = 'openl3_baseline_audio_video'  # the only network that is published in several files
FILES = ('audio', 'video', 'combined')


def list_networks() -> str:
    """Lists the networks with published weights, and the kinds of files that are read."""
    return f'networks: {" ".join(weights.SOURCES)}\nfiles: {" ".join(weights.SUFFIXES)}'


def run(args: argparse.Namespace) -> int:
    """Converts published weights, and prints size and SHA-256; returns the exit code."""
    _check_paths(args.source, args.out)
    model = models.create_model(args.name, **_options(args))
    variables = _variables(model, args)
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


def _options(args: argparse.Namespace) -> dict[str, int]:
    """Returns the options of the network that the flags ask for."""
    if args.head == 'drop' and args.num_classes is not None:
        raise ValueError('--num_classes is of the head, which --head=drop leaves out; give one')
    if args.num_classes is not None and args.num_classes < 1:
        raise ValueError(
            f'--num_classes is {args.num_classes}; it must be 1 or more (--head=drop leaves '
            'the head out)'
        )
    if args.head == 'drop':
        return {'num_classes': 0}
    return {} if args.num_classes is None else {'num_classes': args.num_classes}


def _variables(model: nn.Module, args: argparse.Namespace) -> dict:
    name, sources, head = args.name, args.source, args.head
    if name != JOINED:
        if len(sources) > 1:
            raise ValueError(
                f'{name} is published in one file, and {len(sources)} are given; name one'
            )
        chosen = {'prefix': args.strip_prefix, 'entry': args.select}
        return weights.convert_file(model, sources[0], head=head, **chosen)
    if len(sources) != len(FILES):
        raise ValueError(
            f'{name} is published in {len(FILES)} files, and {len(sources)} are given; name '
            f'{", ".join(FILES)} in this order'
        )
    states = [
        stripped(weights.read(source, entry=args.select), args.strip_prefix) for source in sources
    ]
    return convert_for(model, openl3_baseline.joined(*states), head=head)


def _check_paths(sources: Sequence[Path], out: Path) -> None:
    if out.suffix != '.safetensors':
        raise ValueError(f'{out} must end in .safetensors; name another file to write')
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f'{out.parent} is not a folder; make it first')
    if out.exists() and any(source.exists() and out.samefile(source) for source in sources):
        raise ValueError(f'{out} is the source file itself; name another file to write')
