"""Several processes that do one job: which one writes, and where they wait for each other."""

import atexit
import itertools
import os
import sys
from pathlib import Path

import jax
import orbax.checkpoint as ocp

VARIABLES = ('JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID')
LONGEST_WAIT_S = 7 * 24 * 3600  # the first process may be building a data set meanwhile

_waits = itertools.count()


def initialize() -> None:
    """Joins the other processes; must be called before any device is used.

    JAX finds them by itself on TPU pods, Slurm and Open MPI. Elsewhere the environment variables
    VARIABLES name them.

    Raises:
      ValueError: the processes did not find each other.
    """
    address, *numbers = (os.environ.get(name) for name in VARIABLES)
    try:
        count, index = (None if number is None else int(number) for number in numbers)
        jax.distributed.initialize(address, count, index)
    except (ValueError, IndexError, RuntimeError) as error:
        raise ValueError(
            f'--multihost: the processes did not find each other ({error}); outside TPU pods, '
            f'Slurm and Open MPI set {", ".join(VARIABLES)} for each, such as 10.0.0.1:1234, 2, 0'
        ) from error
    atexit.register(_leave_at_once)  # runs before JAX's own, which was registered earlier
    if not is_first():  # the results are printed once; errors go to stderr
        sys.stdout = Path(os.devnull).open('w')  # noqa: SIM115


def is_first() -> bool:
    """Whether this process prints and writes; a single process does."""
    return jax.process_index() == 0


def wait(place: str) -> None:
    """Waits until every process has reached this place; a single process does not wait.

    Raises:
      OSError: another process has ended.
    """
    if jax.process_count() > 1:
        # The coordinator's barrier: one on devices may time out before the first process arrives.
        barrier = ocp.multihost.get_barrier_sync_fn()
        try:
            barrier(key=f'{place} {next(_waits)}', timeout_ms=1000 * LONGEST_WAIT_S)
        except RuntimeError as error:
            raise OSError(
                f'another process has ended before it reached {place!r}; read what it printed, '
                'and start all of them again'
            ) from error


def finish() -> None:
    """Leaves the other processes once all have reached the end."""
    jax.distributed.shutdown()


def _leave_at_once() -> None:
    """Ends a failed process at once; JAX would let it wait for others that wait for it."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
