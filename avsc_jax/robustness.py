"""The command `python -m avsc_jax.robustness`, which is avsc_jax.score.robustness."""

from avsc_jax.score.robustness import run

if __name__ == '__main__':
    run()
