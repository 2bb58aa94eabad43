"""Opens the system that the flags of avsc_jax.predict or avsc_jax.serve name.

What loads JAX is imported inside functions, so that --help is quick.
"""

import argparse
import itertools
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from avsc_jax.predict.class_texts import ENCODER, PROMPT, named
from avsc_jax.runtime import cli

if TYPE_CHECKING:
    from avsc_jax.predict.predictor import Predictor


def add_ready(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `opened` takes: a run, or the classes of a system without one."""
    add = parser.add_argument
    without = 'without it, ready-made tags of sound and pictures'
    add('--model', type=Path, help=f'run folder of a system, or of an ensemble; {without}')
    gain = 'of the ready-made tags: lift quiet sound, in which they are mostly Silence'
    add('--gain', choices=('auto',), help=gain)
    backend = 'what runs the networks: jax, or onnx (ONNX Runtime, of the extra export; CPU)'
    add('--backend', choices=('jax', 'onnx'), default='jax', help=backend)
    add('--trust_edited', action='store_true', help=cli.TRUST_EDITED)
    add = parser.add_argument_group('classes of your own, without training').add_argument
    zero_shot = "CLIP's zero-shot prediction: the class whose name is most like the pictures"
    add('--zero_shot', action='store_true', help=zero_shot)
    classes = 'names with commas between them, or @FILE with one a line (default: the ten scenes)'
    add('--classes', metavar='NAMES', help=classes)
    prompt = f'the sentence around a name, once or several times (default {PROMPT!r})'
    add('--prompt', action='append', help=prompt)
    add = parser.add_argument_group('weights').add_argument
    add(
        '--encoder',
        help=f'the network of --zero_shot (default {ENCODER}, also clip_vit_b16, clip_vit_l14); in '
        'avsc-predict with --embeddings, any network with published weights, and its options, such '
        'as openl3_audio:hop_s=0.5,embedding_size=6144',
    )
    add('--weights', help='random:SEED instead of the published weights')
    add('--weights_dir', type=Path, help='folder of published weights')
    add('--download_weights', action='store_true', help='download missing weights')


def check_ready(args: argparse.Namespace, *, others: Collection[str] = ()) -> None:
    """Raises ValueError if the flags of `add_ready` name two systems, or do not fit together.

    Args:
      others: further flags of which one may take the place of --model and --zero_shot.
    """
    chosen = [name for name in ('model', 'zero_shot', *others) if getattr(args, name)]
    if len(chosen) > 1:
        known = ' or '.join(['--model (a run folder)', '--zero_shot', *(f'--{o}' for o in others)])
        given = ' and '.join(f'--{name}' for name in chosen)
        raise ValueError(f'give one of {known}; {given} is given')
    if args.gain and chosen:
        raise ValueError(
            f'--gain goes with the ready-made tags, not with --{chosen[0]}; leave one of the two '
            'out (embeddings take it as --encoder=yamnet:gain=auto)'
        )
    if args.zero_shot:
        named(args.classes)
    for name in ('classes', 'prompt'):
        if getattr(args, name) is not None and not args.zero_shot:
            raise ValueError(f'--{name} goes with --zero_shot; add that flag, or leave it out')
    is_random = re.fullmatch(r'random:\d{1,9}', args.weights or 'random:0')
    if args.weights is not None and (args.model or not is_random):
        raise ValueError(
            f'--weights is {args.weights!r}; it must be random:SEED, and goes with --encoder or '
            '--zero_shot'
        )


def opened(args: argparse.Namespace) -> 'Predictor':
    """Opens the system that the flags of `add_ready` name, after fetching its weights if asked.

    Raises:
      FileNotFoundError: the run is not finished, or weights are missing.
      ValueError: a file is damaged, or the classes, the prompts or the encoder are not valid.
    """
    if args.backend == 'jax':
        return _opened(args)
    from avsc_jax.predict import onnx_backend

    return onnx_backend.use(_opened(args))


def _opened(args: argparse.Namespace) -> 'Predictor':
    from avsc_jax import weights
    from avsc_jax.predict import predictor, tags, zero_shot
    from avsc_jax.runtime import compiled_programs
    from avsc_jax.weights.cache import default_weights_dir

    compiled_programs.keep()
    weights_dir = args.weights_dir or default_weights_dir()
    if not args.model and not args.zero_shot:
        if args.download_weights:  # what else the tags use is installed
            weights.download_all([ENCODER], weights_dir)
        return tags(weights_dir=weights_dir, gain=args.gain)
    if not args.zero_shot:
        if args.download_weights:
            weights.download_all(published(args.model), weights_dir)
        return predictor.load(args.model, weights_dir)
    return zero_shot(
        named(args.classes),
        encoder=args.encoder or ENCODER,
        prompts=args.prompt or [PROMPT],
        weights_dir=weights_dir,
        origin=args.weights,
        download=args.download_weights,
    )


def published(model: Path) -> list[str]:
    """Names the encoders with published weights of a run, or of an ensemble's members."""
    from avsc_jax.predict.predictor import member_folders
    from avsc_jax.runs.run_folder import RunFolder

    if (model / 'members.json').exists():
        runs = [place for _, place in member_folders(model)]
        return list(dict.fromkeys(itertools.chain(*map(published, runs))))
    encoders = RunFolder(model).read_json('preprocessing.json').get('encoders', [])
    return [e['name'] for e in encoders if 'run' not in e and len(e['weights']) == 64]
