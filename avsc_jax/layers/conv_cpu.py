"""Arithmetic of convolutions and of residual blocks that is fast on CPU; see conv.py.

On CPU, XLA's own convolutions of many groups take 50 to 80 times as long as PyTorch's, and their
gradients 10 to 98 times; the functions below take 0.8 to 5 times as long (benchmarks/NOTES.md).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from avsc_jax.types import Array, Float

Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]


def materialize(x: Float[Array, '*axes']) -> Float[Array, '*axes']:
    """Returns x; on CPU, x and its gradient are written to memory first.

    XLA fuses sums and products into each of their readers. Along a chain of residual blocks each
    reader then computes the whole chain again, on CPU in whatever order it reads: half of
    HRNet-W18's time went there. So blocks end with this call, and convolutions begin with it. It
    takes effect in programs compiled with the options of `avsc_jax.runtime.compiler`.
    """
    return _materialize(x) if jax.default_backend() == 'cpu' else x


@jax.custom_vjp
def _materialize(x):
    return lax.optimization_barrier(x)


_materialize.defvjp(
    lambda x: (_materialize(x), None), lambda _, grad: (lax.optimization_barrier(grad),)
)


def merged_groups(kernel, groups):
    """Merges narrow groups into wider ones of at most 64 channels; returns kernel and groups.
    The merged kernel is zero between the original groups. Fewer and wider convolutions compile
    sooner and run faster, although they multiply by these zeros.
    """
    height, width, inputs, outputs = kernel.shape
    together = max(
        m for m in range(1, groups + 1) if groups % m == 0 and (m * inputs <= 64 or m == 1)
    )
    parts = kernel.reshape(height, width, inputs, groups // together, together, outputs // groups)
    dense = jnp.einsum('hwingo,gm->hwmingo', parts, jnp.eye(together, dtype=kernel.dtype))
    return dense.reshape(height, width, together * inputs, outputs), groups // together


@jax.custom_vjp
def pointwise(x: Float[Array, '*B K'], kernel: Float[Array, 'K O']) -> Float[Array, '*B O']:
    """Multiplies the last axis by a matrix: a 1x1 convolution, or a fully connected layer."""
    return jnp.dot(x, kernel)


def _pointwise_backward(saved, grad):
    """Computes both gradients; on CPU XLA transposes a product's left factor: the narrower one."""
    x, kernel = saved
    inputs, grads = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    if x.shape[-1] <= grad.shape[-1]:
        return jnp.dot(grad, kernel.T), jnp.dot(inputs.T, grads)
    return jnp.dot(grad, kernel.T), jnp.dot(grads.T, inputs).T


pointwise.defvjp(lambda x, kernel: (pointwise(x, kernel), (x, kernel)), _pointwise_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise(x, kernel, strides, padding, dilation):
    """Convolves each channel with a kernel of its own `[h, w, 1, K]`, as a sum of shifted maps."""
    padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))
    return _shifted_sum(padded, kernel, strides, dilation)


def _shifted_sum(padded, kernel, strides, dilation):
    size = _output_size(padded.shape[1:3], kernel.shape[:2], strides, dilation)
    return sum(
        _tap(padded, i, j, size, strides, dilation) * kernel[i, j].reshape(1, 1, 1, -1)
        for i, j in _taps(kernel)
    )


def _depthwise_forward(x, kernel, strides, padding, dilation):
    return depthwise(x, kernel, strides, padding, dilation), (x, kernel)


def _depthwise_backward(strides, padding, dilation, saved, grad):
    x, kernel = saved
    if max(kernel.shape[:2]) <= 3:  # few taps: each adds its share at the places that it read

        def forward(x):
            padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
            return _shifted_sum(padded, kernel, strides, dilation)

        (grad_x,) = jax.vjp(forward, x)[1](grad)
    else:
        grad_x = _input_gradient(x.shape, kernel, grad, strides, padding, dilation)
    return grad_x, _kernel_gradient(x, kernel, grad, strides, padding, dilation)


def _input_gradient(shape, kernel, grad, strides, padding, dilation):
    """Convolves the gradient, zeros put between its values for strides, with the flipped kernel."""
    spread = []
    for axis in (0, 1):
        reach = (kernel.shape[axis] - 1) * dilation[axis]
        low = reach - padding[axis][0]
        long = (grad.shape[axis + 1] - 1) * strides[axis] + 1
        spread.append((low, shape[axis + 1] + reach - low - long, strides[axis] - 1))
    zero = jnp.zeros((), grad.dtype)
    padded = lax.optimization_barrier(lax.pad(grad, zero, ((0, 0, 0), *spread, (0, 0, 0))))
    return _shifted_sum(padded, kernel[::-1, ::-1], (1, 1), dilation)


def _kernel_gradient(x, kernel, grad, strides, padding, dilation):
    """Adds up the kernel's gradient image by image, in float32, so that images stay in the cache.

    Rows are added up as explicit sums of at most 28 terms: XLA's own reduction of leading axes
    walks through memory column by column. A loop over the kernel's rows writes these sums for one
    of them, since for all they were half of what a network of such convolutions compiles.
    """
    height, width, channels = grad.shape[1:]
    down, across = kernel.shape[:2]
    terms = max(r for r in range(1, 29) if height % r == 0)
    reach = (height - 1) * strides[0] + 1
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def add(totals, step):
        image, i = step // down, step % down
        # rows of the image that the kernel's row i multiplies
        seen = lax.dynamic_slice_in_dim(padded[image], i * dilation[0], reach, 0)[None]
        taps = [_tap(seen, 0, j, (height, width), strides, dilation)[0] for j in range(across)]
        grads, added = grad[image], []
        for total, tap in zip(totals, taps, strict=True):
            products = (tap[h::terms] * grads[h::terms] for h in range(terms))
            added.append(total.at[i].add(sum(p.astype(jnp.float32) for p in products)))
        return tuple(added), None

    zeros = jnp.zeros((down, height // terms, width, channels), jnp.float32)
    totals, _ = lax.scan(add, (zeros,) * across, jnp.arange(len(x) * down))
    sums = jnp.stack(totals, 1).sum((2, 3))
    return sums.reshape(kernel.shape).astype(kernel.dtype)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _taps(kernel) -> list[Pair]:
    return [(i, j) for i in range(kernel.shape[0]) for j in range(kernel.shape[1])]


def _tap(padded, i, j, size, strides, dilation):
    """Cuts out the values `[B, *size, K]` that the kernel's tap (i, j) multiplies."""
    i, j = i * dilation[0], j * dilation[1]
    return padded[
        :,
        i : i + (size[0] - 1) * strides[0] + 1 : strides[0],
        j : j + (size[1] - 1) * strides[1] + 1 : strides[1],
    ]


def _output_size(padded, kernel, strides, dilation) -> Pair:
    sizes = zip(padded, kernel, strides, dilation, strict=True)
    return tuple((n - (k - 1) * d - 1) // s + 1 for n, k, s, d in sizes)
