"""timm's names of the Swin Transformers -> `models/swin.py`."""

from avsc_jax.models.rules import Rule, convolution, layer_norm, linear

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

# What follows from the window alone; older files hold it.
IGNORE = (rf'{BLOCK}\.(attn_mask|attn\.relative_position_index)',)
