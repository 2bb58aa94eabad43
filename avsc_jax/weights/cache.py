"""The folder of weights files: finding a network's file, and fetching it if it is missing."""

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import flax.linen as nn
import huggingface_hub
import jax

from avsc_jax.models import create_model, published_sources, source_of
from avsc_jax.models.efficientat import PUBLISHED as EFFICIENTAT
from avsc_jax.models.sources import Source
from avsc_jax.runtime.download import fetch
from avsc_jax.runtime.files import locked
from avsc_jax.weights import first_download, stated
from avsc_jax.weights.conversion import convert_for, convert_known
from avsc_jax.weights.random import random_variables
from avsc_jax.weights.weight_files import (
    SUFFIXES,
    fingerprint,
    git_fingerprint,
    is_converted,
    opened,
    read,
)

SHIPPED = Path(__file__).parent / 'shipped'
# Networks -> the files of the names of their classes, one a line.
CLASS_NAMES = {
    'tf_efficientnet_lite0': 'imagenet_classes.txt',
    'yamnet': 'audioset_classes.txt',
    **dict.fromkeys(EFFICIENTAT, 'audioset_527_classes.txt'),
}


class MissingWeights(FileNotFoundError):
    """The folder of weights has none of a network."""


def identify(
    name: str, folder: str | os.PathLike, *, options: Collection[str] | None = None
) -> str:
    """Returns the SHA-256 of a network's weights file in a folder, or of the installed one.

    Args:
      name: a network with published weights; its file is called `name` and one of SUFFIXES.
      folder: the folder of weights files. Where it has none, some networks have a file that is
        installed with this package, see `Source.shipped`.
      options: the names of the options that are given to the encoder. If the file is not known to
        be the published one, they must hold all of `Source.unstated`. None: not checked.

    Raises:
      FileNotFoundError: the folder has no weights of this network; the message says how to get
        them.
      ValueError: the folder has none, and none are published for the network; an installed file is
        not what it should be; or options are missing for the weights of someone else.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = pathlib.Path(folder, 'resnet50.safetensors').write_bytes(b'')
      ...     identify('resnet50', folder)[:8]
      'e3b0c442'
    """
    path = _existing(name, Path(folder))
    sha256 = fingerprint(path)
    if options is not None:
        stated.check(name, path, sha256, options)
    return sha256


def load(
    model: nn.Module,
    name: str,
    origin: str,
    folder: str | os.PathLike,
    *,
    head: str = 'keep',
    key: int | jax.Array = 0,
) -> dict:
    """Returns a network's variables: random ones, or those of its weights file.

    Args:
      model: the network.
      name: its weights file is called `name` and one of SUFFIXES.
      origin: `random:SEED`, or the SHA-256 that the weights file in the folder must have; that of
        an installed file takes it from there.
      folder: the folder of weights files; not read for random variables.
      head: `drop` ignores the file's last layer, and draws the network's (if any) from `key`.
      key: a PRNG key or a seed.

    Returns:
      A nested dict of float32 arrays, with `params` and perhaps `batch_stats`.

    Raises:
      FileNotFoundError: the folder has no weights of this network.
      ValueError: the file has another SHA-256, or holds other weights.

    Example:
      >>> from avsc_jax import models
      >>> model = models.create_model('clip_late_fusion')
      >>> sorted(load(model, 'clip_late_fusion', 'random:0', folder='weights'))
      ['batch_stats', 'params']
    """
    kind, _, seed = origin.partition(':')
    if kind == 'random':
        return random_variables(model, int(seed))
    installed = _shipped(name)
    if installed and origin == source_of(name).shipped.sha256:
        if head == 'keep' and model == create_model(name):  # the tests compare this very file
            return convert_known(model, read(installed))
        return convert_file(model, installed, head=head, key=key)
    path = _existing(name, Path(folder))
    sha256 = fingerprint(path)
    if sha256 != origin:
        raise ValueError(
            f'{path} has SHA-256 {sha256}, but {origin} was asked for: put back the file that the '
            'run was made with'
        )
    return convert_file(model, path, head=head, key=key)


