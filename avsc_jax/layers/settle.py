"""Values that XLA computes once and keeps, instead of again inside of all that read them."""

import jax
from jax import lax

from avsc_jax.types import Array, Float


def settled(x: Float[Array, '*axes']) -> Float[Array, '*axes']:
    """x, and its gradient, written to memory on CPU; elsewhere simply x.

    XLA fuses sums and products into each of their readers. Along a chain of residual blocks each
    reader then computes the whole chain again, on CPU in whatever order it reads: half of
    HRNet-W18's time went there. So blocks end with this, and convolutions begin with it. It takes
    effect in what `avsc_jax.runtime.compiler` has a say in.
    """
    return _settled(x) if jax.default_backend() == 'cpu' else x


@jax.custom_vjp
def _settled(x):
    return lax.optimization_barrier(x)


_settled.defvjp(lambda x: (_settled(x), None), lambda _, grad: (lax.optimization_barrier(grad),))
