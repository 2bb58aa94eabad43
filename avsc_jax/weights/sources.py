"""Where pretrained weights come from, and what their networks expect of a picture."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Source:
    """A published set of weights.

    Attributes:
      url: the publisher's file, with our reader's names of parameters.
      sha256: of that file; None where it is not known for certain.
      hub: the same weights as safetensors, repository and file on huggingface.co.
      resize: what becomes `image_size` before the crop.
      mean, std: of the channels R, G, B, pixels being in [0, 1].
    """

    publisher: str
    licence: str
    url: str
    sha256: str | None
    hub: str
    image_size: int
    resize: str
    interpolation: str
    crop: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _openai_clip(file: str, sha256: str, hub: str, image_size: int) -> Source:
    """Radford et al. 2021; OpenAI's addresses hold each file's SHA-256."""
    return Source(
        publisher='openai/CLIP',
        licence='MIT',
        url=f'https://openaipublic.azureedge.net/clip/models/{sha256}/{file}',
        sha256=sha256,
        hub=hub,
        image_size=image_size,
        resize='short side',
        interpolation='bicubic',
        crop='centre',
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    )


SOURCES = {
    'clip_rn101': _openai_clip(
        'RN101.pt',
        '8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599',
        hub='timm/resnet101_clip.openai/open_clip_model.safetensors',
        image_size=224,
    ),
    'clip_rn50x4': _openai_clip(
        'RN50x4.pt',
        '7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd',
        hub='timm/resnet50x4_clip.openai/open_clip_model.safetensors',
        image_size=288,
    ),
    'clip_vit_b32': _openai_clip(
        'ViT-B-32.pt',
        '40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af',
        hub='timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors',
        image_size=224,
    ),
}
