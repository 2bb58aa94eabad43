"""OpenAI's, open_clip's and Hugging Face's names of CLIP's text towers -> `models/clip_text.py`."""

from avsc_jax.models.rules import Rule, convolution, layer_norm, linear, outputs_last

EMBEDDINGS = 'params/text_model/embeddings'


def openai_layers(source: str, path: str) -> tuple[Rule, ...]:
    """The rules of a transformer's layers, with one matrix for queries, keys and values."""
    layer, path = rf'{source}\.resblocks\.(\d+)', rf'{path}/encoder/layers/\1'
    attention = tuple(f'params/{path}/self_attn/{part}_proj' for part in 'qkv')
    return (
        Rule(
            rf'{layer}\.attn\.in_proj_weight',
            tuple(f'{projection}/kernel' for projection in attention),
            outputs_last,
        ),
        Rule(rf'{layer}\.attn\.in_proj_bias', tuple(f'{p}/bias' for p in attention)),
        *linear(rf'{layer}\.attn\.out_proj', f'{path}/self_attn/out_proj'),
        *layer_norm(rf'{layer}\.ln_([12])', rf'{path}/layer_norm\2'),
        *linear(rf'{layer}\.mlp\.c_fc', f'{path}/mlp/fc1'),
        *linear(rf'{layer}\.mlp\.c_proj', f'{path}/mlp/fc2'),
    )


def hugging_face_layers(tower: str) -> tuple[Rule, ...]:
    """The rules of a transformer's layers, whose names Flax's module shares."""
    layer, path = rf'{tower}\.encoder\.layers\.(\d+)', rf'{tower}/encoder/layers/\1'
    return (
        *linear(rf'{layer}\.self_attn\.([qkv]_proj|out_proj)', rf'{path}/self_attn/\2'),
        *layer_norm(rf'{layer}\.(layer_norm[12])', rf'{path}/\2'),
        *linear(rf'{layer}\.mlp\.(fc[12])', rf'{path}/mlp/\2'),
    )


OPENAI_RULES = (
    Rule(r'token_embedding\.weight', f'{EMBEDDINGS}/token_embedding/embedding'),
    Rule(r'positional_embedding', f'{EMBEDDINGS}/position_embedding/embedding'),
    *openai_layers('transformer', 'text_model'),
    *layer_norm('ln_final', 'text_model/final_layer_norm'),
    Rule(r'text_projection', 'params/text_projection/kernel'),
)

HF_RULES = (
    Rule(
        r'text_model\.embeddings\.(token|position)_embedding\.weight',
        rf'{EMBEDDINGS}/\1_embedding/embedding',
    ),
    *hugging_face_layers('text_model'),
    *layer_norm(r'text_model\.final_layer_norm', 'text_model/final_layer_norm'),
    *convolution('text_projection', 'text_projection'),
)

RULES = OPENAI_RULES + HF_RULES

# The image tower, the temperature, and what the archives say about themselves.
IGNORE = (
    r'visual\..*',
    r'vision_model\..*',
    r'visual_projection\.weight',
    r'text_model\.embeddings\.position_ids',
    r'logit_scale',
    r'input_resolution|context_length|vocab_size|attn_mask',
)
