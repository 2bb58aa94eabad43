"""Swin Transformer: attention within windows that are shifted in every second block.

Module names are timm's, with `layers.1.blocks.0` written `layers_1_blocks_0`, and `head` for its
`head.fc`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from avsc_jax.layers.backbone import Backbone
from avsc_jax.layers.conv import Conv
from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.layers.drop_path import DropPath
from avsc_jax.layers.linear import Linear
from avsc_jax.models import sources
from avsc_jax.models.rules import Rule, convolution, layer_norm, linear
from avsc_jax.types import Array, Float

MLP_RATIO = 4
OTHER_REGION = -100.0  # added to the attention between places that the shift brought together


class WindowAttention(nn.Module):
    """Attention within each window, with a bias for each relative position.

    Source: Liu et al. 2021, Section 3.2, Eq. (4).
    """

    heads: int
    window: tuple[int, int]

    @nn.compact
    def __call__(
        self, x: Float[Array, 'B W N D'], mask: Float[np.ndarray, 'W2 N N']
    ) -> Float[Array, 'B W N D']:
        """Attends; the mask, for each window or one for all, is added to the scores."""
        batch, windows, places, width = x.shape
        shape = ((2 * self.window[0] - 1) * (2 * self.window[1] - 1), self.heads)
        table = self.param(
            'relative_position_bias_table', nn.initializers.truncated_normal(0.02), shape
        )
        bias = table[_relative_positions(self.window)].transpose(2, 0, 1)
        qkv = Linear(3 * width, name='qkv')(x)
        q, k, v = jnp.moveaxis(qkv.reshape(batch, windows, places, 3, self.heads, -1), 3, 0)
        scores = jnp.einsum('bwnhd,bwmhd->bwhnm', q * q.shape[-1] ** -0.5, k)
        # The bias is float32, so the softmax is too.
        weights = nn.softmax(scores + (bias[None] + mask[:, None])[None]).astype(x.dtype)
        x = jnp.einsum('bwhnm,bwmhd->bwnhd', weights, v)
        return Linear(width, name='proj')(x.reshape(batch, windows, places, width))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W D']) -> Float[Array, 'B H W D']:
        hidden = nn.gelu(Linear(MLP_RATIO * x.shape[-1], name='fc1')(x), approximate=False)
        return Linear(x.shape[-1], name='fc2')(hidden)


class Block(nn.Module):
    """Attention and an MLP, each after a norm and with a shortcut.

    Attributes:
      window: side of the windows, no longer than the map's.
      shifted: windows are shifted by half, but not along a side that one window spans.
    """

    heads: int
    window: int
    shifted: bool
    drop_path: float

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W D'], *, train: bool) -> Float[Array, 'B H W D']:
        _, *size, _ = x.shape
        window = tuple(min(self.window, side) for side in size)
        shift = tuple(self.window // 2 if self.shifted and self.window < n else 0 for n in size)
        y = jnp.roll(_norm('norm1', x), (-shift[0], -shift[1]), axis=(1, 2))
        # As in the source, zeros that complete the last windows are attended to.
        y = _pad_to_multiple(y, window)
        padded = y.shape[1:3]
        mask = _shift_mask(padded, window, shift)
        y = WindowAttention(self.heads, window, name='attn')(_split(y, window), mask)
        y = _join(y, padded, window)[:, : size[0], : size[1]]
        x = materialize(x + DropPath(self.drop_path)(jnp.roll(y, shift, axis=(1, 2)), train=train))
        y = Mlp(name='mlp')(_norm('norm2', x))
        return materialize(x + DropPath(self.drop_path)(y, train=train))


class PatchMerging(nn.Module):
    """Merges two by two places into one of twice the width.

    Source: Liu et al. 2021, Section 3.1; the order of the four is that of the published weights.
    """

    @nn.compact
    def __call__(self, x: Float[Array, 'B H W D']) -> Float[Array, 'B H2 W2 D2']:
        x = _pad_to_multiple(x, (2, 2))
        batch, height, width, features = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, features).transpose(0, 1, 3, 4, 2, 5)
        x = _norm('norm', x.reshape(batch, height // 2, width // 2, 4 * features))
        return Linear(2 * features, use_bias=False, name='reduction')(x)


class Swin(Backbone, kw_only=True):
    """Stages of blocks with window attention, on patches of the image.

    Attributes:
      image_size: a multiple of `patch_size`. Pictures of any other size are refused, as in the
        source; zeros complete windows at the edge of a map.
      drop_path_rate: of the last block; it grows from 0 at the first. The paper trains with 0.2.

    Source: Liu et al. 2021, Section 3.
    """

    DEPTH = (r'patch_embed_\w+', r'layers_(\d+)_(?:blocks_(\d+)|downsample)|norm')
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    patch_size: int = 4
    window_size: int = 7
    drop_path_rate: float = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, 'B H W K'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        x, patch = self.checked(images), (self.patch_size, self.patch_size)
        x = Conv(self.embed_dim, patch, strides=patch, use_bias=True, name='patch_embed_proj')(x)
        x = _norm('patch_embed_norm', x)
        out = {'patch_embed': x}
        rates = self.drop_path_rates(self.depths, self.drop_path_rate)
        for stage, (depth, heads) in enumerate(zip(self.depths, self.num_heads, strict=True)):
            if stage:
                x = PatchMerging(name=f'layers_{stage}_downsample')(x)
            for index in range(depth):
                block = Block(
                    heads=heads,
                    window=self.window_size,
                    shifted=index % 2 == 1,
                    drop_path=next(rates),
                    name=f'layers_{stage}_blocks_{index}',
                )
                x = self.run(block, x, train=train)
            out[f'layers_{stage}'] = x
        return self.classified(_norm('norm', x), out, train=train)

    def checked(self, images: Float[Array, 'B H W K']) -> Float[Array, 'B H W K']:
        """Returns the images in the network's type; raises ValueError for those of another size."""
        if images.shape[1:3] != (self.image_size,) * 2 or self.image_size % self.patch_size:
            raise ValueError(
                f'images are {images.shape[1]}x{images.shape[2]}, the network was made for '
                f"image_size={self.image_size}: both must be the same multiple of the patches' "
                f'side {self.patch_size}'
            )
        return super().checked(images)


