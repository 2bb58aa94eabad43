import jax.numpy as jnp
import numpy as np

from avsc_jax.models import hrnet


def test_enlarging_repeats_each_value_and_cuts_what_overhangs():
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    enlarged = hrnet._enlarged(x, 2, (1, 4, 3, 1))
    np.testing.assert_array_equal(
        enlarged[0, :, :, 0], [[1, 1, 2], [1, 1, 2], [3, 3, 4], [3, 3, 4]]
    )
