"""timm's names of the ResNeSts -> `models/resnest.py`."""

from avsc_jax.models.rules import batch_norm, convolution, linear

BLOCK, FLAX_BLOCK = r'(layer\d)\.(\d+)', r'\1_\2'

RULES = (
    *convolution(r'conv1\.([036])', r'conv1_\1'),
    *batch_norm(r'conv1\.([14])', r'conv1_\1'),
    *batch_norm('bn1', 'bn1'),
    *convolution(rf'{BLOCK}\.(conv[13])', rf'{FLAX_BLOCK}/\3'),
    *batch_norm(rf'{BLOCK}\.(bn[13])', rf'{FLAX_BLOCK}/\3'),
    *convolution(rf'{BLOCK}\.conv2\.conv', f'{FLAX_BLOCK}/conv2/conv'),
    *batch_norm(rf'{BLOCK}\.conv2\.(bn[01])', rf'{FLAX_BLOCK}/conv2/\3'),
    *linear(rf'{BLOCK}\.conv2\.(fc[12])', rf'{FLAX_BLOCK}/conv2/\3'),
    *convolution(rf'{BLOCK}\.downsample\.1', f'{FLAX_BLOCK}/downsample_1'),
    *batch_norm(rf'{BLOCK}\.downsample\.2', f'{FLAX_BLOCK}/downsample_2'),
    *linear('fc', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)
