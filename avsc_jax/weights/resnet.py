"""torchvision's and timm's names of the ResNets -> `models/resnet.py`."""

from avsc_jax.models.rules import batch_norm, convolution, linear

BLOCK, FLAX_BLOCK = r'(layer\d)\.(\d+)', r'\1_\2'

RULES = (
    *convolution('conv1', 'conv1'),
    *batch_norm('bn1', 'bn1'),
    *convolution(rf'{BLOCK}\.(conv\d)', rf'{FLAX_BLOCK}/\3'),
    *batch_norm(rf'{BLOCK}\.(bn\d)', rf'{FLAX_BLOCK}/\3'),
    *convolution(rf'{BLOCK}\.downsample\.0', f'{FLAX_BLOCK}/downsample_0'),
    *batch_norm(rf'{BLOCK}\.downsample\.1', f'{FLAX_BLOCK}/downsample_1'),
    *linear('fc', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)
