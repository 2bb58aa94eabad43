"""Weight files: reading them, naming them by their content, finding them in a folder."""

import hashlib
import zipfile
from pathlib import Path

import flax.linen as nn
import numpy as np
import safetensors
import safetensors.numpy

from avsc_jax.weights.conversion import convert_for
from avsc_jax.weights.random import random_variables
from avsc_jax.weights.sources import SOURCES

SUFFIXES = ('.safetensors', '.npz')


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Name -> array of a .safetensors or .npz file; nothing in the file is executed."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f'{path} ends in {path.suffix or "nothing"!r}; weights are read from '
            f'{" and ".join(SUFFIXES)} files'
        )
    if not path.is_file():
        raise FileNotFoundError(f'there is no weights file {path}')
    try:
        if path.suffix == '.safetensors':
            return safetensors.numpy.load_file(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (safetensors.SafetensorError, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f'{path} cannot be read as {path.suffix} weights: {error}') from error


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def identify(name: str, folder: str | Path) -> str:
    """SHA-256 of the weights file of network `name` in a folder."""
    return fingerprint(_find(name, folder))


def load(model: nn.Module, name: str, origin: str, folder: str | Path) -> dict:
    """Variables of a network that goes by `name`.

    Args:
      origin: `random:SEED`, or the SHA-256 that the weights file in the folder must have.
    """
    kind, _, seed = origin.partition(':')
    if kind == 'random':
        return random_variables(model, int(seed))
    path = _find(name, folder)
    found = fingerprint(path)
    if found != origin:
        raise ValueError(
            f'{path} has SHA-256 {found}, but {origin} was asked for: put back the file that the '
            'run was made with'
        )
    return convert_for(model, read(path))


def _find(name, folder):
    paths = [Path(folder) / f'{name}{suffix}' for suffix in SUFFIXES]
    for path in paths:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f'no weights of {name} in {folder}: fetch https://huggingface.co/{SOURCES[name].hub} and '
        f'put it there as {paths[0].name}, or run with --weights=random'
    )
