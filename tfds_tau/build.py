"""Prepares the data set: TFDS's own `build` command on this folder, without TensorFlow.

    python -m tfds_tau.build --config=demo|clips|segments|frames10|evaluation [--workers=N]
        [--download] [--on_error=fail|skip]

All flags of `tfds build` work (--data_dir, --manual_dir, --num_shards, --overwrite ...; --help
lists them), but for the shard size. Without --config every config whose media are there is built.
"""

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path
from typing import Literal

import tensorflow_datasets as tfds
from absl import app, flags, logging
from tensorflow_datasets.scripts.cli import build, cli_utils

from tfds_tau import fetch
from tfds_tau.tfds_tau_dataset_builder import Builder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(build.Args):
    """TFDS's flags and ours."""

    workers: int | None = None
    """Clips decoded at a time. Defaults to one for each core."""

    download: bool = False
    """Fetches the archives that are missing: 108 GB development set, 61 GB evaluation set."""

    on_error: Literal['fail', 'skip'] = 'fail'
    """Whether clips with missing or broken files, listed at the end, are an error or left out."""


def main(args: Args) -> int:
    """Builds the named config, or each whose media are there; 1 if any is missing."""
    if not flags.FLAGS['verbosity'].present:
        logging.set_verbosity(logging.WARNING)  # TFDS tells its every step at INFO
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
        return _told(error)
    return int(not all([_built(args, name) for name in configs]))


def _check(args: Args, known: list[str]) -> None:
    """Refuses what would otherwise be found out after hours, or be passed over."""
    config, options = args.generation.config, args.generation
    if config is not None and config not in known:
        raise ValueError(f'config {config!r} is not one of {", ".join(known)}')
    if options.max_shard_size_mb:
        raise ValueError('--max_shard_size_mb does nothing here; give --num_shards')
    if options.beam_pipeline_options and options.nondeterministic_order:
        raise ValueError('--nondeterministic_order: TFDS cannot write ArrayRecord so; leave it out')
    if options.beam_pipeline_options and not importlib.util.find_spec('apache_beam'):
        raise ValueError(
            '--beam_pipeline_options needs Apache Beam; run: pip install "avsc_jax[beam]"'
        )


def _with_manual_dir(args: Args) -> Args:
    """Names the folder of the archives, which TFDS would look for in the same place."""
    paths = args.paths
    folder = paths.manual_dir or (paths.download_dir or paths.data_dir / 'downloads') / 'manual'
    if paths.add_name_to_manual_dir:
        folder /= Builder.name
    paths = dataclasses.replace(paths, manual_dir=folder.expanduser(), add_name_to_manual_dir=False)
    return dataclasses.replace(args, paths=paths)


def _built(args: Args, config: str) -> bool:
    """Runs TFDS's command for one config; what is missing or broken becomes one line."""
    one = dataclasses.replace(
        args,
        positional_datasets=[str(Path(__file__).parent)],
        generation=dataclasses.replace(args.generation, config=config),
    )
    try:
        build.Args.execute(one)
    except (ValueError, OSError) as error:
        return not _told(error, f'{config}: ')
    return True


def _told(error: Exception, where: str = '') -> int:
    """Prints an error that carries a sentence for the user; returns the exit code."""
    if os.environ.get('AVSC_TRACEBACK'):
        raise error
    print(f'error: {where}{error}', file=sys.stderr)
    return 1


def run() -> None:
    """Entry point."""
    app.run(main, flags_parser=cli_utils.make_flags_parser(Args, description=__doc__))


if __name__ == '__main__':
    run()
