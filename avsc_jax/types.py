"""Array aliases. One letter, one meaning, everywhere.

B batch, S segments, T frames, F frequency, N samples or table rows, C classes, D embedding,
H W image, K channels, M ensemble members.

`Float[Array, 'B C']` is a batch of class scores. The tests check such shapes at run time.
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt32

Array = jax.Array | np.ndarray

__all__ = ['Array', 'Bool', 'Float', 'Int', 'UInt8', 'UInt32']
