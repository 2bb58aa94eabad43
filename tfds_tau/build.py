"""Prepares the data set: TFDS's own `build` command on this folder, without TensorFlow.

    python -m tfds_tau.build --config=demo|clips|segments|frames10|evaluation [--workers=N]

All flags of `tfds build` work (--data_dir, --manual_dir, --num_shards, --overwrite ...; --help
lists them). Without --config every config whose media are there is built.
"""

import dataclasses
import os
import sys
from pathlib import Path

import tensorflow_datasets as tfds
from absl import app, flags, logging
from tensorflow_datasets.scripts.cli import build, cli_utils

from tfds_tau.tfds_tau_dataset_builder import Builder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(build.Args):
    """TFDS's flags and ours."""

    workers: int | None = None
    """Clips decoded at a time. Defaults to one for each core."""


def main(args: Args) -> int:
    """Builds the named config, or each whose media are there; 1 if any is missing."""
    if not flags.FLAGS['verbosity'].present:
        logging.set_verbosity(logging.WARNING)  # TFDS tells its every step at INFO
    tfds.disable_progress_bar()  # the builder shows its own
    Builder.workers = args.workers
    known, config = list(Builder.builder_configs), args.generation.config
    if config is not None and config not in known:
        print(f'error: config {config!r} is not one of {", ".join(known)}', file=sys.stderr)
        return 1
    return int(not all([_built(args, name) for name in ([config] if config else known)]))


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
        if os.environ.get('AVSC_TRACEBACK'):
            raise
        print(f'error: {config}: {error}', file=sys.stderr)
        return False
    return True


def run() -> None:
    """Entry point."""
    app.run(main, flags_parser=cli_utils.make_flags_parser(Args, description=__doc__))


if __name__ == '__main__':
    run()
