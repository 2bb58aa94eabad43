"""OpenAI's CLIP image tower of the transformer kind, through Hugging Face's Flax module.

transformers takes seconds to import, so it is imported when a network is first built.
"""

import functools
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax.layers.linear import Linear
from avsc_jax.models import clip_resnet, sources
from avsc_jax.models.rules import Rule, convolution, layer_norm, linear, outputs_last
from avsc_jax.types import Array, Float

ACTIVATIONS = ('quick_gelu', 'gelu')  # x sigmoid(1.702 x), or exact


class ClipVit(nn.Module):
    """CLIP's ViT: image to embedding, not normalised; with `num_classes`, a linear head on it.

    Attributes:
      width: of the tokens; the projection brings it to `output_dim`.
      heads: of the attention; None gives one for each 64 of the width.
      image_size: side of the square input, a multiple of `patch_size`.
      activation: one of ACTIVATIONS; OpenAI's weights were trained with the first.
      dtype: of the arithmetic; parameters and the embedding are float32.

    Source: Radford et al. 2021, Section 2.4 and Table 20; the modules carry Hugging Face's names.
    """

    width: int
    layers: int
    patch_size: int
    output_dim: int
    image_size: int
    heads: int | None = None
    num_classes: int = 0
    dtype: Any = jnp.float32
    activation: str = ACTIVATIONS[0]

    def __post_init__(self) -> None:
        check_activation(self.activation)
        super().__post_init__()

    @property
    def input_spec(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, self.image_size, self.image_size, 3), jnp.float32)

    @nn.compact
    def __call__(
        self, images: Float[Array, 'B H W 3'], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        if images.shape[1:3] != (self.image_size,) * 2 or self.image_size % self.patch_size:
            raise ValueError(
                f'images are {images.shape[1]}x{images.shape[2]}, the network was made for '
                f"image_size={self.image_size}: both must be the same multiple of the patches' "
                f'side {self.patch_size}'
            )
        clip = flax_clip()
        config = clip.CLIPVisionConfig(
            hidden_size=self.width,
            intermediate_size=4 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads or max(1, self.width // 64),
            image_size=self.image_size,
            patch_size=self.patch_size,
            hidden_act=self.activation,
        )
        tower = clip.FlaxCLIPVisionTransformer(config, self.dtype, name='vision_model')
        tokens, pooled = tower(images, deterministic=not train, return_dict=False)[:2]
        project = nn.Dense(self.output_dim, use_bias=False, name='visual_projection')
        embedding = project(pooled.astype(jnp.float32))
        out = {'tokens': tokens, 'embedding': embedding}
        if not self.num_classes:
            return embedding, out
        return Linear(self.num_classes, name='head')(embedding), out


def check_activation(name: str) -> None:
    """Raises ValueError unless it is the name of an activation of CLIP's transformers."""
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation is {name!r}; it must be {ACTIVATIONS[0]}, as of OpenAI's weights, or "
            f"{ACTIVATIONS[1]}, as of most of LAION's"
        )


def flax_clip() -> ModuleType:
    """Imports Hugging Face's Flax CLIP, which version 5 of transformers dropped."""
    import transformers

    if int(transformers.__version__.split('.')[0]) >= 5:
        raise ValueError(
            f'transformers {transformers.__version__} is installed, which has no Flax models; '
            "CLIP's ViT needs version 4: pip install 'transformers>=4.57,<5'"
        )
    # The first module built would log that Flax classes go away in version 5.
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    from transformers.models.clip import modeling_flax_clip

    transformers.logging.set_verbosity(verbosity)
    return modeling_flax_clip


def openai_layers(source: str, path: str) -> tuple[Rule, ...]:
    """Returns the rules of a transformer's layers, with one matrix for queries, keys and values."""
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
    """Returns the rules of a transformer's layers with the names of Hugging Face's Flax module."""
    layer, path = rf'{tower}\.encoder\.layers\.(\d+)', rf'{tower}/encoder/layers/\1'
    return (
        *linear(rf'{layer}\.self_attn\.([qkv]_proj|out_proj)', rf'{path}/self_attn/\2'),
        *layer_norm(rf'{layer}\.(layer_norm[12])', rf'{path}/\2'),
        *linear(rf'{layer}\.mlp\.(fc[12])', rf'{path}/mlp/\2'),
    )


BASE = functools.partial(ClipVit, width=768, layers=12, output_dim=512)
LARGE = functools.partial(ClipVit, width=1024, layers=24, patch_size=14, output_dim=768)
MODELS = {
    'clip_vit_b32': functools.partial(BASE, patch_size=32, image_size=224),
    'clip_vit_b16': functools.partial(BASE, patch_size=16, image_size=224),
    'clip_vit_l14': functools.partial(LARGE, image_size=224),
    'clip_vit_l14_336': functools.partial(LARGE, image_size=336),
}

# Conversion from OpenAI's, open_clip's and Hugging Face's names.
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

# What weights of others with the same names and shapes may have otherwise.
UNSTATED = ('activation', 'mean', 'std')
SOURCES = {
    'clip_vit_b32': sources.openai_clip(
        'ViT-B-32.pt',
        '40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af',
        hub='timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors',
        image_size=224,
        unstated=UNSTATED,
    ),
    'clip_vit_b16': sources.openai_clip(
        'ViT-B-16.pt',
        '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f',
        hub='timm/vit_base_patch16_clip_224.openai/open_clip_model.safetensors',
        image_size=224,
        unstated=UNSTATED,
    ),
    'clip_vit_l14': sources.openai_clip(
        'ViT-L-14.pt',
        'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836',
        hub='timm/vit_large_patch14_clip_224.openai/open_clip_model.safetensors',
        image_size=224,
        unstated=UNSTATED,
    ),
    'clip_vit_l14_336': sources.openai_clip(
        'ViT-L-14-336px.pt',
        '3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02',
        hub='timm/vit_large_patch14_clip_336.openai/open_clip_model.safetensors',
        image_size=336,
        unstated=UNSTATED,
    ),
}
