"""OpenAI's, open_clip's and Hugging Face's names of the CLIP ViTs -> `models/clip_vit.py`."""

from avsc_jax.weights import clip_resnet
from avsc_jax.weights.conversion import Rule, convolution, layer_norm, linear, outputs_last

EMBEDDINGS = 'params/vision_model/embeddings'
LAYER = r'vision_model/encoder/layers/\1'
OPENAI_LAYER = r'visual\.transformer\.resblocks\.(\d+)'
HF_LAYER = r'vision_model\.encoder\.layers\.(\d+)'
ATTENTION = tuple(rf'params/{LAYER}/self_attn/{part}_proj' for part in 'qkv')

OPENAI_RULES = (
    Rule(r'visual\.class_embedding', f'{EMBEDDINGS}/class_embedding'),
    Rule(r'visual\.positional_embedding', f'{EMBEDDINGS}/position_embedding/embedding'),
    *convolution(r'visual\.conv1', 'vision_model/embeddings/patch_embedding'),
    *layer_norm(r'visual\.ln_pre', 'vision_model/pre_layrnorm'),
    Rule(
        rf'{OPENAI_LAYER}\.attn\.in_proj_weight',
        tuple(f'{path}/kernel' for path in ATTENTION),
        outputs_last,
    ),
    Rule(rf'{OPENAI_LAYER}\.attn\.in_proj_bias', tuple(f'{path}/bias' for path in ATTENTION)),
    *linear(rf'{OPENAI_LAYER}\.attn\.out_proj', f'{LAYER}/self_attn/out_proj'),
    *layer_norm(rf'{OPENAI_LAYER}\.ln_([12])', rf'{LAYER}/layer_norm\2'),
    *linear(rf'{OPENAI_LAYER}\.mlp\.c_fc', f'{LAYER}/mlp/fc1'),
    *linear(rf'{OPENAI_LAYER}\.mlp\.c_proj', f'{LAYER}/mlp/fc2'),
    *layer_norm(r'visual\.ln_post', 'vision_model/post_layernorm'),
    Rule(r'visual\.proj', 'params/visual_projection/kernel'),
)

HF_RULES = (
    Rule(r'vision_model\.embeddings\.class_embedding', f'{EMBEDDINGS}/class_embedding'),
    Rule(
        r'vision_model\.embeddings\.position_embedding\.weight',
        f'{EMBEDDINGS}/position_embedding/embedding',
    ),
    *convolution(
        r'vision_model\.embeddings\.patch_embedding', 'vision_model/embeddings/patch_embedding'
    ),
    *layer_norm(r'vision_model\.(pre_layrnorm|post_layernorm)', r'vision_model/\1'),
    *linear(rf'{HF_LAYER}\.self_attn\.([qkv]_proj|out_proj)', rf'{LAYER}/self_attn/\2'),
    *layer_norm(rf'{HF_LAYER}\.(layer_norm[12])', rf'{LAYER}/\2'),
    *linear(rf'{HF_LAYER}\.mlp\.(fc[12])', rf'{LAYER}/mlp/\2'),
    *convolution(r'visual_projection', 'visual_projection'),
)

RULES = OPENAI_RULES + HF_RULES

IGNORE = (
    *clip_resnet.IGNORE,
    r'text_model\..*',
    r'text_projection\.weight',
    r'vision_model\.embeddings\.position_ids',
)
