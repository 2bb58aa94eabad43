"""The published weights of each network."""

import dataclasses

from avsc_jax.models import sources
from avsc_jax.models.sources import Source

SOURCES = {
    'clip_rn101': sources.openai_clip(
        'RN101.pt',
        '8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599',
        hub='timm/resnet101_clip.openai/open_clip_model.safetensors',
        image_size=224,
    ),
    'clip_rn50x4': sources.openai_clip(
        'RN50x4.pt',
        '7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd',
        hub='timm/resnet50x4_clip.openai/open_clip_model.safetensors',
        image_size=288,
    ),
    'clip_vit_b32': sources.openai_clip(
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
    'resnet18': sources.timm('resnet18.a1_in1k', 'Apache-2.0', 'bicubic', 0.95),
    'resnet50': sources.timm('resnet50.a1_in1k', 'Apache-2.0', 'bicubic', 0.95),
    'tv_resnet50': sources.timm('resnet50.tv_in1k', 'BSD-3-Clause', 'bilinear', 0.875),
    'regnetx_002': sources.timm('regnetx_002.pycls_in1k', 'MIT', 'bicubic', 0.875),
    'regnetx_064': sources.timm('regnetx_064.pycls_in1k', 'MIT', 'bicubic', 0.875),
    'resnest14d': sources.timm('resnest14d.gluon_in1k', 'Apache-2.0', 'bilinear', 0.875),
    'resnest50d': sources.timm('resnest50d.in1k', 'Apache-2.0', 'bilinear', 0.875),
    'hrnet_w18_small': sources.timm('hrnet_w18_small.gluon_in1k', 'Apache-2.0', 'bicubic', 0.875),
    'hrnet_w18': sources.timm('hrnet_w18.ms_aug_in1k', 'MIT', 'bilinear', 0.95),
}
_HALF = {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}
SOURCES |= {
    'tf_efficientnet_b0': sources.timm(
        'tf_efficientnet_b0.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.875
    ),
    'tf_efficientnet_b1_ns': sources.timm(
        'tf_efficientnet_b1.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.882, image_size=240
    ),
    'tf_efficientnet_b5': sources.timm(
        'tf_efficientnet_b5.ns_jft_in1k', 'Apache-2.0', 'bicubic', 0.934, image_size=456
    ),
    'efficientnet_b5': dataclasses.replace(
        sources.timm(
            'efficientnet_b5.sw_in12k_ft_in1k', 'Apache-2.0', 'bicubic', 1.0, image_size=448
        ),
        resize='both sides',
    ),
    'tf_efficientnet_lite0': dataclasses.replace(
        sources.timm('tf_efficientnet_lite0.in1k', 'Apache-2.0', 'bicubic', 0.875), **_HALF
    ),
    'tf_efficientnetv2_s': dataclasses.replace(
        sources.timm(
            'tf_efficientnetv2_s.in21k_ft_in1k', 'Apache-2.0', 'bicubic', 1.0, image_size=300
        ),
        **_HALF,
    ),
    'swin_tiny_patch4_window7_224': sources.timm(
        'swin_tiny_patch4_window7_224.ms_in1k', 'MIT', 'bicubic', 0.9
    ),
}
SOURCES |= {
    'openl3_audio': sources.openl3('audio', '34dbd7a91cdd2de6a3d6d036ac0a24d27d78e3cc'),
    'openl3_image': sources.openl3('image', 'dbdf24a7e837267487adb3eed1586fcd2e37d775'),
}


def source_of(name: str) -> Source:
    """The published weights of a network; an error that lists the networks which have some."""
    if name not in SOURCES:
        raise ValueError(f'no weights are published for {name}; there are {", ".join(SOURCES)}')
    return SOURCES[name]
