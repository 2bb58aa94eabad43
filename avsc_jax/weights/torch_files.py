"""PyTorch's .pt and .pth files, read without PyTorch; nothing in them is executed.

There are three kinds, as torch 2.13 writes them: the zip archive of `torch.save`, the TorchScript
archive (OpenAI's CLIP), and the bare stream of pickles and storages that `torch.save` wrote before
1.6. Each size that a file claims is compared with the file's real size before memory is taken.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from avsc_jax.runtime import archives
from avsc_jax.weights.checks import refused_type
from avsc_jax.weights.unpickler import ALONE, Module, Storage, Tensor, Unpickler

# Published files need a tenth of these at most; a value takes up to 64 times its bytes of pickle.
MAX_PICKLE_BYTES = 1 << 22
MAX_NAMES, MAX_NAME_LENGTH, MAX_DIMENSIONS = 100_000, 1000, 32
# Of dicts in dicts where tensors are looked for: levels, dicts on a level, length of a key, keys.
MAX_LEVELS, MAX_DICTS, MAX_KEY_LENGTH, MAX_KEYS = 4, 10_000, 200, 1_000_000
LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001

_Opened = tuple[Any, Callable[[Storage], bytes]]


def read_torch(path: Path, entry: str | None = None) -> dict[str, np.ndarray]:
    """Reads the arrays of a PyTorch file by name: its dict of tensors, alone or inside a dict.

    Args:
      entry: which dict of tensors, where it holds several or one in deeper dicts, such as
        'state_dict_ema' or 'ema.state_dict'; None takes the only one.
    """
    with path.open('rb') as file:
        is_zip = file.read(4) == b'PK\3\4'
        content, read_storage = (_open_zip if is_zip else _open_stream)(file, path.stat().st_size)
        tensors = _tensors(content, entry)
        for name, tensor in tensors.items():
            if tensor.kind:
                raise refused_type(name, tensor.kind)
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        values = {key: _values(storage, read_storage(storage)) for key, storage in storages.items()}
    return {n: _view(n, tensor, values[tensor.storage.key]) for n, tensor in tensors.items()}


def _open_zip(file: io.BufferedIOBase, num_bytes: int) -> _Opened:
    """Returns the pickled object of a zip archive, and a function that reads its storages."""
    archive = zipfile.ZipFile(file)
    members = {info.filename: info for info in archive.infolist()}

    def read(name: str, max_bytes: int) -> bytes:
        if name not in members:
            raise ValueError(f'it has no member {name[:80]!r}')
        member = members[name]
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f'its member {name[:80]!r} is compressed, which PyTorch never does')
        if member.file_size > max_bytes:
            raise ValueError(
                f'its member {name[:80]!r} claims {member.file_size:,} bytes, not {max_bytes:,}'
            )
        return archives.content(archive, member)

    folders = [name.removesuffix('/data.pkl') for name in members if name.endswith('/data.pkl')]
    if len(folders) != 1:
        raise ValueError(f'it has {len(folders)} members data.pkl, not one')
    (folder,) = folders
    if f'{folder}/byteorder' in members and read(f'{folder}/byteorder', 6) != b'little':
        raise ValueError('it was written on a big-endian machine; save it on a little-endian one')
    unpickler = Unpickler()
    content = unpickler.load(io.BytesIO(read(f'{folder}/data.pkl', MAX_PICKLE_BYTES)))
    _check_total(unpickler, num_bytes)
    return content, lambda storage: read(f'{folder}/data/{storage.key}', storage.num_bytes)


def _open_stream(file: io.BufferedIOBase, num_bytes: int) -> _Opened:
    """Returns the pickled object of a file before torch 1.6, and a function that reads storages."""
    file.seek(0)
    head, unpickler = io.BytesIO(file.read(MAX_PICKLE_BYTES)), Unpickler()
    if head.getbuffer()[:1] != b'\x80' or unpickler.load(head) != LEGACY_MAGIC:
        raise ValueError('it is neither an archive nor a stream of PyTorch')
    if unpickler.load(head) != LEGACY_VERSION:
        raise ValueError(f'its stream is not of version {LEGACY_VERSION}')
    unpickler.load(head)  # the writer's byte order; storages are little-endian all the same
    content, keys, places = unpickler.load(head), unpickler.load(head), {}
    _check_total(unpickler, num_bytes)
    place = head.tell()
    for key in keys:
        storage = unpickler.storages[key]
        file.seek(place)
        if int.from_bytes(file.read(8), 'little') != storage.size:
            raise ValueError(f'its storage {key[:80]!r} has another length than its description')
        places[key] = place + 8
        place += 8 + storage.num_bytes

    def read(storage: Storage) -> bytes:
        file.seek(places[storage.key])
        return file.read(storage.num_bytes)

    return content, read


def _check_total(unpickler: Unpickler, num_bytes: int) -> None:
    total = sum(storage.num_bytes for storage in unpickler.storages.values())
    if total > num_bytes:
        raise ValueError(f'its tensors claim {total:,} bytes; the whole file has {num_bytes:,}')


def _tensors(content: Any, entry: str | None) -> dict[str, Tensor]:
    """Finds the state dict in a file's content."""
    if isinstance(content, Module) and entry is None:
        return _parameters(content)
    if not isinstance(content, dict):
        raise ValueError(f'it holds a {type(content).__name__}, not a dict of tensors: {ALONE}')
    states = _states(content)
    shallow = [name for name in states if name in content or not name]
    if entry is not None and entry not in states:
        raise ValueError(f'it has no dict of tensors called {entry!r}; {_choices(states)}')
    if entry is None and (len(shallow) != 1 or len(states) != 1):
        names = ', '.join(f'{name!r}'[:80] for name in list(content)[:8]) or 'nothing'
        count = len(states) if shallow else 0
        raise ValueError(
            f'it has {count} dicts of tensors, not one, among itself and its entries '
            f'({names}); {_choices(states)}'
        )
    (only, *_) = states
    return states[only if entry is None else entry]