def convert_file(
    model: nn.Module,
    path: Path,
    *,
    head: str = 'keep',
    key: int | jax.Array = 0,
    prefix: str = '',
    entry: str | None = None,
) -> dict:
    """Returns a network's variables from a weights file, its publisher's or a converted one.

    Args:
      model: the network.
      path: the file, of any kind that `read` takes.
      head: `drop` ignores the file's last layer, and draws the network's (if any) from `key`.
      key: a PRNG key or a seed.
      prefix: what the names begin with, to be taken off; see `convert`.
      entry: which dict of tensors of several; see `read`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be read, or holds other weights.

    Example:
      >>> import pathlib, tempfile
      >>> from avsc_jax import models
      >>> model = models.create_model('clip_late_fusion')
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'fusion.safetensors')
      ...     write(random_variables(model, seed=0), path, {'source': 'random:0'})
      ...     variables = convert_file(model, path)
      >>> sorted(variables)
      ['batch_stats', 'params']
    """
    state = opened(path, entry=entry)
    try:
        return convert_for(model, state, head=head, key=key, prefix=prefix)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def download(name: str, folder: str | os.PathLike) -> Path:
    """Returns the path of a network's weights file in a folder; fetches it if it is missing.

    An existing file is kept; if it has the published name, it must have the published hash. Where
    none is published, the first download is recorded beside the file, and later ones must equal it.

    Args:
      name: a network with published weights; see `SOURCES`.
      folder: the folder of weights files.

    Raises:
      OSError: it could not be fetched, or the server has another file than at the first download.
      ValueError: no weights are published for the network, or an existing file has another hash.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = pathlib.Path(folder, 'resnet50.npz').write_bytes(b'')  # exists, so not fetched
      ...     download('resnet50', folder).name
      'resnet50.npz'
    """
    source, folder = source_of(name), Path(folder)
    path = _find(name, folder)
    if path is not None and source.shipped:  # nothing is fetched
        return path
    published = folder / _file_name(name, source.addresses[0])
    if path is None:
        return _fetched(source, published)
    if path == published and not is_converted(path):
        if wrong := _wrong(path, source):
            raise ValueError(f'{wrong}: move it away, and give the same command again to fetch it')
        is_recorded = first_download.record_of(path).exists()  # else nothing is to be hashed
        if is_recorded and (changed := first_download.difference(path, fingerprint(path))):
            raise ValueError(changed)
    return path


@contextlib.contextmanager
def _or_by_hand(source: Source, path: Path) -> Iterator[None]:
    """Adds to an error of the connection where a file from another machine is to be put."""
    try:
        yield
    except OSError as error:
        if error.errno:  # of this machine, such as a full disk
            raise
        raise OSError(
            f'{error}; or get {source.addresses[0]} on another machine and put it here as {path}'
        ) from error


def _fetched(source: Source, published: Path) -> Path:
    """Fetches a source's file to its place in the folder of weights."""
    if source.url:
        with _or_by_hand(source, published):
            fetch(source.url, published, sha256=source.sha256)
        if wrong := _wrong(published, source):
            published.unlink()
            raise OSError(f'{source.url} was not kept: {wrong}; give the same command again')
        if not (source.sha256 or source.git_sha1):
            _compare_with_first(source.url, published)
        return published
    published.parent.mkdir(parents=True, exist_ok=True)
    with locked(published):
        # another process may have fetched it meanwhile
        return published if published.is_file() else _fetch_from_hub(source, published)


def download_all(names: Iterable[str], folder: str | os.PathLike) -> None:
    """Downloads the weights of several networks; prints licence, publisher, size and hash of each.

    Args:
      names: networks with published weights; existing files are kept.
      folder: the folder of weights files.

    Raises:
      OSError: a file could not be fetched.
      ValueError: no weights are published for a network, or an existing file has another hash.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = pathlib.Path(folder, 'resnet50.npz').write_bytes(b'')  # exists, so not fetched
      ...     download_all(['resnet50'], folder)
    """
    for name in names:
        source = source_of(name)
        print(f'{name}: {source.licence} licence, from {source.publisher}', file=sys.stderr)
        path = download(name, folder)
        size = f'{path.stat().st_size / 1e6:,.1f} MB'
        print(f'{name}: {path}, {size}, SHA-256 {fingerprint(path)}', file=sys.stderr)


def _wrong(path: Path, source: Source) -> str | None:
    """Returns how a file's hash differs from the published one; None: not, or none is published."""
    if source.sha256:
        kind, own, published = 'SHA-256', fingerprint(path), source.sha256
    elif source.git_sha1:
        kind, own, published = "git's SHA-1", git_fingerprint(path), source.git_sha1
    else:
        return None
    differ = f'{path} has {kind} {own}, but {source.publisher} publishes {published}'
    return differ if own != published else None


def _existing(name: str, folder: Path) -> Path:
    path = _find(name, folder)
    if path is None:
        source = source_of(name)
        places = [f'{_file_name(name, address)} ({address})' for address in source.addresses]
        raise MissingWeights(
            f'no weights of {name} in {folder}: add --download_weights ({source.licence} licence, '
            f'from {source.publisher}), or put {" or ".join(places)} into that folder'
        )
    return path


