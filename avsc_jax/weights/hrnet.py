"""timm's names of the HRNets -> `models/hrnet.py`."""

from avsc_jax.models.rules import Rule, batch_norm, convolution, linear


def block(source: str, path: str, part: str) -> tuple[Rule, ...]:
    r"""The rules of a residual block; `part` is the number of the group that is captured here."""
    return (
        *convolution(rf'{source}\.(conv\d)', rf'{path}/{part}'),
        *batch_norm(rf'{source}\.(bn\d)', rf'{path}/{part}'),
        *convolution(rf'{source}\.downsample\.0', f'{path}/downsample_0'),
        *batch_norm(rf'{source}\.downsample\.1', f'{path}/downsample_1'),
    )


def conv_norm(source: str, path: str) -> tuple[Rule, ...]:
    """The rules of a convolution and its norm, the first two of a list."""
    return (
        *convolution(rf'{source}\.0', f'{path}_0'),
        *batch_norm(rf'{source}\.1', f'{path}_1'),
    )


FUSE, FLAX_FUSE = r'(stage\d)\.(\d)\.fuse_layers\.(\d)\.(\d)', r'\1_\2/fuse_layers_\3_\4'

RULES = (
    *convolution(r'(conv[12])', r'\1'),
    *batch_norm(r'(bn[12])', r'\1'),
    *block(r'layer1\.(\d)', r'layer1_\1', r'\2'),
    *conv_norm(r'transition1\.0', 'transition1_0'),
    *conv_norm(r'(transition\d)\.(\d)\.0', r'\1_\2_0'),
    *block(r'(stage\d)\.(\d)\.branches\.(\d)\.(\d)', r'\1_\2/branches_\3_\4', r'\5'),
    *conv_norm(FUSE, FLAX_FUSE),
    *conv_norm(rf'{FUSE}\.(\d)', rf'{FLAX_FUSE}_\5'),
    *block(r'incre_modules\.(\d)\.0', r'incre_modules_\1_0', r'\2'),
    *conv_norm(r'(downsamp_modules)\.(\d)', r'\1_\2'),
    *conv_norm('final_layer', 'final_layer'),
    Rule(r'(downsamp_modules)\.(\d)\.0\.bias', r'params/\1_\2_0/bias'),
    Rule(r'final_layer\.0\.bias', 'params/final_layer_0/bias'),
    *linear('classifier', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)
