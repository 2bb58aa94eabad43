"""HRNets: branches of several resolutions side by side, mixed again and again.

Module names are the source's, with `stage2.0.branches.1.0` written `stage2_0/branches_1_0`, and
`head` for its `classifier`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp

from avsc_jax.layers.backbone import Backbone
from avsc_jax.layers.conv import Conv
from avsc_jax.layers.conv_cpu import materialize
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.models import sources
from avsc_jax.models.resnet import BasicBlock, Bottleneck
from avsc_jax.models.rules import Rule, batch_norm, convolution, linear
from avsc_jax.types import Array, Float


class HighResolutionModule(nn.Module):
    """Blocks in each branch; then each branch gets the sum of all, brought to its resolution.

    Attributes:
      width: channels of the first branch; each further one has twice as many, at half the sides.
    """

    width: int
    blocks: int

    @nn.compact
    def __call__(self, maps: list[Array], *, train: bool) -> list[Array]:
        widths = [self.width * 2**branch for branch in range(len(maps))]
        maps = list(maps)
        for branch, width in enumerate(widths):
            for index in range(self.blocks):
                block = BasicBlock(width, name=f'branches_{branch}_{index}')
                maps[branch] = block(maps[branch], train=train)
        fused = []
        for to, target in enumerate(maps):
            parts = []
            for source, part in enumerate(maps):
                name = f'fuse_layers_{to}_{source}'
                if source > to:
                    part = _conv_norm(part, widths[to], name, train=train)
                    part = _enlarged(part, 2 ** (source - to), target.shape)
                for step in range(to - source):
                    last = step == to - source - 1
                    width = widths[to if last else source]
                    part = _halved(part, width, f'{name}_{step}', train=train)
                    part = part if last else nn.relu(part)
                parts.append(part)
            fused.append(materialize(nn.relu(sum(parts[1:], start=parts[0]))))
        return fused


class HRNet(Backbone, kw_only=True):
    """One to four branches of falling resolution, merged into one map at the end.

    Attributes:
      width: channels of the branch of highest resolution.
      first_width, first_blocks: width and number of the bottlenecks before the branches.
      modules: number of modules in the stages with two, three and four branches.
      blocks: in each branch of a module.
      head_width: of the bottleneck on top of the first branch; 2, 4, 8 times that on the next ones.
      num_features: width of the embedding.

    Source: Wang et al. 2020 (deep high-resolution representation learning), Section 3 and the
    classification head of Fig. 4 (c).
    """

    DEPTH = (
        *(r'(?:conv|bn)[12]', r'layer1_(\d+)'),
        *(r'transition1_\w+', r'stage2_(\d+)', r'transition2_\w+', r'stage3_(\d+)'),
        *(r'transition3_\w+', r'stage4_(\d+)|(?:incre|downsamp)_modules_\w+|final_layer_\w+'),
    )
    width: int
    first_width: int
    first_blocks: int
    modules: tuple[int, int, int]
    blocks: int
    stem_width: int = 64
    head_width: int = 32
    num_features: int = 2048

    @nn.compact
    def __call__(
        self, images: Float[Array, 'B H W K'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        x = self.checked(images)
        for index in (1, 2):
            x = Conv(self.stem_width, (3, 3), (2, 2), padding=1, name=f'conv{index}')(x)
            x = nn.relu(BatchNorm(name=f'bn{index}')(x, train=train))
        for index in range(self.first_blocks):
            x = self.run(Bottleneck(self.first_width, name=f'layer1_{index}'), x, train=train)
        out, maps = {'layer1': x}, [x]
        for stage, count in enumerate(self.modules, start=2):
            maps = self._with_one_more_branch(maps, f'transition{stage - 1}', train=train)
            for index in range(count):
                module = HighResolutionModule(self.width, self.blocks, name=f'stage{stage}_{index}')
                maps = self.run(module, maps, train=train)
            out |= {f'stage{stage}_{branch}': x for branch, x in enumerate(maps)}
        out['final_layer'] = x = self._merged(maps, train=train)
        return self.classified(x, out, train=train)

    def _with_one_more_branch(self, maps, name, *, train):
        """Adds a branch of half the last one's resolution; the first call also sets the width."""
        new = _halved(maps[-1], self.width * 2 ** len(maps), f'{name}_{len(maps)}_0', train=train)
        if len(maps) == 1 and maps[0].shape[-1] != self.width:
            first = _conv_norm(maps[0], self.width, f'{name}_0', kernel_size=3, train=train)
            maps = [nn.relu(first)]
        return [*maps, nn.relu(new)]

    def _merged(self, maps, *, train):
        """Merges all branches into one map, from high to low resolution."""
        merged = None
        for branch, x in enumerate(maps):
            width = self.head_width * 2**branch
            x = self.run(Bottleneck(width, name=f'incre_modules_{branch}_0'), x, train=train)
            if branch:
                name = f'downsamp_modules_{branch - 1}'
                merged = _halved(merged, 4 * width, name, use_bias=True, train=train)
                x = materialize(x + nn.relu(merged))
            merged = x
        name = 'final_layer'
        merged = _conv_norm(merged, self.num_features, name, use_bias=True, train=train)
        return nn.relu(merged)


