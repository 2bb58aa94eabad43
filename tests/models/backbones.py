"""The backbones, one row each: test_backbones.py checks what a row says.

Numbers are the sources' own: published parameter counts, feature maps at the size of pretraining,
names of tensors.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

SIDE = 64  # of the golden files' pictures
# Made by the code of another network of the table: tracing takes seconds for each.
LARGER = (
    'tf_efficientnet_b1_ns', 'tf_efficientnet_b5', 'efficientnet_b5', 'efficientnetv2_s',
    'hrnet_w18', 'clip_vit_b16', 'clip_vit_l14', 'clip_vit_l14_336', 'clip_vit_b16_text',
    'clip_vit_l14_text', 'clip_vit_l14_336_text', 'mn02_as', 'mn04_as', 'mn05_as', 'mn20_as',
    'mn30_as', 'mn40_as',
)  # fmt: skip


class Live(NamedTuple):
    """Pictures on which a network is compared with its peer, with all gradients if in `train`."""

    height: int
    width: int
    rows: int = 2
    train: bool = False


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The facts of a network that the tests check.

    Attributes:
      parameters: trainable values, with ten classes where the network has a head.
      outputs: shapes of all that it answers to its own input, without the batch.
      side: of the pictures of pretraining; 0 for what takes no pictures.
      leaves: tensors of the source -> paths of our variables.
      peer: whose network is the reference of goldens and of `live`: 'timm' or 'efficientat'.
      channels: of the pictures.
      modules: the peer's whose outputs are compared; ours have `_` for `.`, `_0` ... for a list.
      channels_last: these are [B, H, W, K] in timm too.
      name: of the network, where the key is not it (small ones, made by `options`).
      timm_options, options: of timm's network and of ours.
      golden: what is compared with the golden file: '' nothing, 'all' answers and gradients,
        'answers' gradients among the slow tests only, 'slow' all among the slow tests.
      live: pictures of the tests marked `parity`.
      slow: whether these are slow too.
      classes: of its own head, if it has one.
    """

    parameters: int | None = None
    outputs: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    leaves: Mapping[str, str] = dataclasses.field(default_factory=dict)
    side: int = 224
    peer: str = 'timm'
    channels: int = 3
    modules: tuple[str, ...] = ()
    channels_last: bool = False
    name: str | None = None
    timm_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    golden: str = ''
    live: tuple[Live, ...] = ()
    slow: bool = False
    classes: int = 1000


def maps(sides: tuple[int, ...], **channels: int) -> dict[str, tuple[int, ...]]:
    """Shapes of square feature maps, and of the embedding, which comes last in `channels`."""
    *names, embedding = channels
    shapes = {name: (side, side, channels[name]) for name, side in zip(names, sides, strict=True)}
    return shapes | {embedding: (channels[embedding],)}


def blocks(
    sides: tuple[int, ...], channels: tuple[int, ...], embedding: int = 1280
) -> dict[str, tuple[int, ...]]:
    """Shapes of an EfficientNet's maps: the stem's, then those of its stages."""
    stem, *stages = channels
    named = {f'blocks_{n}': width for n, width in enumerate(stages)}
    return maps(sides, stem=stem, **named, embedding=embedding)


# Number of each layer of YAMNet, how often it halves the first one's map, and channels.
YAMNET_LAYERS = [(1, 0, 32), (2, 0, 64), (3, 1, 128), (4, 1, 128), (5, 2, 256), (6, 2, 256)]
YAMNET_LAYERS += [(n, 3, 512) for n in range(7, 13)] + [(13, 4, 1024), (14, 4, 1024)]
ODD = (Live(97, 131), Live(256, 100))
FULL = (Live(224, 224), *ODD, Live(64, 64, rows=4, train=True))


def at_side(side: int) -> tuple[Live, ...]:
    """Pictures of odd size, of a spectrogram's and of pretraining's."""
    return Live(97, 131, train=True), Live(256, 100), Live(side, side, rows=1)


