"""The training of all systems in one loop; `load_run` opens a finished run folder."""

__all__ = ['load_run']


def __getattr__(name: str):
    if name == 'load_run':
        from avsc_jax.runs.load import load_run

        return load_run
    raise AttributeError(name)
