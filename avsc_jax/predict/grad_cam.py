"""Grad-CAM: where a network looks, by its last feature map and the gradient by that map.

Source: Selvaraju et al. 2017 (Grad-CAM), Sec. 3.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.input_pipeline.system import Network
from avsc_jax.layers.backbone import Backbone
from avsc_jax.runtime import compiler

# Hugging Face's name of the norm before an attention; its output is the tokens.
TOKENS = 'layer_norm1'


def looker(network: Network) -> Callable:
    """Compiles `look` for a network; variables are an argument of the program, not constants."""
    model = network.model
    if getattr(model, 'remat', False):  # a map cannot be taken out of a rematerialised part
        model = model.clone(remat=False)
    options = compiler.options(training=False)
    compiled = jax.jit(functools.partial(look, model, network.output), compiler_options=options)
    return functools.partial(compiled, network.variables)


def look(
    model: nn.Module,
    output: str,
    variables: Mapping,
    learned: Mapping[str, jax.Array],
    rows: Mapping[str, jax.Array],
    cotangent: jax.Array,
) -> tuple[jax.Array | None, dict[str, jax.Array], jax.Array | None]:
    """Differentiates a score: heat maps, gradients by some of the inputs, and attention.

    Args:
      output: `Network.output`, which says what the score is made of.
      learned: the inputs whose gradients are returned.
      rows: all other inputs. Heat maps are made of `image`, a picture or a spectrum.
      cotangent: weights of the output; the score is their sum of products.

    Returns:
      Heat `[pictures, h, w]`, or None for a network without feature maps; gradients by name; and
      attention `[rows, T]`, or None for a network without attention.
    """
    given = {**rows, **learned}
    maps: list[jax.Array] = []

    def collect(_: int, x: jax.Array) -> jax.Array:
        maps.append(x)
        return x

    jax.eval_shape(lambda given: _with_maps(model, variables, given, collect), given)
    last = len(maps) - 1
    # the gradient by a map is the gradient by zeros that are added to it
    zeros = jnp.zeros(maps[last].shape, maps[last].dtype) if maps else None

    def score(
        learned: Mapping[str, jax.Array], zeros: jax.Array | None
    ) -> tuple[jax.Array, tuple[jax.Array | None, Mapping]]:
        kept = {}

        def add(index: int, x: jax.Array) -> jax.Array:
            if index != last:
                return x
            kept['map'] = x
            assert zeros is not None  # there is a last map
            return x + zeros

        first, out = _with_maps(model, variables, {**rows, **learned}, add)
        value = out['embedding'] if output == 'embedding' else first
        return (value.astype(jnp.float32) * cotangent).sum(), (kept.get('map'), out)

    (gradients, slope), (last_map, out) = jax.grad(score, (0, 1), has_aux=True)(
        dict(learned), zeros
    )
    return grad_cam(last_map, slope) if maps else None, gradients, out.get('attention')


def grad_cam(last_map: jax.Array, gradient: jax.Array) -> jax.Array:
    """Heat `[B, h, w]` of maps `[B, h, w, K]`, or of tokens `[B, 1 + h w, K]`, and their gradients.

    The channels' weights are sums over places, not means. So the heat of all networks is in the
    unit of the score, and a network that ends in a mean over its map and a linear layer gets
    CAM's map without its negative values.

    Source: Selvaraju et al. 2017, Eq. (1) and (2); Zhou et al. 2016, Eq. (2).
    """
    if last_map.ndim == 3:
        side = math.isqrt(last_map.shape[1] - 1)
        shape = (-1, side, side, last_map.shape[-1])
        last_map, gradient = (x[:, 1:].reshape(shape) for x in (last_map, gradient))
    weights = gradient.astype(jnp.float32).sum(axis=(1, 2), keepdims=True)
    return nn.relu((weights * last_map.astype(jnp.float32)).sum(axis=-1))


def _with_maps(
    model: nn.Module,
    variables: Mapping,
    given: Mapping[str, jax.Array],
    change: Callable[[int, jax.Array], jax.Array],
) -> tuple[jax.Array, Mapping]:
    """Applies a network, passing each of its feature maps through `change(index, map)`.

    Maps are what its modules return for each picture and, last of all, what a backbone averages.
    A transformer has the tokens before each attention instead: behind the last attention only the
    first token counts.
    """
    image = given.get('image', np.zeros(()))
    count, numbers = math.prod(image.shape[:-3]), itertools.count()

    def is_map(x: Any, module: nn.Module) -> bool:
        ranks = (4, 3) if module.name == TOKENS else (4,)
        return isinstance(x, jax.Array) and x.ndim in ranks and len(x) == count

    def intercept(
        method: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
    ) -> Any:
        module, name = context.module, context.method_name
        if name == 'classified' and isinstance(module, Backbone) and not module.path:
            return method(change(next(numbers), args[0]), *args[1:], **kwargs)
        y = method(*args, **kwargs)
        if name == '__call__' and image.ndim >= 4 and is_map(y, module):
            return change(next(numbers), y)
        return y

    alone = not isinstance(model.input_spec, Mapping)
    with nn.intercept_methods(intercept):
        return model.apply(variables, given['image'] if alone else dict(given))