def branches(width: int, first: int) -> dict[str, tuple[int, ...]]:
    """Shapes of an HRNet's maps: each stage has one branch more, at half the resolution."""
    sides = {f'stage{n}_{k}': k for n in (2, 3, 4) for k in range(n)}
    shapes = {name: (56 // 2**k, 56 // 2**k, width * 2**k) for name, k in sides.items()}
    return {'layer1': (56, 56, first), **shapes, 'final_layer': (7, 7, 2048), 'embedding': (2048,)}


LAYERS = ('layer1', 'layer2', 'layer3', 'layer4')
RESNET50 = maps((56, 28, 14, 7), layer1=256, layer2=512, layer3=1024, layer4=2048, embedding=2048)
REGNET = ('stem', 's1', 's2', 's3', 's4')
HRNET = ('layer1', 'stage2', 'stage3', 'stage4', 'final_layer')
EFFICIENTNET = tuple(f'blocks.{n}' for n in range(7))
B0 = (32, 16, 24, 40, 80, 112, 192, 320)
B5 = (48, 24, 40, 64, 128, 176, 304, 512)
V2 = tuple(f'blocks.{n}' for n in range(6))
V2_S = (24, 24, 48, 64, 128, 160, 256)
SMALL_V2 = {'channel_multiplier': 0.25, 'depth_multiplier': 0.125}
SWIN = ('patch_embed', *(f'layers.{n}' for n in range(4)))
NARROW_SWIN = {'window_size': 4, 'embed_dim': 16, 'depths': (2, 2, 1, 1), 'num_heads': (1, 2, 4, 8)}


def small_swin(side: int, **more: Any) -> Backbone:
    """A narrow Swin for pictures of a side."""
    return Backbone(
        name='swin_tiny_patch4_window7_224',
        modules=SWIN,
        channels_last=True,
        timm_options={**NARROW_SWIN, 'img_size': side},
        options={**NARROW_SWIN, 'image_size': side},
        **more,
    )


def text_tower(parameters: int, width: int) -> Backbone:
    """One of CLIP's towers of 77 tokens."""
    return Backbone(parameters, {'tokens': (77, width), 'embedding': (width,)}, side=0)


MN_MODULES = tuple(f'features.{n}' for n in range(16))


def mn(
    parameters: int, stages: tuple[int, ...], pooled: int, embedding: int, **more: Any
) -> Backbone:
    """A network of EfficientAT, by the channels of its stages: 2, 2, 3, 4, 2 and 3 maps."""
    maps = [(c, s) for c, s, n in zip(stages, MN_STRIDES, MN_MAPS, strict=True) for _ in range(n)]
    outputs = {f'features_{n}': (128 // s, -(-1000 // s), c) for n, (c, s) in enumerate(maps)}
    outputs |= {'pooled': (pooled,), 'embedding': (embedding,)}
    own = {'classes': 527, 'peer': 'efficientat', 'channels': 1, 'modules': MN_MODULES}
    return Backbone(parameters, outputs, side=0, options={'drop_rate': 0.0}, **own, **more)


MN_STRIDES, MN_MAPS = (2, 4, 8, 16, 16, 32), (2, 2, 3, 4, 2, 3)
BACKBONES = {
    'resnet18': Backbone(
        11_181_642,
        maps((56, 28, 14, 7), layer1=64, layer2=128, layer3=256, layer4=512, embedding=512),
        modules=LAYERS,
        golden='answers',
        live=ODD,
    ),
    'resnet50': Backbone(
        23_528_522,
        RESNET50,
        {
            'conv1.weight': 'params/conv1/kernel',
            'bn1.running_mean': 'batch_stats/bn1/mean',
            'layer3.5.conv3.weight': 'params/layer3_5/conv3/kernel',
            'layer4.0.downsample.0.weight': 'params/layer4_0/downsample_0/kernel',
            'layer4.0.downsample.1.running_var': 'batch_stats/layer4_0/downsample_1/var',
            'layer1.2.bn2.weight': 'params/layer1_2/bn2/scale',
            'fc.bias': 'params/head/bias',
        },
        modules=LAYERS,
        live=FULL,
        slow=True,
    ),
    'tv_resnet50': Backbone(23_528_522, RESNET50),
    'regnetx_small': Backbone(
        name='regnetx_002',
        modules=REGNET,
        timm_options={'depth': 5, 'w0': 8, 'wa': 14.0, 'wm': 2.0},
        options={'widths': (8, 16, 32, 64), 'layers': (1, 1, 1, 2)},
        golden='answers',
    ),
    'regnetx_002': Backbone(
        2_319_482,
        maps((112, 56, 28, 14, 7), stem=32, s1=24, s2=56, s3=152, s4=368, embedding=368),
        modules=REGNET,
        live=ODD,
    ),
    'regnetx_064': Backbone(
        24_600_506,
        maps((112, 56, 28, 14, 7), stem=32, s1=168, s2=392, s3=784, s4=1624, embedding=1624),
        {
            'stem.conv.weight': 'params/stem/conv/kernel',
            'stem.bn.running_var': 'batch_stats/stem/bn/var',
            's3.b10.conv2.conv.weight': 'params/s3_b10/conv2/conv/kernel',
            's4.b1.downsample.bn.weight': 'params/s4_b1/downsample/bn/scale',
            'head.fc.weight': 'params/head/kernel',
        },
        modules=REGNET,
        live=FULL,
        slow=True,
    ),
    'resnest14d': Backbone(8_583_178, RESNET50, modules=LAYERS, golden='slow', live=ODD),
    'resnest50d': Backbone(
        25_454_730,
        RESNET50,
        {
            'conv1.0.weight': 'params/conv1_0/kernel',
            'conv1.4.running_var': 'batch_stats/conv1_4/var',
            'bn1.bias': 'params/bn1/bias',
            'layer3.5.conv2.conv.weight': 'params/layer3_5/conv2/conv/kernel',
            'layer3.5.conv2.bn0.bias': 'params/layer3_5/conv2/bn0/bias',
            'layer3.5.conv2.fc1.bias': 'params/layer3_5/conv2/fc1/bias',
            'layer1.0.downsample.1.weight': 'params/layer1_0/downsample_1/kernel',
            'layer4.0.downsample.2.running_mean': 'batch_stats/layer4_0/downsample_2/mean',
            'fc.weight': 'params/head/kernel',
        },
        modules=LAYERS,
        live=FULL,
        slow=True,
    ),
    'hrnet_w18_small': Backbone(
        11_158_954, branches(16, 128), modules=HRNET, golden='slow', live=ODD
    ),
    'hrnet_w18': Backbone(
        19_270_494,
        branches(18, 256),
        {
            'conv2.weight': 'params/conv2/kernel',
            'layer1.3.bn3.running_mean': 'batch_stats/layer1_3/bn3/mean',
            'layer1.0.downsample.0.weight': 'params/layer1_0/downsample_0/kernel',
            'transition1.0.0.weight': 'params/transition1_0_0/kernel',
            'transition1.1.0.1.bias': 'params/transition1_1_0_1/bias',
            'transition3.3.0.0.weight': 'params/transition3_3_0_0/kernel',
            'stage3.3.branches.2.3.conv1.weight': 'params/stage3_3/branches_2_3/conv1/kernel',
            'stage4.2.fuse_layers.0.3.1.running_var': 'batch_stats/stage4_2/fuse_layers_0_3_1/var',
            'stage4.2.fuse_layers.3.0.2.0.weight': 'params/stage4_2/fuse_layers_3_0_2_0/kernel',
            'stage4.0.fuse_layers.3.0.1.1.weight': 'params/stage4_0/fuse_layers_3_0_1_1/scale',
            'incre_modules.3.0.downsample.1.weight': 'params/incre_modules_3_0/downsample_1/scale',
            'downsamp_modules.2.0.bias': 'params/downsamp_modules_2_0/bias',
            'final_layer.1.running_mean': 'batch_stats/final_layer_1/mean',
            'classifier.bias': 'params/head/bias',
        },
        modules=HRNET,
        live=FULL,
        slow=True,
    ),
    'tf_efficientnet_lite0': Backbone(
        3_383_818,
        blocks((112, 112, 56, 28, 14, 14, 7, 7), B0),
        modules=EFFICIENTNET,
        golden='slow',
        live=at_side(224),
    ),
    'tf_efficientnet_b0': Backbone(
        4_020_358,
        blocks((112, 112, 56, 28, 14, 14, 7, 7), B0),
        modules=EFFICIENTNET,
        golden='slow',
        live=at_side(224),
    ),
    'tf_efficientnet_b1_ns': Backbone(
        6_525_994,
        blocks((120, 120, 60, 30, 15, 15, 8, 8), B0),
        modules=EFFICIENTNET,
        side=240,
        live=at_side(240),
    ),
    'tf_efficientnet_b5': Backbone(  # XLA takes minutes to compile a step of this and the larger
        28_361_274,
        blocks((228, 228, 114, 57, 29, 29, 15, 15), B5, 2048),
        modules=EFFICIENTNET,
        side=456,
        live=at_side(456),
        slow=True,
    ),
    'efficientnet_b5': Backbone(
        28_361_274,
        blocks((224, 224, 112, 56, 28, 28, 14, 14), B5, 2048),
        modules=EFFICIENTNET,
        side=448,
        live=at_side(448),
        slow=True,
    ),
    'tf_efficientnetv2_s': Backbone(
        20_190_298,
        blocks((150, 150, 75, 38, 19, 19, 10), V2_S),
        modules=V2,
        side=300,
        live=at_side(300),
        slow=True,
    ),
    'efficientnetv2_s': Backbone(
        20_190_298,
        blocks((144, 144, 72, 36, 18, 18, 9), V2_S),
        modules=V2,
        side=288,
        live=at_side(288),
        slow=True,
    ),
    'efficientnetv2_small': Backbone(
        name='efficientnetv2_s',
        modules=V2,
        timm_options=SMALL_V2,
        options=SMALL_V2,
        golden='answers',
    ),
    'swin_tiny_patch4_window7_224': Backbone(
        27_527_044,
        maps(
            (56, 56, 28, 14, 7),
            patch_embed=96,
            layers_0=96,
            layers_1=192,
            layers_2=384,
            layers_3=768,
            embedding=768,
        ),
        modules=SWIN,
        channels_last=True,
        live=(Live(224, 224, train=True),),
    ),
    'swin_small': small_swin(SIDE, golden='answers'),
    # maps of 17, 9, 5 and 3 places a side
    'swin_padded': small_swin(68, live=(Live(68, 68, train=True),)),
    # With a text tower and a temperature, the image tower has the 151,277,313 of OpenAI's ViT-B/32.
    'clip_vit_b32': Backbone(87_849_216, {'tokens': (7 * 7 + 1, 768), 'embedding': (512,)}),
    # The same holds for 149,620,737, 427,616,513 and 427,944,193.
    'clip_vit_b16': Backbone(86_192_640, {'tokens': (14 * 14 + 1, 768), 'embedding': (512,)}),
    'clip_vit_l14': Backbone(303_966_208, {'tokens': (16 * 16 + 1, 1024), 'embedding': (768,)}),
    'clip_vit_l14_336': Backbone(
        304_293_888, {'tokens': (24 * 24 + 1, 1024), 'embedding': (768,)}, side=336
    ),
    'clip_rn101': Backbone(
        56_259_936,
        maps((56,), stem=64, embedding=512) | {**RESNET50, 'embedding': (512,)},
    ),
    'clip_rn50x4': Backbone(
        87_137_080,
        maps(
            (72, 72, 36, 18, 9),
            stem=80,
            layer1=320,
            layer2=640,
            layer3=1280,
            layer4=2560,
            embedding=640,
        ),
        side=288,
    ),
    'clip_rn101_text': text_tower(63_428_096, 512),
    'clip_rn50x4_text': text_tower(91_163_520, 640),
    'clip_vit_b32_text': text_tower(63_428_096, 512),
    'clip_vit_b16_text': text_tower(63_428_096, 512),
    'clip_vit_l14_text': text_tower(123_650_304, 768),
    'clip_vit_l14_336_text': text_tower(123_650_304, 768),
    # The counts follow from the layers; Kumari et al. 2019 tell 4.69 million for sound.
    'openl3_audio': Backbone(
        4_687_042,
        {
            'block1': (128, 99, 64),
            'block2': (64, 49, 128),
            'block3': (32, 24, 256),
            'block4': (32, 24, 512),
            'embedding': (512,),
        },
        side=0,
    ),
    'openl3_image': Backbone(
        4_688_198,
        maps((112, 56, 28, 28), block1=64, block2=128, block3=256, block4=512, embedding=512),
    ),
    # With all 521 classes 3,729,481, and 21,888 statistics: the 3.75 million that are published.
    'yamnet': Backbone(
        3_205_706,
        classes=521,
        outputs={
            **{f'layer{n}': (48 // 2**k, 32 // 2**k, width) for n, k, width in YAMNET_LAYERS},
            'embedding': (1024,),
        },
        side=0,
    ),
    # With all 527 classes 4,876,831, the 4.88 million of the README; and 0.983, 1.43, 17.91, 39.09
    # and 68.43 million of mn04, mn05, mn20, mn30 and mn40. It tells none of mn01 and mn02.
    'mn10_as': mn(
        4_214_554,
        (16, 24, 40, 80, 112, 160),
        960,
        1280,
        leaves={
            'features.0.0.weight': 'params/features_0_0/kernel',
            'features.1.block.1.1.running_mean': 'batch_stats/features_1/block_1_1/mean',
            'features.4.block.2.conc_se_layers.0.fc1.weight': (
                'params/features_4/block_2_conc_se_layers_0/conv_reduce/kernel'
            ),
            'features.15.block.3.0.weight': 'params/features_15/block_3_0/kernel',
            'features.16.1.bias': 'params/features_16_1/bias',
            'classifier.2.weight': 'params/classifier_2/kernel',
            'classifier.5.bias': 'params/head/bias',
        },
        golden='slow',
        live=(Live(128, 1000), Live(97, 131, train=True)),
    ),
    'mn01_as': mn(
        57_090,
        (8, 8, 8, 8, 16, 16),
        96,
        128,
        golden='answers',
        live=(Live(64, 96, train=True),),
    ),
    'mn02_as': mn(191_826, (8, 8, 8, 16, 24, 32), 192, 256),
    'mn04_as': mn(718_378, (8, 16, 16, 32, 48, 64), 384, 512),
    'mn05_as': mn(1_099_842, (8, 16, 24, 40, 56, 80), 480, 640),
    'mn20_as': mn(16_585_250, (32, 48, 80, 160, 224, 320), 1920, 2560),
    'mn30_as': mn(37_100_570, (48, 72, 120, 240, 336, 480), 2880, 3840),
    'mn40_as': mn(65_779_746, (64, 96, 160, 320, 448, 640), 3840, 5120),
}