def _find(name: str, folder: Path) -> Path | None:
    sources = published_sources()
    owner = sources[name].shares if name in sources else None
    own = [folder / f'{name}{suffix}' for suffix in SUFFIXES]
    shared = [folder / f'{owner}{suffix}' for suffix in SUFFIXES if owner]
    # a file that avsc_jax.convert wrote for the owner holds the owner's weights alone
    shared = (path for path in shared if path.is_file() and not is_converted(path))
    found = (path for path in own if path.is_file())
    return next(found, None) or next(shared, None) or _shipped(name)


def _shipped(name: str) -> Path | None:
    """Returns the path of a network's installed weights file; None if it has none.

    Raises:
      ValueError: the file is missing, or has another SHA-256.
    """
    sources = published_sources()
    shipped = sources[name].shipped if name in sources else None
    if shipped is None:
        return None
    package = importlib.util.find_spec(shipped.package)
    places = package.submodule_search_locations if package else None
    path = Path(places[0], shipped.file) if places else None
    if path is None or not path.is_file():
        raise ValueError(
            f'the weights of {name} are not installed: {shipped.file} of the package '
            f'{shipped.package} is missing; install avsc_jax again with what it requires'
        )
    if (sha256 := fingerprint(path)) != shipped.sha256:
        raise ValueError(
            f'{path} has SHA-256 {sha256}, but {shipped.sha256} is expected: install '
            f'{shipped.package.partition(".")[0]} again'
        )
    return path


def _file_name(name: str, address: str) -> str:
    """Returns the name in the folder of the file from an address."""
    suffix = next(suffix for suffix in SUFFIXES if address.endswith(suffix))
    return f'{source_of(name).shares or name}{suffix}'


def _fetch_from_hub(source: Source, path: Path) -> Path:
    """Fetches a source's file of huggingface.co; resumes from a folder beside the path.

    The hub states the SHA-256 of large files; of others, only a later download is compared.
    """
    owner, repository, file = source.hub.split('/', 2)
    beside = path.with_name(f'{path.name}.part')
    given = {'revision': source.revision, 'local_dir': beside}
    with _or_by_hand(source, path):
        try:
            fetched = huggingface_hub.hf_hub_download(f'{owner}/{repository}', file, **given)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise OSError(
                f'{source.hub} was not fetched from huggingface.co ({reason}); check the '
                'connection and give the same command again, which resumes the download'
            ) from error
    sha256, (revision, stated) = fingerprint(fetched), _facts_of_hub(beside, file)
    wrong = first_download.difference(path, sha256)
    if len(stated) == 64 and stated != sha256:
        wrong = f'it has SHA-256 {sha256}, but the hub states {stated}; give the same command again'
    if wrong:
        shutil.rmtree(beside)
        raise OSError(f'{source.hub} was not kept: {wrong}')
    Path(fetched).replace(path)
    shutil.rmtree(beside)
    url = source.addresses[-1]
    first_download.write(path, url=url, revision=revision or None, sha256=sha256)
    return path


def _compare_with_first(url: str, path: Path) -> None:
    """Records the first download of a file; removes a later one that differs from it."""
    sha256 = fingerprint(path)
    if wrong := first_download.difference(path, sha256):
        path.unlink()
        raise OSError(f'{url} was not kept: {wrong}')
    first_download.write(path, url=url, revision=None, sha256=sha256)


def _facts_of_hub(folder: Path, file: str) -> tuple[str, str]:
    """Returns the commit and the ETag that the hub has given with a file; '' where it has not."""
    facts = folder / '.cache/huggingface/download' / f'{file}.metadata'
    lines = facts.read_text().splitlines() if facts.exists() else []
    commit, etag, *_ = [*lines, '', '']
    return commit, etag


def has(name: str, folder: str | os.PathLike) -> bool:
    """Returns whether a folder holds a weights file of a network, or one is installed.

    Example:
      >>> has('tf_efficientnet_lite0', 'no/folder'), has('clip_vit_b32', 'no/folder')
      (True, False)
    """
    return _find(name, Path(folder)) is not None


def class_names(name: str) -> tuple[str, ...]:
    """Returns the names of the classes of a network's published head, in their order.

    Raises:
      ValueError: the names of this network's classes are not at hand.

    Example:
      >>> class_names('tf_efficientnet_lite0')[285]
      'Egyptian cat'
    """
    if name not in CLASS_NAMES:
        raise ValueError(
            f'the classes of {name} have no names here; those of {", ".join(CLASS_NAMES)} have'
        )
    return tuple((SHIPPED / CLASS_NAMES[name]).read_text('utf-8').splitlines())


def default_weights_dir() -> Path:
    """Returns the folder of weights files: AVSC_WEIGHTS_DIR, or ~/.cache/avsc_jax/weights."""
    return Path(os.environ.get('AVSC_WEIGHTS_DIR', '~/.cache/avsc_jax/weights')).expanduser()
