"""Prepares the data set: TFDS's own `build` command on this folder, without TensorFlow.

    python -m tfds_tau.build --config=demo|clips|segments|frames10|evaluation [--workers=N]

All flags of `tfds build` work (--data_dir, --manual_dir, --num_shards, --overwrite ...; --help
lists them). Without --config every config whose media are there is built.
"""

import dataclasses
import os
import sys
from pathlib import Path

from absl import app
from tensorflow_datasets.scripts.cli import build, cli_utils

from tfds_tau.tfds_tau_dataset_builder import Builder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args(build.Args):
    """TFDS's flags and ours."""

    workers: int | None = None
    """Clips decoded at a time. Defaults to one for each core."""


def main(args: Args) -> int:
    """Builds the named config, or each whose media are there; 1 if any is missing."""
    Builder.workers = args.workers
    generation = args.generation
    named = generation.config is not None or generation.config_idx is not None
    failed = False
    for config in [generation.config] if named else [c.name for c in Builder.BUILDER_CONFIGS]:
        one = dataclasses.replace(
            args,
            positional_datasets=[str(Path(__file__).parent)],
            generation=dataclasses.replace(generation, config=config),
        )
        try:
            build.Args.execute(one)
        except (ValueError, OSError) as error:
            if os.environ.get('AVSC_TRACEBACK'):
                raise
            print(f'error: {"" if named else config + ": "}{error}', file=sys.stderr)
            failed = True
    return int(failed)


def run() -> None:
    """Entry point."""
    app.run(main, flags_parser=cli_utils.make_flags_parser(Args, description=__doc__))


if __name__ == '__main__':
    run()
