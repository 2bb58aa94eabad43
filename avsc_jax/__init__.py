"""Audio-visual scene classification in JAX and Flax."""

__version__ = '0.1.0'
# The repository's address, such as https://github.com/OWNER/avsc_jax; empty until it is known.
# setup.py makes whole links and the project's addresses of it, docs/conf.py links to sources.
REPOSITORY = ''
