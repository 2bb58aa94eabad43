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
from avsc_jax.types import Array, Float


class ClipVit(nn.Module):
    """Image -> embedding, not normalised; with `num_classes`, a linear head on the embedding.

    Attributes:
      width: of the tokens; the projection brings it to `output_dim`.
      heads: of the attention; None, one for each 64 of the width.
      image_size: side of the square input, a multiple of `patch_size`.
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
            hidden_act='quick_gelu',  # OpenAI's weights were trained with it
        )
        tower = clip.FlaxCLIPVisionTransformer(config, self.dtype, name='vision_model')
        tokens, pooled = tower(images, deterministic=not train, return_dict=False)[:2]
        project = nn.Dense(self.output_dim, use_bias=False, name='visual_projection')
        embedding = project(pooled.astype(jnp.float32))
        out = {'tokens': tokens, 'embedding': embedding}
        if not self.num_classes:
            return embedding, out
        return Linear(self.num_classes, name='head')(embedding), out


def flax_clip() -> ModuleType:
    """Hugging Face's Flax CLIP; version 5 of transformers dropped it."""
    import transformers

    if int(transformers.__version__.split('.')[0]) >= 5:
        raise ValueError(
            f'transformers {transformers.__version__} is installed, which has no Flax models; '
            "CLIP's ViT needs version 4: pip install 'transformers>=4.57,<5'"
        )
    # Else the first module built logs that Flax classes go away in version 5.
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    from transformers.models.clip import modeling_flax_clip

    transformers.logging.set_verbosity(verbosity)
    return modeling_flax_clip


MODELS = {
    'clip_vit_b32': functools.partial(
        ClipVit, width=768, layers=12, patch_size=32, output_dim=512, image_size=224
    )
}
