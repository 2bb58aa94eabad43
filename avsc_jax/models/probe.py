"""A linear probe: one layer on the standardised features of frozen encoders."""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.types import Array, Float

# Of a feature that few training clips have, a new clip's value is many deviations from the mean and
# would be most of its distance from them: benchmarks/NOTES.md, Familiarity
MOST_DEVIATIONS = 5.0
ENCODERS = {'tf_efficientnet_lite0': 1280, 'yamnet': 1024}


class Probe(nn.Module):
    """Logistic regression on the features of one or several encoders, with a temperature.

    Its variables are not trained by steps but made of a fit, by `fitted`. Its embedding is the
    standardised features, which end at MOST_DEVIATIONS there.

    Attributes:
      encoders: name of each encoder -> width of its features, in the order of concatenation.
    """

    num_classes: int = 10
    encoders: Mapping[str, int] = nn.FrozenDict(ENCODERS)

    @property
    def input_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            f'features/{encoder}': jax.ShapeDtypeStruct((1, size), jnp.float32)
            for encoder, size in self.encoders.items()
        }

    def learned(self, params: Mapping) -> dict[str, Float[Array, '1']]:
        """Returns the fitted temperature under its title in a report."""
        return {'temperature of the probe': params['head']['temperature']}

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        features = jnp.concatenate([inputs[name] for name in self.input_spec], axis=-1)
        standard = Standard(name='standard')(features)
        embedding = jnp.clip(standard, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        out = {'embedding': embedding}
        if not self.num_classes:
            return embedding, out
        return Head(self.num_classes, name='head')(standard), out


class Standard(nn.Module):
    """Subtracts a `mean` from each feature, and divides by a `deviation`."""

    @nn.compact
    def __call__(self, x: Float[Array, 'B D']) -> Float[Array, 'B D']:
        mean = self.param('mean', nn.initializers.zeros, x.shape[-1:])
        deviation = self.param('deviation', nn.initializers.ones, x.shape[-1:])
        return (x - mean[None]) / deviation[None]


class Head(nn.Module):
    """One layer, whose logits a `temperature` divides."""

    num_classes: int

    @nn.compact
    def __call__(self, x: Float[Array, 'B D']) -> Float[Array, 'B C']:
        shape = x.shape[-1], self.num_classes
        kernel = self.param('kernel', nn.initializers.lecun_normal(), shape)
        bias = self.param('bias', nn.initializers.zeros, shape[1:])
        temperature = self.param('temperature', nn.initializers.ones, (1,))
        # thousands of products: half precision, a GPU's default, would change the probabilities
        logits = jnp.dot(x, kernel, precision=jax.lax.Precision.HIGHEST) + bias[None]
        return logits / temperature[None]


def fitted(
    mean: Float[np.ndarray, 'D'],
    deviation: Float[np.ndarray, 'D'],
    kernel: Float[np.ndarray, 'D C'],
    bias: Float[np.ndarray, 'C'],
    temperature: float,
) -> dict:
    """Makes the network's variables from a fit, in float32.

    Args:
      mean, deviation: of the features over the training rows.
      kernel, bias: of the logits, on standardised features.
      temperature: what divides the logits, above 0.

    Example:
      >>> one = np.ones(1)
      >>> variables = fitted(0 * one, one, np.array([[1.0, -1.0]]), np.zeros(2), 2.0)
      >>> model = Probe(num_classes=2, encoders={'sound': 1})
      >>> model.apply(variables, {'features/sound': jnp.array([[3.0]])})[0].tolist()
      [[1.5, -1.5]]
    """
    of_head = {'kernel': kernel, 'bias': bias, 'temperature': np.array([temperature])}
    params = {'standard': {'mean': mean, 'deviation': deviation}, 'head': of_head}
    return {'params': jax.tree.map(lambda array: np.asarray(array, np.float32), params)}


MODELS = {'probe': functools.partial(Probe)}
