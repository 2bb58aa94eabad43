"""Array aliases. One letter, one meaning, everywhere.

B batch, S segments, T frames, F frequency, N samples or table rows, C classes, D embedding,
H W image, K channels, M ensemble members.

Example: `def focal_loss(logits: Float[Array, 'B C'], labels: Int[Array, 'B']) -> Float[Array, 'B']`.
The shapes are checked at run time by the tests (tests/conftest.py).
"""

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

Array = jax.Array | np.ndarray

__all__ = ['Array', 'Bool', 'Float', 'Int', 'Shaped', 'UInt8']
