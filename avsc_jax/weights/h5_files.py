"""HDF5 files of weights, as Keras writes them; nothing in them is executed or followed."""

import gzip
import io
from pathlib import Path

import numpy as np

from avsc_jax.runtime import archives


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
    return _h5_arrays(io.BytesIO(content), path)


def _h5_arrays(file: io.BufferedIOBase, path: Path) -> dict[str, np.ndarray]:
    """Reads every dataset by its path in the file, which Keras makes: 'conv/conv/kernel:0'."""
    import h5py  # only these files need it

    state, num_bytes = {}, 0

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal num_bytes
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        if item.external or item.is_virtual:
            raise ValueError(f'its {name[:80]!r} lies in another file')
        if item.dtype.kind not in 'biufc':
            raise ValueError(f'its {name[:80]!r} is of {item.dtype}, not of numbers')
        num_bytes += item.nbytes
        archives.check_unpacked(num_bytes, path.stat().st_size)
        state[name] = np.asarray(item[()])

    with h5py.File(file, 'r') as opened:
        opened.visititems(visit)  # follows no links
    return state