def _conv_norm(x, features, name, *, train, kernel_size=1, stride=1, use_bias=False):
    """Applies a convolution and its norm, as submodules `<name>_0` and `<name>_1`."""
    x = Conv(
        features,
        (kernel_size, kernel_size),
        (stride, stride),
        padding=kernel_size // 2,
        use_bias=use_bias,
        name=f'{name}_0',
    )(x)
    return BatchNorm(name=f'{name}_1')(x, train=train)


_halved = functools.partial(_conv_norm, kernel_size=3, stride=2)


def _enlarged(x, factor, shape):
    """Repeats each value `factor` by `factor` times, and cuts the map to the sides of `shape`.

    Halving rounds odd sides up, so that the enlarged map may be larger; not so for images whose
    sides are multiples of 32, the only ones that timm takes.
    """
    x = jnp.repeat(jnp.repeat(x, factor, axis=1), factor, axis=2)
    return x[:, : shape[1], : shape[2]]


def _block_rules(source: str, path: str, part: str) -> tuple[Rule, ...]:
    r"""Returns the rules of a residual block; `part` refers to the group captured here."""
    return (
        *convolution(rf'{source}\.(conv\d)', rf'{path}/{part}'),
        *batch_norm(rf'{source}\.(bn\d)', rf'{path}/{part}'),
        *convolution(rf'{source}\.downsample\.0', f'{path}/downsample_0'),
        *batch_norm(rf'{source}\.downsample\.1', f'{path}/downsample_1'),
    )


def _conv_norm_rules(source: str, path: str) -> tuple[Rule, ...]:
    """Returns the rules of a convolution and its norm, the first two of a list."""
    return (
        *convolution(rf'{source}\.0', f'{path}_0'),
        *batch_norm(rf'{source}\.1', f'{path}_1'),
    )


MODELS = {
    'hrnet_w18_small': functools.partial(
        HRNet, width=16, first_width=32, first_blocks=1, modules=(1, 1, 1), blocks=2
    ),
    'hrnet_w18': functools.partial(
        HRNet, width=18, first_width=64, first_blocks=4, modules=(1, 4, 3), blocks=4
    ),
}

# Conversion from timm's names.
FUSE, FLAX_FUSE = r'(stage\d)\.(\d)\.fuse_layers\.(\d)\.(\d)', r'\1_\2/fuse_layers_\3_\4'

RULES = (
    *convolution(r'(conv[12])', r'\1'),
    *batch_norm(r'(bn[12])', r'\1'),
    *_block_rules(r'layer1\.(\d)', r'layer1_\1', r'\2'),
    *_conv_norm_rules(r'transition1\.0', 'transition1_0'),
    *_conv_norm_rules(r'(transition\d)\.(\d)\.0', r'\1_\2_0'),
    *_block_rules(r'(stage\d)\.(\d)\.branches\.(\d)\.(\d)', r'\1_\2/branches_\3_\4', r'\5'),
    *_conv_norm_rules(FUSE, FLAX_FUSE),
    *_conv_norm_rules(rf'{FUSE}\.(\d)', rf'{FLAX_FUSE}_\5'),
    *_block_rules(r'incre_modules\.(\d)\.0', r'incre_modules_\1_0', r'\2'),
    *_conv_norm_rules(r'(downsamp_modules)\.(\d)', r'\1_\2'),
    *_conv_norm_rules('final_layer', 'final_layer'),
    Rule(r'(downsamp_modules)\.(\d)\.0\.bias', r'params/\1_\2_0/bias'),
    Rule(r'final_layer\.0\.bias', 'params/final_layer_0/bias'),
    *linear('classifier', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)

SOURCES = {
    'hrnet_w18_small': sources.timm('hrnet_w18_small.gluon_in1k', 'Apache-2.0', 'bicubic', 0.875),
    'hrnet_w18': sources.timm('hrnet_w18.ms_aug_in1k', 'MIT', 'bilinear', 0.95),
    'hrnet_w18.ms_in1k': sources.timm('hrnet_w18.ms_in1k', 'MIT', 'bilinear', 0.875),
}
