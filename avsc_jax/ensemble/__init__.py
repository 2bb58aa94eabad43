"""Decision-level functions over class probabilities: pooling, averaging and calibration.

Pure functions of arrays [N, C] or [M, N, C]. numpy arrays in, numpy arrays out; jax arrays in, jax
arrays out, also under jit and vmap. The type of the probabilities is kept. Searches and fits work
on the host.

The names are those of `__init__.pyi`. Each is imported on first use, for `score --help` lists the
recipes without loading JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
