"""Array types with shapes; each dimension's letter has one meaning in the whole package.

B batch, S segments, T frames, F frequency, N samples or table rows, C classes, D embedding,
H W image, K channels, M ensemble members.

`Float[Array, 'B C']` is a batch of class scores. The tests check such shapes at run time.
"""

from typing import Literal, TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt32

Array = jax.Array | np.ndarray
# For functions that return numpy arrays for numpy arrays and JAX arrays for JAX arrays.
AnyArray = TypeVar('AnyArray', jax.Array, np.ndarray)
# Of classes: one of them is right, or each is right or not by itself.
Kind = Literal['exclusive', 'independent']

__all__ = ['AnyArray', 'Array', 'Bool', 'Float', 'Int', 'Kind', 'UInt8', 'UInt32']
