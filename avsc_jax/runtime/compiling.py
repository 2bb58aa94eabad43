"""Tells when JAX compiles a program, which may take a minute in which nothing else is seen."""

from collections.abc import Callable

from jax import monitoring

# JAX reports a step at its end; what it does after the first of these is to compile.
_BEFORE = '/jax/core/compile/jaxpr_to_mlir_module_duration'
_AFTER = '/jax/core/compile/backend_compile_duration'


def watch(began: Callable[[], None], ended: Callable[[], None]) -> None:
    """Calls `began` when the compiler begins with a program, and `ended` when it is there.

    The calls come from the thread that compiles; several threads may compile at once. A program
    that is taken from the cache of compiled ones counts, too.
    """

    def told(event: str, duration_secs: float, **facts: str | int) -> None:
        if event == _BEFORE:
            began()
        elif event == _AFTER:
            ended()

    monitoring.register_event_duration_secs_listener(told)
