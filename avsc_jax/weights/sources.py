"""Where pretrained weights come from, and what their networks expect of a picture."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Source:
    """A published set of weights.

    Attributes:
      url: the publisher's file; None where no hash of it is known for certain.
      sha256: of that file.
      git_sha1: of that file, as git names it: of `blob`, its size and its content.
      hub: the same weights as safetensors, repository and file on huggingface.co.
      shares: the network whose file holds these weights too.
      image_size: and what follows is None for a network of sound.
      resize: what becomes `image_size / crop_fraction` before the crop to `image_size`;
        'openl3' stands for all of `images.openl3_pictures`.
      mean, std: of the channels R, G, B, pixels being in [0, 1].
    """

    publisher: str
    licence: str
    url: str | None
    sha256: str | None
    hub: str | None
    image_size: int | None
    resize: str | None
    interpolation: str | None
    crop: str | None
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    crop_fraction: float = 1.0
    shares: str | None = None
    git_sha1: str | None = None

    @property
    def addresses(self) -> list[str]:
        """Of the same weights; the first is where they are fetched from."""
        found = [self.url] if self.url else []
        if self.hub:
            owner, repository, file = self.hub.split('/', 2)
            found.append(f'https://huggingface.co/{owner}/{repository}/resolve/main/{file}')
        return found


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


def _timm(
    name: str, licence: str, interpolation: str, crop_fraction: float, image_size: int = 224
) -> Source:
    """Wightman's copies on the hub; the figures are timm 1.0.31's `default_cfg`."""
    return Source(
        publisher='huggingface/pytorch-image-models',
        licence=licence,
        url=None,
        sha256=None,
        hub=f'timm/{name}/model.safetensors',
        image_size=image_size,
        resize='short side',
        interpolation=interpolation,
        crop='centre',
        crop_fraction=crop_fraction,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def _openl3(kind: str, git_sha1: str) -> Source:
    """Cramer et al. 2019, trained on environmental sound; of branch `models` of marl/openl3."""
    of_pictures = kind == 'image'
    return Source(
        publisher='marl/openl3',
        licence='CC BY 4.0',
        url=f'https://github.com/marl/openl3/raw/models/openl3_{kind}_mel256_env-v0_4_0.h5.gz',
        sha256=None,
        git_sha1=git_sha1,
        hub=None,
        image_size=224 if of_pictures else None,
        resize='openl3' if of_pictures else None,
        interpolation='bilinear' if of_pictures else None,
        crop='centre' if of_pictures else None,
        crop_fraction=224 / 256,
        mean=(0.0, 0.0, 0.0) if of_pictures else None,
        std=(1.0, 1.0, 1.0) if of_pictures else None,
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
# The text towers lie in the same files, and were trained with the same pictures.
SOURCES |= {
    f'{name}_text': dataclasses.replace(source, shares=name) for name, source in SOURCES.items()
}
SOURCES |= {
    'resnet18': _timm('resnet18.a1_in1k', 'Apache-2.0', 'bicubic', 0.95),
    'resnet50': _timm('resnet50.a1_in1k', 'Apache-2.0', 'bicubic', 0.95),
    'tv_resnet50': _timm('resnet50.tv_in1k', 'BSD-3-Clause', 'bilinear', 0.875),
    'regnetx_002': _timm('regnetx_002.pycls_in1k', 'MIT', 'bicubic', 0.875),
    'regnetx_064': _timm('regnetx_064.pycls_in1k', 'MIT', 'bicubic', 0.875),
    'resnest14d': _timm('resnest14d.gluon_in1k', 'Apache-2.0', 'bilinear', 0.875),
    'resnest50d': _timm('resnest50d.in1k', 'Apache-2.0', 'bilinear', 0.875),
    'hrnet_w18_small': _timm('hrnet_w18_small.gluon_in1k', 'Apache-2.0', 'bicubic', 0.875),
    'hrnet_w18': _timm('hrnet_w18.ms_aug_in1k', 'MIT', 'bilinear', 0.95),
}
_HALF = {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
SOURCES |= {
    'tf_efficientnet_b0': _timm('tf_efficientnet_b0.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.875),
    'tf_efficientnet_b1_ns': _timm(
        'tf_efficientnet_b1.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.882, image_size=240
    ),
    'tf_efficientnet_b5': _timm(
        'tf_efficientnet_b5.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.934, image_size=456
    ),
    'efficientnet_b5': dataclasses.replace(
        _timm('efficientnet_b5.sw_in12k_ft_in1k', 'Apache-2.0', 'bicubic', 1.0, image_size=448),
        resize='both sides',
    ),
    'tf_efficientnet_lite0': dataclasses.replace(
        _timm('tf_efficientnet_lite0.in1k', 'Apache-2.0', 'bicubic', 0.875), **_HALF
    ),
    'tf_efficientnetv2_s': dataclasses.replace(
        _timm('tf_efficientnetv2_s.in21k_ft_in1k', 'Apache-2.0', 'bicubic', 1.0, image_size=300),
        **_HALF,
    ),
    'swin_tiny_patch4_window7_224': _timm(
        'swin_tiny_patch4_window7_224.ms_in1k', 'MIT', 'bicubic', 0.9
    ),
}
SOURCES |= {
    'openl3_audio': _openl3('audio', '34dbd7a91cdd2de6a3d6d036ac0a24d27d78e3cc'),
    'openl3_image': _openl3('image', 'dbdf24a7e837267487adb3eed1586fcd2e37d775'),
}


def source_of(name: str) -> Source:
    """The published weights of a network; an error that lists the networks which have some."""
    if name not in SOURCES:
        raise ValueError(f'no weights are published for {name}; there are {", ".join(SOURCES)}')
    return SOURCES[name]
