"""timm's names of the RegNets -> `models/regnet.py`."""

from avsc_jax.models.rules import batch_norm, convolution, linear

PART, FLAX_PART = r'(s\d)\.(b\d+)\.(conv\d|downsample)', r'\1_\2/\3'

RULES = (
    *convolution(r'stem\.conv', 'stem/conv'),
    *batch_norm(r'stem\.bn', 'stem/bn'),
    *convolution(rf'{PART}\.conv', f'{FLAX_PART}/conv'),
    *batch_norm(rf'{PART}\.bn', f'{FLAX_PART}/bn'),
    *linear(r'head\.fc', 'head'),
)

IGNORE = (r'.*\.num_batches_tracked',)