def _choices(states: Iterable[str]) -> str:
    """Says how to choose one of several dicts of tensors."""
    names = [name[:80] for name in states if name]
    if not names:
        return ALONE
    return (
        f'choose {" or ".join(names[:8])} by avsc_jax.convert --select={names[0]}, in Python by '
        f"entry='{names[0]}'"
    )


def _states(content: dict) -> dict[str, dict[str, Tensor]]:
    """Finds the dicts of tensors in a dict and the dicts in it, by dotted names; '' is itself."""
    states, level, num_seen = {}, {'': content}, 0
    for _ in range(MAX_LEVELS):
        below: dict[str, dict] = {}
        for name, candidate in level.items():
            num_seen += len(candidate)
            if num_seen > MAX_KEYS or len(below) > MAX_DICTS:
                raise ValueError('its dicts are nested without end')
            if name in states:
                raise ValueError(f'it has two dicts of tensors called {name[:80]!r}')
            if _is_state(candidate):
                states[name] = candidate
                continue
            for key, value in candidate.items():
                if isinstance(key, str) and isinstance(value, dict):
                    below[f'{name}.{key[:MAX_KEY_LENGTH]}' if name else key] = value
        level = below
    return states


def _is_state(content: dict) -> bool:
    kinds = {(type(name), type(value)) for name, value in content.items()}
    return kinds == {(str, Tensor)}


def _parameters(module: Module) -> dict[str, Tensor]:
    """Collects the parameters and buffers below a TorchScript module, under dotted names."""
    parameters, pending, num_seen = {}, [('', module)], 0
    while pending:
        prefix, module = pending.pop()
        # modules may contain each other, which would give names without end
        num_seen += len(module.attributes)
        if num_seen > MAX_NAMES or len(prefix) > MAX_NAME_LENGTH:
            raise ValueError('its modules are nested without end')
        for name, value in module.attributes.items():
            if isinstance(value, Tensor):
                parameters[f'{prefix}{name}'] = value
            elif isinstance(value, Module):
                pending.append((f'{prefix}{name}.', value))
    if not parameters:
        raise ValueError('its modules have no parameters')
    return parameters


def _values(storage: Storage, data: bytes) -> np.ndarray:
    if len(data) != storage.num_bytes:
        raise ValueError(
            f'its storage {storage.key[:80]!r} has {len(data):,} bytes, not {storage.num_bytes:,}'
        )
    values = np.ndarray(storage.size, storage.dtype, data)
    return values.astype(np.float32) if storage.dtype == ml_dtypes.bfloat16 else values


def _view(name: str, tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Returns a tensor's values; an error if it leaves its storage or repeats numbers of it."""
    offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
    numbers = (offset, *shape, *strides)
    if len(shape) <= MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in numbers):
        if 0 in shape:
            return np.zeros(shape, values.dtype)
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if last < values.size and math.prod(shape) <= values.size:
            size = values.itemsize
            strides = [stride * size for stride in strides]
            return np.ndarray(shape, values.dtype, values, offset * size, strides)
    raise ValueError(f'its tensor {name[:80]!r} does not fit into its storage')
