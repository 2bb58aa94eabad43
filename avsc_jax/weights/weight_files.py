"""Weights files: reading all formats, writing safetensors, and their hashes."""

import functools
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from avsc_jax.runtime import archives, nearest
from avsc_jax.runtime.files import stamp, whole
from avsc_jax.weights.checks import refused_type
from avsc_jax.weights.h5_files import HDF5, read_h5, read_h5_gz
from avsc_jax.weights.lazy import LazyArrays
from avsc_jax.weights.torch_files import read_torch

HEADER_ENTRY = 'avsc_jax'
# Hashing more takes longer than a tick of the clock of stamps: what is written later has another.
REMEMBERED_BYTES = 1 << 26
MAX_HEADER_BYTES = 1 << 24  # of safetensors: a hundred times that of a network of a thousand arrays

WEB_PAGE = 'a web page; download the file itself'
# What else files turn out to be: place and content of the first bytes -> words
OTHERS = {
    (0, b'version https://git-lfs'): 'a pointer of Git LFS; fetch the file itself by git lfs pull',
    (0, b'<!DOCTYPE'): WEB_PAGE,
    (0, b'<!doctype'): WEB_PAGE,
    (0, b'<html'): WEB_PAGE,
    (0, b'<?xml'): WEB_PAGE,
    (0, b'GGUF'): 'GGUF; get the weights as safetensors',
    (0, b'\x93NUMPY'): 'one array; save all as npz',
    (0, b'BZh'): 'a bzip2 archive; unpack it',
    (0, b'\xfd7zXZ'): 'an xz archive; unpack it',
    (257, b'ustar'): 'a tar archive; unpack it, and give the file of weights in it',
}
OLD_TORCH = ('sys_info', 'pickle', 'tensors', 'storages')  # members of a tar archive


def read(path: str | Path, *, entry: str | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of a weights file by name; executes nothing in the file.

    Args:
      path: a file of PyTorch, safetensors, NumPy (npz) or HDF5, whatever its name ends in.
      entry: which dict of tensors of a PyTorch file that holds several, such as 'state_dict_ema'.

    Returns:
      Name -> array, with the file's own names and layouts; bfloat16 becomes float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be read, or holds several dicts of tensors.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'weights.npz')
      ...     np.savez(path, bias=np.zeros(3))
      ...     state = read(path)
      >>> state['bias'].tolist()
      [0.0, 0.0, 0.0]
    """
    return dict(opened(path, entry=entry))


def opened(path: str | Path, *, entry: str | None = None) -> Mapping[str, np.ndarray]:
    """Opens a weights file like `read`; arrays of safetensors are read when they are asked for."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no weights file {path}{nearest.path(path)}; check the path'
        )
    kind, other = _kind(path), _other(path)
    if kind is None or other:
        raise ValueError(
            f'{path} holds no weights: its content is not that of PyTorch, safetensors, npz or h5 '
            f'files{other or "; unpack archives, and check the path"}'
        )
    try:
        if _READERS[kind] is read_torch:
            return read_torch(path, entry)
        if entry is not None:
            raise ValueError(f'it has no entry {entry!r}, as only files of PyTorch have some')
        return _READERS[kind](path)
    except Exception as error:  # four parsers, each with its own errors for damaged files
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(
            f'{path} cannot be read as {kind} weights: {reason.splitlines()[0]}'
        ) from error


def _kind(path: Path) -> str | None:
    """Returns the suffix of a file's kind, by its content or else by its name; None: no kind."""
    named = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    with path.open('rb') as file:
        head = file.read(9)
    kind = named
    if head.startswith(HDF5):
        kind = '.h5'
    elif head.startswith(b'\x1f\x8b'):
        kind = '.h5.gz'
    elif head[8:] == b'{':
        kind = '.safetensors'
    elif head.startswith(b'PK\3\4'):
        kind = _kind_of_zip(path) or named
    elif head.startswith(b'\x80'):  # a pickle
        kind = '.pth'
    is_torch = kind is not None and _READERS[kind] is read_torch
    return named if is_torch and _READERS.get(named or '') is read_torch else kind


def _other(path: Path) -> str:
    """Ends a sentence with what else the file is, and what to do; '' if it is none of OTHERS."""
    with path.open('rb') as file:
        head = file.read(512)
    words = next((w for (at, magic), w in OTHERS.items() if head[at:].startswith(magic)), '')
    if words == OTHERS[257, b'ustar'] and head[:100].rstrip(b'\0').decode('latin-1') in OLD_TORCH:
        words = (
            'an archive of PyTorch before 0.2; if you trust it, convert it in PyTorch by '
            'torch.save(torch.load(FILE, weights_only=False), NEW_FILE)'
        )
    return f', but of {words}' if words else ''


