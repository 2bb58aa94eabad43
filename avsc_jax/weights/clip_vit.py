"""OpenAI's, open_clip's and Hugging Face's names of the CLIP ViTs -> `models/clip_vit.py`."""

from avsc_jax.models.rules import Rule, convolution, layer_norm
from avsc_jax.weights import clip_resnet
from avsc_jax.weights.clip_text import hugging_face_layers, openai_layers

EMBEDDINGS = 'params/vision_model/embeddings'

OPENAI_RULES = (
    Rule(r'visual\.class_embedding', f'{EMBEDDINGS}/class_embedding'),
    Rule(r'visual\.positional_embedding', f'{EMBEDDINGS}/position_embedding/embedding'),
    *convolution(r'visual\.conv1', 'vision_model/embeddings/patch_embedding'),
    *layer_norm(r'visual\.ln_pre', 'vision_model/pre_layrnorm'),
    *openai_layers(r'visual\.transformer', 'vision_model'),
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
    *hugging_face_layers('vision_model'),
    *convolution(r'visual_projection', 'visual_projection'),
)

RULES = OPENAI_RULES + HF_RULES

IGNORE = (
    *clip_resnet.IGNORE,
    r'text_model\..*',
    r'text_projection\.weight',
    r'vision_model\.embeddings\.position_ids',
)
