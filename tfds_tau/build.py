"""Prepares the data set: TFDS's own `build` command on this folder, without TensorFlow.

    python -m tfds_tau.build --config=demo|clips|segments|frames10|evaluation [--workers=N]
        [--download] [--on_error=fail|skip]

All flags of `tfds build` work (--data_dir, --manual_dir, --num_shards, --overwrite ...; --help
lists them), except for the shard size. Without --config every config that has media is built.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
import sys
from pathlib import Path
from typing import Literal

from avsc_jax.runtime import cli

if __name__ == '__main__':
    cli.end_at_signals()

import tensorflow_datasets as tfds
from absl import app, flags, logging
from tensorflow_datasets.scripts.cli import build, cli_utils

from avsc_jax.runtime import disk, nearest
from tfds_tau import fetch
from tfds_tau.tfds_tau_dataset_builder import Builder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(build.Args):
    """TFDS's flags and those of this builder."""

    workers: int | None = None
    """Number of clips decoded in parallel. Defaults to one per core."""

    download: bool = False
    """Fetches the archives that are missing: 108 GB development set, 61 GB evaluation set."""

    on_error: Literal['fail', 'skip'] = 'fail'
    """Whether clips with missing or broken files, listed at the end, are an error or left out."""


def main(args: Args) -> int:
    """Builds the named config, or all; returns 1 if any fails."""
    if not flags.FLAGS['verbosity'].present:
        logging.set_verbosity(logging.ERROR)  # TFDS logs every step, and warns of unbuilt configs
    tfds.disable_progress_bar()  # the builder shows its own
    Builder.workers, Builder.on_error = args.workers, args.on_error
    known, config = list(Builder.builder_configs), args.generation.config
    try:
        _check(args, known)
        configs = [config] if config else known
        if args.download:
            args = _with_manual_dir(args)
            fetch.fetch(configs, Path(args.paths.manual_dir))
    except (ValueError, OSError) as error:
        return _print_error(error)
    return int(not all([_built(args, name) for name in configs]))


def _check(args: Args, known: list[str]) -> None:
    """Raises ValueError for flags that would fail after hours or be ignored."""
    config, options = args.generation.config, args.generation
    if config is not None:
        nearest.check('--config', config, known)
    if options.max_shard_size_mb:
        raise ValueError('--max_shard_size_mb does nothing here; give --num_shards')
    if options.beam_pipeline_options and options.nondeterministic_order:
        raise ValueError(
            'TFDS cannot write ArrayRecord with --nondeterministic_order; leave it out'
        )
    if options.beam_pipeline_options and not importlib.util.find_spec('apache_beam'):
        raise ValueError(
            '--beam_pipeline_options needs Apache Beam; run: pip install "avsc_jax[beam]"'
        )


def _with_manual_dir(args: Args) -> Args:
    """Sets manual_dir to the folder of the archives, where TFDS looks by default."""
    paths = args.paths
    folder = paths.manual_dir or (paths.download_dir or paths.data_dir / 'downloads') / 'manual'
    if paths.add_name_to_manual_dir:
        folder /= Builder.name
    paths = dataclasses.replace(paths, manual_dir=folder.expanduser(), add_name_to_manual_dir=False)
    return dataclasses.replace(args, paths=paths)


def _built(args: Args, config: str) -> bool:
    """Runs TFDS's command for one config; returns whether it succeeded, else prints one line."""
    one = dataclasses.replace(
        args,
        positional_datasets=[str(Path(__file__).parent)],
        generation=dataclasses.replace(args.generation, config=config),
    )
    try:
        # TFDS prints all that it knows of a data set; the builder says what a user needs
        with contextlib.redirect_stdout(io.StringIO()):
            build.Args.execute(one)
    except (ValueError, OSError) as error:
        return not _print_error(error, f'{config}: ')
    return True


def _print_error(error: Exception, where: str = '') -> int:
    """Prints an error in one line; returns the exit code."""
    if os.environ.get('AVSC_TRACEBACK'):
        raise error
    print(f'error: {where}{disk.explained(error) or error}', file=sys.stderr)
    return 1


def run() -> None:
    """Parses the command line and runs `main`."""
    parser = cli_utils.make_flags_parser(Args, description=__doc__)
    sys.exit(cli.main(lambda _: app.run(main, flags_parser=parser)))


if __name__ == '__main__':
    run()
