"""OpenAI's and open_clip's names of the CLIP ResNets -> `models/clip_resnet.py`."""

from avsc_jax.models.rules import Rule, batch_norm, convolution, linear

BLOCK, FLAX_BLOCK = r'visual\.(layer\d)\.(\d+)', r'\1_\2'

RULES = (
    *convolution(r'visual\.(conv\d)', r'\1'),
    *batch_norm(r'visual\.(bn\d)', r'\1'),
    *convolution(rf'{BLOCK}\.(conv\d)', rf'{FLAX_BLOCK}/\3'),
    *batch_norm(rf'{BLOCK}\.(bn\d)', rf'{FLAX_BLOCK}/\3'),
    *convolution(rf'{BLOCK}\.downsample\.0', f'{FLAX_BLOCK}/downsample_0'),
    *batch_norm(rf'{BLOCK}\.downsample\.1', f'{FLAX_BLOCK}/downsample_1'),
    Rule(r'visual\.attnpool\.positional_embedding', 'params/attnpool/positional_embedding'),
    *linear(r'visual\.attnpool\.([qkvc]_proj)', r'attnpool/\1'),
)

# The text tower, the temperature, and what the archives say about themselves.
IGNORE = (
    r'visual\..*\.num_batches_tracked',
    r'transformer\..*',
    r'token_embedding\.weight',
    r'positional_embedding',
    r'ln_final\.(weight|bias)',
    r'text_projection',
    r'logit_scale',
    r'input_resolution|context_length|vocab_size|attn_mask',
)
