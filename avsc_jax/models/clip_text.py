"""OpenAI's CLIP text towers, through Hugging Face's Flax module: token ids -> embedding."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.linear import Linear
from avsc_jax.models import clip_resnet, clip_vit
from avsc_jax.models.clip_tokens import CONTEXT, END, VOCABULARY
from avsc_jax.models.clip_vit import flax_clip, hugging_face_layers, openai_layers
from avsc_jax.models.rules import Rule, convolution, layer_norm
from avsc_jax.types import Array, Float, Int


class ClipText(nn.Module):
    """CLIP's text tower: token ids to the embedding at a text's first `END`, not normalised.

    The attention is causal, so that the padding after it (0 at OpenAI, `END` at Hugging Face) does
    not matter and needs no mask.

    Attributes:
      width: of the tokens; the projection brings it to `output_dim`.
      heads: of the attention; None gives one for each 64 of the width.
      activation: see `ClipVit`.

    Source: Radford et al. 2021, Section 2.4; the modules carry Hugging Face's names.
    """

    width: int
    output_dim: int
    layers: int = 12
    heads: int | None = None
    activation: str = clip_vit.ACTIVATIONS[0]

    def __post_init__(self) -> None:
        clip_vit.check_activation(self.activation)
        super().__post_init__()

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, CONTEXT), jnp.int32)

    @nn.compact
    def __call__(
        self, token_ids: Int[Array, 'B T'], *, train: bool = False
    ) -> tuple[Float[Array, 'B D'], dict[str, Array]]:
        length = token_ids.shape[1]
        if length > CONTEXT:
            raise ValueError(f'texts are {length} tokens long, the network takes {CONTEXT}')
        clip = flax_clip()
        config = clip.CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=self.width,
            intermediate_size=4 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads or max(1, self.width // 64),
            max_position_embeddings=CONTEXT,
            hidden_act=self.activation,
            eos_token_id=END,
        )
        tower = clip.FlaxCLIPTextTransformer(config, name='text_model')
        positions = jnp.arange(length)[None]
        tokens, pooled = tower(
            token_ids, None, positions, deterministic=not train, return_dict=False
        )[:2]
        project = Linear(self.output_dim, use_bias=False, name='text_projection')
        embedding = project(pooled)
        return embedding, {'tokens': tokens, 'embedding': embedding}


MODELS = {
    'clip_rn101_text': functools.partial(ClipText, width=512, output_dim=512),
    'clip_rn50x4_text': functools.partial(ClipText, width=640, output_dim=640),
    'clip_vit_b32_text': functools.partial(ClipText, width=512, output_dim=512),
    'clip_vit_b16_text': functools.partial(ClipText, width=512, output_dim=512),
    'clip_vit_l14_text': functools.partial(ClipText, width=768, output_dim=768),
    'clip_vit_l14_336_text': functools.partial(ClipText, width=768, output_dim=768),
}

# Conversion from OpenAI's, open_clip's and Hugging Face's names.
EMBEDDINGS = 'params/text_model/embeddings'

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

# The image tower, the temperature, and the archives' facts about themselves.
IGNORE = (
    r'visual\..*',
    r'vision_model\..*',
    r'visual_projection\.weight',
    r'text_model\.embeddings\.position_ids',
    r'logit_scale',
    r'input_resolution|context_length|vocab_size|attn_mask',
)

# The text towers are in the image towers' files, and were trained with the same pictures.
SOURCES = {
    f'{name}_text': dataclasses.replace(source, shares=name, unstated=('activation',))
    for name, source in (clip_resnet.SOURCES | clip_vit.SOURCES).items()
}