def _kind_of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # damaged, in one of many ways
        return None
    if any(name.endswith('/data.pkl') for name in names):
        return '.pth'
    return '.npz' if any(name.endswith('.npy') for name in names) else None


def fingerprint(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'empty')
      ...     _ = path.write_bytes(b'')
      ...     fingerprint(path)[:8]
      'e3b0c442'
    """
    path = Path(path)
    if path.stat().st_size < REMEMBERED_BYTES:
        return _sha256(path)
    return _remembered_sha256(path.resolve(), tuple(stamp(path)))


@functools.lru_cache(maxsize=64)
def _remembered_sha256(path: Path, stamp: tuple[int, ...]) -> str:
    """Returns a file's hash; that of a large one is made once, while its stamp stays the same."""
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def git_fingerprint(path: str | Path) -> str:
    """Returns the SHA-1 that git names a file's content by: of its size and its bytes."""
    path = Path(path)
    digest = hashlib.sha1(b'blob %d\0' % path.stat().st_size, usedforsecurity=False)
    with path.open('rb') as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def write(variables: Mapping, path: str | Path, about: Mapping[str, str]) -> None:
    """Writes Flax variables as safetensors, each under its path.

    Args:
      variables: a nested dict of arrays.
      path: the file, which ends in `.safetensors`; it appears once it is complete.
      about: facts for the file's header, such as the weights' origin.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'weights.safetensors')
      ...     write({'params': {'head': {'bias': np.zeros(3)}}}, path, {'source': 'zeros'})
      ...     list(read(path))
      ['params/head/bias']
    """
    leaves = traverse_util.flatten_dict(variables, sep='/')
    # safetensors copies an array's memory, whatever its order
    leaves = {name: np.asarray(value, order='C') for name, value in leaves.items()}
    # one entry: safetensors writes several in varying order, and the file's hash would vary too
    header = {HEADER_ENTRY: json.dumps(about, sort_keys=True)}
    with whole(path) as beside:
        safetensors.numpy.save_file(leaves, beside, header)


def is_converted(path: Path) -> bool:
    """Returns whether `write` made the file."""
    return written_facts(path) is not None


def written_facts(path: Path) -> dict[str, str] | None:
    """Returns the facts that `write` put into a file's header; None if it did not make the file."""
    if path.suffix != '.safetensors':
        return None
    try:
        _check_header(path)
        with safetensors.safe_open(path, 'numpy') as file:
            stated = (file.metadata() or {}).get(HEADER_ENTRY)
        facts = None if stated is None else json.loads(stated)
    except (safetensors.SafetensorError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _check_header(path: Path) -> None:
    """Raises ValueError for a safetensors file whose header is too long to be parsed."""
    with path.open('rb') as file:
        claimed = int.from_bytes(file.read(8), 'little')
    if claimed > MAX_HEADER_BYTES:
        raise archives.TooLarge(
            f'its header claims {claimed:,} bytes; at most {MAX_HEADER_BYTES:,} are read: get the '
            'file again'
        )


def _read_safetensors(path: Path) -> Mapping[str, np.ndarray]:
    _check_header(path)
    with safetensors.safe_open(path, 'numpy') as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    for name, kind in kinds.items():
        if not kind.startswith(('F64', 'F32', 'F16', 'BF16', 'I', 'U', 'BOOL')):
            raise refused_type(name, kind)

    def load(name: str) -> np.ndarray:
        with safetensors.safe_open(path, 'numpy') as file:  # maps the file for no longer
            value = file.get_tensor(name)
        return value.astype(np.float32) if value.dtype == ml_dtypes.bfloat16 else value

    return LazyArrays(kinds, load)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    return archives.read_arrays(path)


_READERS: dict[str, Callable[[Path], Mapping[str, np.ndarray]]] = {
    '.safetensors': _read_safetensors,
    '.npz': _read_npz,
    '.h5': read_h5,
    '.h5.gz': read_h5_gz,
    '.pt': read_torch,
    '.pth': read_torch,
    '.pth.tar': read_torch,
    '.ckpt': read_torch,
    '.bin': read_torch,
}
SUFFIXES = tuple(_READERS)
