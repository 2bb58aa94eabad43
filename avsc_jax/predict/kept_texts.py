"""Keeps the class vectors of zero-shot systems from one start of a command to the next.

They are all that a text tower is needed for: with them neither its weights are read nor its program
is compiled. They are kept where compiled programs are, under the same conditions.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

import avsc_jax
from avsc_jax.runtime import compiled_programs
from avsc_jax.runtime.files import read_arrays, write_arrays

MOST_BYTES = 1 << 26  # of all vectors; the least recently used are deleted
NAME = 'kernel'


def kept(facts: object, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns what `make` made in an earlier start for the same facts, or makes and keeps it.

    Args:
      facts: all that the array depends on, besides this package and JAX, as plain data.
      make: returns a finite float32 array `[D, C]`.
    """
    folder = compiled_programs.beside('texts')
    if folder is None:
        return make()
    every = [avsc_jax.__version__, jax.__version__, jax.default_backend(), facts]
    path = folder / f'{hashlib.sha256(json.dumps(every).encode()).hexdigest()}.npz'
    with contextlib.suppress(OSError, ValueError):  # it is missing, or damaged
        array = read_arrays(path, (NAME,), limit=MOST_BYTES)[NAME]
        if array.ndim == 2 and array.dtype == np.float32 and np.isfinite(array).all():
            os.utime(path)
            return array
    array = make()
    if array.nbytes <= MOST_BYTES // 2:
        with contextlib.suppress(OSError, ValueError):  # the disk is full
            write_arrays(path, **{NAME: array})
            _delete_old(folder)
    return array


def _delete_old(folder: Path) -> None:
    """Deletes the least recently used files beyond MOST_BYTES."""
    left = MOST_BYTES
    for path in sorted(folder.glob('*.npz'), key=lambda path: -path.stat().st_mtime_ns):
        left -= path.stat().st_size
        if left < 0:
            path.unlink(missing_ok=True)