def _norm(name, x):
    """Applies a LayerNorm, with statistics in float32."""
    return nn.LayerNorm(epsilon=1e-5, dtype=x.dtype, use_fast_variance=False, name=name)(x)


def _pad_to_multiple(x, window):
    below, right = (-side % w for side, w in zip(x.shape[1:3], window, strict=True))
    return jnp.pad(x, ((0, 0), (0, below), (0, right), (0, 0)))


def _split(x, window):
    """Splits [B, H, W, D] into [B, windows, places of a window, D]; for numpy's arrays too."""
    batch, height, width, features = x.shape
    rows, columns = window
    x = x.reshape(batch, height // rows, rows, width // columns, columns, features)
    return x.swapaxes(2, 3).reshape(batch, -1, rows * columns, features)


def _join(x, size, window):
    """Joins windows to a map of this size; the inverse of `_split`."""
    (height, width), (rows, columns) = size, window
    x = x.reshape(x.shape[0], height // rows, width // columns, rows, columns, -1)
    return x.swapaxes(2, 3).reshape(x.shape[0], height, width, -1)


def _relative_positions(window):
    """Returns the row of the bias table for each pair of places of a window."""
    rows, columns = (n.ravel() for n in np.mgrid[: window[0], : window[1]])
    down = rows[:, None] - rows[None] + window[0] - 1
    right = columns[:, None] - columns[None] + window[1] - 1
    return down * (2 * window[1] - 1) + right


def _shift_mask(size, window, shift):
    """Returns [windows, places, places]: 0 where shifted places were neighbours before."""
    if not any(shift):
        return np.zeros((1, *[window[0] * window[1]] * 2), np.float32)
    # Regions along each side: all but the last window, its unshifted part, and its wrapped part.
    regions = [
        (np.arange(n) >= n - w).astype(int) + (np.arange(n) >= n - s)
        for n, w, s in zip(size, window, shift, strict=True)
    ]
    region = 3 * regions[0][:, None] + regions[1][None]
    region = _split(region[None, :, :, None], window)[0, :, :, 0]
    return np.where(region[:, :, None] == region[:, None], 0, OTHER_REGION).astype(np.float32)


MODELS = {
    'swin_tiny_patch4_window7_224': functools.partial(
        Swin, embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)
    )
}

# Conversion from timm's names.
BLOCK, FLAX_BLOCK = r'layers\.(\d+)\.blocks\.(\d+)', r'layers_\1_blocks_\2'

RULES = (
    *linear(r'patch_embed\.proj', 'patch_embed_proj'),
    *layer_norm(r'patch_embed\.norm', 'patch_embed_norm'),
    *layer_norm(r'layers\.(\d+)\.downsample\.norm', r'layers_\1_downsample/norm'),
    *convolution(r'layers\.(\d+)\.downsample\.reduction', r'layers_\1_downsample/reduction'),
    *layer_norm(rf'{BLOCK}\.(norm[12])', rf'{FLAX_BLOCK}/\3'),
    Rule(
        rf'{BLOCK}\.attn\.(relative_position_bias_table)',
        rf'params/{FLAX_BLOCK}/attn/\3',
    ),
    *linear(rf'{BLOCK}\.(attn|mlp)\.(qkv|proj|fc1|fc2)', rf'{FLAX_BLOCK}/\3/\4'),
    *layer_norm(r'norm', 'norm'),
    *linear(r'head\.fc', 'head'),
)

# Values that follow from the window's size, in older files.
IGNORE = (rf'{BLOCK}\.(attn_mask|attn\.relative_position_index)',)

SOURCES = {
    'swin_tiny_patch4_window7_224': sources.timm(
        'swin_tiny_patch4_window7_224.ms_in1k', 'MIT', 'bicubic', 0.9
    ),
    'swin_tiny_patch4_window7_224.ms_in22k_ft_in1k': sources.timm(
        'swin_tiny_patch4_window7_224.ms_in22k_ft_in1k', 'MIT', 'bicubic', 0.9
    ),
}
