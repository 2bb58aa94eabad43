"""Scores tables of predictions, alone or averaged: python -m avsc_jax.score table [...]."""

import sys

from avsc_jax.runtime import cli
from avsc_jax.score import flags


def main(arguments: list[str]) -> int:
    """Runs the command; returns 0, or 1 from `check` for a file that may not be submitted."""
    mode, options = flags.parse(arguments)
    from avsc_jax.runs import checksums
    from avsc_jax.score import command  # loads JAX, which --help does not need

    with checksums.trusting(options.trust_edited):
        return command.run(mode, options)


def run() -> None:
    """The console script avsc-score."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
