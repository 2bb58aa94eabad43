"""timm's names of the EfficientNets -> `models/efficientnet.py`."""

from avsc_jax.models.rules import batch_norm, convolution, linear

BLOCK, FLAX_BLOCK = r'blocks\.(\d+)\.(\d+)', r'blocks_\1_\2'

RULES = (
    *convolution(r'(conv_\w+)', r'\1'),
    *batch_norm(r'(bn\d)', r'\1'),
    *convolution(rf'{BLOCK}\.(conv\w*)', rf'{FLAX_BLOCK}/\3'),
    *batch_norm(rf'{BLOCK}\.(bn\d)', rf'{FLAX_BLOCK}/\3'),
    *linear(rf'{BLOCK}\.se\.(conv_\w+)', rf'{FLAX_BLOCK}/se/\3'),
    *linear(r'classifier', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)
