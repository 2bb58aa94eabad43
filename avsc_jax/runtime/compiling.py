"""Says that a network is being compiled, where a user would otherwise wait without a word.

`said` and `told` print it for the console; `watch` reports it to another program.
"""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

AFTER_S = 2.0  # a quicker first call needs no words
# JAX reports a step at its end; what it does after the first of these is to compile.
_BEFORE = '/jax/core/compile/jaxpr_to_mlir_module_duration'
_AFTER = '/jax/core/compile/backend_compile_duration'


@contextlib.contextmanager
def said(what: str, often: str = '') -> Iterator[None]:
    """Prints on stderr that `what` is compiled, if the block takes longer than AFTER_S.

    Args:
      what: the network, and perhaps what it is compiled for.
      often: when it is compiled again, in words.
    """
    timer = threading.Timer(AFTER_S, _say, [what, often])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def told(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Returns a compiled function whose first call with each shape says that it is compiled.

    Args:
      function: its first argument, such as the variables of a network, always has the same shapes.
      what: see `said`.
    """
    import jax
    import numpy as np

    seen = set()

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        leaves = jax.tree.leaves(args[1:])
        shapes = tuple((np.shape(leaf), getattr(leaf, 'dtype', type(leaf))) for leaf in leaves)
        if shapes in seen:
            return function(*args)
        with said(what, 'once for each shape of a batch'):
            result = function(*args)
        seen.add(shapes)
        return result

    return call


def watch(began: Callable[[], None], ended: Callable[[], None]) -> None:
    """Calls `began` when the compiler begins with a program, and `ended` when it is there.

    The calls come from the thread that compiles; several threads may compile at once. A program
    that is taken from the cache of compiled ones counts, too.
    """

    from jax import monitoring

    def told(event: str, duration_secs: float, **facts: str | int) -> None:
        if event == _BEFORE:
            began()
        elif event == _AFTER:
            ended()

    monitoring.register_event_duration_secs_listener(told)


def _say(what: str, often: str) -> None:
    import jax
    from tqdm import tqdm

    kept = 'kept for the next start' if jax.config.values['jax_compilation_cache_dir'] else ''
    facts = ', '.join(filter(None, [often, kept]))
    tqdm.write(f'compiling {what}{f" ({facts})" if facts else ""} ...', file=sys.stderr)
