"""HDF5 files of weights, as Keras writes them; nothing in them is executed or followed."""

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from avsc_jax.runtime import archives

HDF5 = b'\x89HDF\r\n\x1a\n'  # a file begins so
# Published files need a tenth of these; HDF5 takes minutes for many chunks, or for deep groups.
MAX_LEVELS, MAX_ITEMS, MAX_CHUNKS = 32, 100_000, 10_000


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of numbers in an HDF5 file by their paths in it."""
    with path.open('rb') as file:
        return _h5_arrays(file, path)


def read_h5_gz(path: Path) -> dict[str, np.ndarray]:
    """Reads an HDF5 file that is packed by gzip, as OpenL3's are; see `read_h5`."""
    file_bytes = path.stat().st_size
    with gzip.open(path) as file:
        content = file.read(archives.most_bytes(file_bytes) + 1)
    archives.check_unpacked(len(content), file_bytes)
    if not content.startswith(HDF5):
        raise ValueError('it is compressed, and no h5 file; unpack it first, as by gunzip')
    return _h5_arrays(io.BytesIO(content), path)


def _h5_arrays(file: io.BufferedIOBase, path: Path) -> dict[str, np.ndarray]:
    """Reads every dataset by its path in the file, which Keras makes: 'conv/conv/kernel:0'."""
    import h5py  # only these files need it

    state, num_bytes, file_bytes = {}, 0, path.stat().st_size
    with h5py.File(file, 'r') as opened:
        for name, item in _datasets(opened, '', set()):
            if item.external or item.is_virtual:
                raise ValueError(f'its {name[:80]!r} lies in another file')
            if item.dtype.kind not in 'biufc':
                raise ValueError(f'its {name[:80]!r} is of {item.dtype}, not of numbers')
            num_bytes += item.nbytes
            archives.check_unpacked(num_bytes, file_bytes)
            if item.chunks:
                _check_chunks(name, item, file_bytes)
            state[name] = np.asarray(item[()])
    return state


def _datasets(group: Any, place: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yields path and dataset of all in a group, each once; follows no links to other places.

    Args:
      place: path of the group, '' or one that ends in a slash.
      seen: addresses of what was met before, to which the new ones are added.

    Raises:
      ValueError: groups are nested too deeply, or hold too many things.
    """
    import h5py

    if place.count('/') > MAX_LEVELS or len(group) + len(seen) > MAX_ITEMS:
        raise ValueError(
            f'it has groups on more than {MAX_LEVELS} levels or more than {MAX_ITEMS:,} things in '
            'them, as no weights have'
        )
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            continue
        seen.add(address)
        if isinstance(item, h5py.Group):
            yield from _datasets(item, f'{place}{name}/', seen)
        elif isinstance(item, h5py.Dataset) and item.shape is not None:
            yield f'{place}{name}', item


def _check_chunks(name: str, item: Any, file_bytes: int) -> None:
    """Raises ValueError if a chunk of a dataset takes more memory than the file may."""
    import h5py

    chunk_bytes = math.prod(item.chunks) * item.dtype.itemsize
    archives.check_unpacked(chunk_bytes, file_bytes)
    properties = item.id.get_create_plist()
    filters = [properties.get_filter(k)[0] for k in range(properties.get_nfilters())]
    if not filters:
        return
    known = ([h5py.h5z.FILTER_DEFLATE], [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE])
    count = item.id.get_num_chunks()
    if filters not in known or count > MAX_CHUNKS:
        raise ValueError(
            f'its {name[:80]!r} is packed in {count:,} chunks by filters {filters}; save it '
            f'uncompressed, or by gzip in at most {MAX_CHUNKS:,} chunks'
        )
    for k in range(count):  # HDF5 itself unpacks a chunk to any size
        info = item.id.get_chunk_info(k)
        if info.size > file_bytes:
            raise ValueError(f'a chunk of its {name[:80]!r} claims {info.size:,} bytes')
        _, packed = item.id.read_direct_chunk(info.chunk_offset)
        unpacked = zlib.decompressobj().decompress(packed, chunk_bytes + 1)
        if len(unpacked) > chunk_bytes:
            raise archives.TooLarge(
                f'a chunk of its {name[:80]!r} unpacks to more than the {chunk_bytes:,} bytes that '
                'it has; get the file again'
            )
