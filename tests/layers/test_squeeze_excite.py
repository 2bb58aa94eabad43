import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.squeeze_excite import SqueezeExcite


def test_channels_are_scaled_by_what_the_means_say():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32)
    layer = SqueezeExcite(5, act=jnp.square)
    variables = layer.init(jax.random.key(0), x)
    first, second = (variables['params'][name] for name in ('conv_reduce', 'conv_expand'))
    second['bias'] = jnp.arange(6.0)
    y = layer.apply(variables, x)
    hidden = (x.mean(axis=(1, 2)) @ first['kernel'][0, 0]) ** 2
    gate = 1 / (1 + np.exp(-(hidden @ second['kernel'][0, 0] + np.arange(6.0)[None])))
    np.testing.assert_allclose(y, x * gate[:, None, None], atol=1e-6)
