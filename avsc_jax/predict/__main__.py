"""Names the scenes of media files, or of a prepared dataset, with a trained run.

python -m avsc_jax.predict clip.mp4 folder/ --model=runs/clip_fusion [--csv out.csv]
python -m avsc_jax.predict --dataset=evaluation --model=runs/hitachi_image --csv out.csv

With --encoder it writes the embeddings of their pictures or sound instead; no run is needed.

python -m avsc_jax.predict folder/ --encoder=openl3_audio:hop_s=0.5 --embeddings out.npz
"""

import sys

from avsc_jax.predict import flags
from avsc_jax.runtime import cli


def main(arguments: list[str]) -> int:
    """Runs the command; returns 0 when every file was answered, 1 when some could not be read."""
    args = flags.parse(arguments)
    from avsc_jax.predict import command  # loads JAX, which --help does not need
    from avsc_jax.runs import checksums

    with checksums.trusting(args.trust_edited):
        return command.run(args)


def run() -> None:
    """Console script avsc-predict."""
    sys.exit(cli.main(main))


if __name__ == '__main__':
    run()
