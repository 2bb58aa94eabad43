"""Two CPU devices, no silent rank promotion, and annotated shapes checked at run time."""

import importlib
import os
import sys

os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # the suite needs no accelerator

import jax
import jaxtyping

jax.config.update('jax_num_cpu_devices', 2)
jax.config.update('jax_numpy_rank_promotion', 'raise')

_CHECKED = ('avsc_jax.losses', 'avsc_jax.metrics', 'avsc_jax.ensemble')
jaxtyping.install_import_hook(_CHECKED, 'beartype.beartype')
for name in _CHECKED:
    if name in sys.modules:  # imported before the hook was there
        importlib.reload(sys.modules[name])
