"""Options for XLA when it compiles for the CPU; other platforms use its defaults.

The options are those of jax 0.10 to 0.12. Measurements are in benchmarks/NOTES.md.
"""

from typing import Any

import jax

# A barrier (`layers.conv_cpu.materialize`) ends a fusion only if it is not removed before.
_BARRIERS = {'xla_disable_hlo_passes': 'cse_barrier_expander'}
# XLA has two libraries of kernels. YNNPACK sums over leading axes 10 times as fast as Eigen, which
# training does for every norm and bias; Eigen's convolutions are faster, their gradients 4 times.
_TRAINING = 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE'
_INFERENCE = ''  # Eigen alone


def options(*, training: bool) -> dict[str, str]:
    """Returns `compiler_options` for `jax.jit` of a function that trains or only runs a network."""
    if jax.default_backend() != 'cpu':
        return {}
    return _BARRIERS | {
        'xla_cpu_experimental_ynn_fusion_type': _TRAINING if training else _INFERENCE
    }


def call_sizes() -> dict[str, Any]:
    """Returns the sizes of a network's calls, and what a call costs in rows; see data.batches.

    On CPU, four pictures a call take as long, each, as 64: 94 and 1500 ms for ViT-B/32. A GPU waits
    for the host, so its calls are larger.
    """
    if jax.default_backend() == 'cpu':
        return {'sizes': (4,), 'per_call': 1}
    return {'sizes': (16, 64), 'per_call': 16}


def once() -> dict[str, int]:
    """Returns `compiler_options` for a function that is called once: it is compiled faster.

    A network's initial values come out the same, bit for bit, in half of the compiler's time. JAX
    takes such options at the top level only, not inside of another traced function.
    """
    is_hasty = jax.config.values['jax_disable_most_optimizations']  # more than this asks for
    if is_hasty or jax.default_backend() != 'cpu':
        return {}
    return {'xla_backend_optimization_level': 1}
