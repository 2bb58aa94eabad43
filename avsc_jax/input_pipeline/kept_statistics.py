"""Mean and deviation of training rows, measured once for all runs on the same data."""

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from avsc_jax.input_pipeline.encoders import CACHE_FORMAT
from avsc_jax.runtime import archives, files

FORMAT = 1  # increase it when the same facts give other statistics
MAX_BYTES = 1 << 26  # of a file: two numbers for each feature or channel

Statistics = Mapping[str, np.ndarray]


def kept(
    folder: Path, facts: Mapping, measure: Callable[[], Statistics], *, fresh: bool = False
) -> Statistics:
    """Returns statistics that a run on the same data has measured, else measures and keeps them.

    Args:
      folder: of the data set's cached features.
      facts: all that the statistics depend on, in plain data.
      fresh: measure anew what is kept.
    """
    told = json.dumps({**facts, 'format': [FORMAT, CACHE_FORMAT]}, sort_keys=True, default=list)
    path = folder / f'statistics-{hashlib.sha256(told.encode()).hexdigest()[:16]}.npz'
    if not fresh:
        try:
            found = files.read_arrays(path, limit=MAX_BYTES)
            archives.check_statistics(found)
            return found
        except FileNotFoundError:
            pass
        except ValueError as error:
            print(f'note: {path}: {error}; measured again', file=sys.stderr)
    measured = measure()
    with contextlib.suppress(OSError):  # a shared folder may be read-only
        folder.mkdir(parents=True, exist_ok=True)
        files.write_arrays(path, **measured)
    return measured
