"""The folder of weight files: what lies there under a network's name, and fetching what lacks."""

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import flax.linen as nn
import huggingface_hub
import jax

from avsc_jax.models import published_sources, source_of
from avsc_jax.models.sources import Source
from avsc_jax.runtime.download import fetch
from avsc_jax.weights.conversion import convert_for
from avsc_jax.weights.random import random_variables
from avsc_jax.weights.weight_files import SUFFIXES, fingerprint, git_fingerprint, is_converted, read


def identify(name: str, folder: str | os.PathLike) -> str:
    """SHA-256 of the weights file of network `name` in a folder."""
    return fingerprint(_existing(name, Path(folder)))


def load(
    model: nn.Module,
    name: str,
    origin: str,
    folder: str | os.PathLike,
    *,
    head: str = 'keep',
    key: int | jax.Array = 0,
) -> dict:
    """Variables of a network that goes by `name`.

    Args:
      origin: `random:SEED`, or the SHA-256 that the weights file in the folder must have.
      head: `drop` passes over the file's last layer, and draws the network's (if any) from `key`.
    """
    kind, _, seed = origin.partition(':')
    if kind == 'random':
        return random_variables(model, int(seed))
    path = _existing(name, Path(folder))
    found = fingerprint(path)
    if found != origin:
        raise ValueError(
            f'{path} has SHA-256 {found}, but {origin} was asked for: put back the file that the '
            'run was made with'
        )
    return convert_file(model, path, head=head, key=key)


def convert_file(
    model: nn.Module, path: Path, *, head: str = 'keep', key: int | jax.Array = 0
) -> dict:
    """Variables of a network from a weights file, its publisher's or a converted one."""
    state = read(path)
    try:
        return convert_for(model, state, head=head, key=key)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def download(name: str, folder: str | os.PathLike) -> Path:
    """The weights file of network `name` in a folder; fetched from its publisher if it lacks.

    A file that is there stays; it must have the published hash where it has the published name.
    """
    source, folder = source_of(name), Path(folder)
    path, published = _find(name, folder), folder / _file_name(name, source.addresses[0])
    if path is None and source.url:
        fetch(source.url, published, sha256=source.sha256)
        if wrong := _wrong(published, source):
            published.unlink()
            raise OSError(f'{source.url} was not kept: {wrong}; give the same command again')
        return published
    if path is None:
        return _fetch_from_hub(source.hub, published)
    if path == published and not is_converted(path) and (wrong := _wrong(path, source)):
        raise ValueError(f'{wrong}: move it away, and it is fetched again')
    return path


def download_all(names: Iterable[str], folder: str | os.PathLike) -> None:
    """`download` for several networks; says on the console what it was, how big, and whose."""
    for name in names:
        source = source_of(name)
        print(f'{name}: {source.licence} licence, from {source.publisher}', file=sys.stderr)
        path = download(name, folder)
        size = f'{path.stat().st_size / 1e6:,.1f} MB'
        print(f'{name}: {path}, {size}, SHA-256 {fingerprint(path)}', file=sys.stderr)


def _wrong(path: Path, source: Source) -> str | None:
    """In what hash a file differs from the publisher's, if that is known."""
    if source.sha256:
        kind, found, published = 'SHA-256', fingerprint(path), source.sha256
    elif source.git_sha1:
        kind, found, published = "git's SHA-1", git_fingerprint(path), source.git_sha1
    else:
        return None
    differ = f'{path} has {kind} {found}, but {source.publisher} publishes {published}'
    return differ if found != published else None


def _existing(name: str, folder: Path) -> Path:
    path = _find(name, folder)
    if path is None:
        source = source_of(name)
        places = [f'{_file_name(name, address)} ({address})' for address in source.addresses]
        raise FileNotFoundError(
            f'no weights of {name} in {folder}: add --download_weights ({source.licence} licence, '
            f'from {source.publisher}), or put there {" or ".join(places)}, or train with '
            '--weights=random'
        )
    return path


def _find(name: str, folder: Path) -> Path | None:
    sources = published_sources()
    owner = sources[name].shares if name in sources else None
    own = [folder / f'{name}{suffix}' for suffix in SUFFIXES]
    shared = [folder / f'{owner}{suffix}' for suffix in SUFFIXES if owner]
    # what avsc_jax.convert wrote for the owner holds nothing else
    shared = (path for path in shared if path.is_file() and not is_converted(path))
    return next((path for path in own if path.is_file()), None) or next(shared, None)


def _file_name(name: str, address: str) -> str:
    """What the file from an address is called in the folder."""
    suffix = next(suffix for suffix in SUFFIXES if address.endswith(suffix))
    return f'{source_of(name).shares or name}{suffix}'


def _fetch_from_hub(hub: str, path: Path) -> Path:
    """Fetches 'owner/repository/file' of huggingface.co; resumed in a folder beside the path."""
    owner, repository, file = hub.split('/', 2)
    beside = path.with_name(f'{path.name}.part')
    try:
        found = huggingface_hub.hf_hub_download(f'{owner}/{repository}', file, local_dir=beside)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(
            f'{hub} was not fetched from huggingface.co ({reason}); check the connection and give '
            'the same command again, which keeps what is there'
        ) from error
    Path(found).replace(path)
    shutil.rmtree(beside)
    return path


def default_weights_dir() -> Path:
    """Where converted weights are kept: AVSC_WEIGHTS_DIR, or ~/.cache/avsc_jax/weights."""
    return Path(os.environ.get('AVSC_WEIGHTS_DIR', '~/.cache/avsc_jax/weights')).expanduser()
