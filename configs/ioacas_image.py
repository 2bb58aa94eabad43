"""Image systems of IOA-CAS: networks on the centre frame of each second, trained in stages.

Paper: Wang et al. 2021 (IOA-CAS technical report), Sec. 2.2 and 3.2, Table 3.
Expect: log loss 0.346, 0.274, 0.270, 0.371, accuracy 90.7, 90.9, 91.8, 88.8 % on fold 1, seconds.
Needs: TAU (python -m tfds_tau.build --config=segments), timm's weights; else the demo data. It
  trains on Places365 first if that is prepared (see avsc_jax/data/sources/pictures.py).
Command: python -m avsc_jax.main --config=configs/ioacas_image.py:tf_efficientnet_b5,tau
Try it: python -m avsc_jax.main --config=configs/ioacas_image.py:resnet50,demo
"""

from avsc_jax.configs import common

# Token -> network, side of its pictures (V2's is not in the paper), width of its embedding.
NETWORKS = dict(
    resnet50=('resnet50', 224, 2048),
    tf_efficientnet_b5=('tf_efficientnet_b5', 456, 2048),
    tf_efficientnetv2_s=('tf_efficientnetv2_s', 300, 1280),
    swin_tiny=('swin_tiny_patch4_window7_224', 224, 768),
)
SIDE = dict(image_size=64)  # side of the demo's pictures
# Options that make the networks small for the demo, and the widths of their embeddings then.
SMALL = dict(
    resnet50=(dict(name='resnet18', width=16, **SIDE), 128),
    tf_efficientnet_b5=(dict(channel_multiplier=0.3, depth_multiplier=0.1, **SIDE), 384),
    tf_efficientnetv2_s=(dict(channel_multiplier=0.3, depth_multiplier=0.05, **SIDE), 384),
    swin_tiny=(dict(patch_size=8, embed_dim=16, depths=(1, 2, 1), num_heads=(1, 2, 4), **SIDE), 64),
)
SCORES = (0.346, 0.907), (0.274, 0.909), (0.270, 0.918), (0.371, 0.888)
PAPER = dict(zip(NETWORKS, SCORES, strict=True))
SETS = dict(  # data sets of the stages before the scenes
    places=dict(name='places365', num_classes=365),
    imagenet=dict(name='imagenet2012', num_classes=1000),
)
# timm's weights of the paper's time or modern ones; or random ones, with a stage on ImageNet first.
START = (*common.IOACAS_WEIGHTS, 'scratch')
VARIANTS = dict(network=tuple(NETWORKS), stage=('scenes', *SETS), start=START)


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS, final=True)
    network, stage, start = choice['network'], choice['stage'], choice['start']
    (name, side, _), published = NETWORKS[network], common.ioacas_weights(network, start)
    config = common.experiment(choice, items='second', config='segments')
    if stage in SETS:
        splits = dict(train='train', valid='validation', test='validation')
        source = 'demo' if choice['data'] == 'demo' else 'tau'  # demo: small networks
        config.data = dict(SETS[stage], config='', source=source, items='frame', **splits)
    if before := dict(scenes='places', places='' if published else 'imagenet').get(stage):
        stages = f'ioacas_image.py:{network},{before}' + f',{start}' * (start != 'timm')
        config.members = {before: common.member(dict(data=choice['data']), stages)}
        config.begins_with, config.train_missing = before, True

    config.frames, config.short_side = 'second_centres', 480
    config.size = (side, side)
    config.resize = 'crop'  # goes with RandomResizedCrop; not in the paper. Or squash: whole frames
    config.canvas = (512, 512) if stage in SETS else (480, 853)  # what random crops are cut from
    config.augment = dict(
        random_resized_crop=dict(size=(side, side), area=(0.08, 1.0)),
        horizontal_flip=dict(probability=0.5),
        color_jitter=dict(brightness=0.4, contrast=0.4),  # amounts not in the paper
    )
    config.mixup_alpha = 0.2  # not in the paper

    config.model = dict(name=name, image_size=side)
    if published and stage != 'imagenet':
        config.pretrained = published
    else:
        config.mean, config.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    config.batch_size = 32
    config.epochs = 90 if stage == 'imagenet' else 10  # not in the paper, nor rate and warm-up
    config.schedule, config.warmup = 'warmup_cosine', 0.05
    config.learning_rate, config.momentum, config.weight_decay = 0.01, 0.9, 1e-4
    config.loss = dict(name='cross_entropy')
    config.select = 'last'

    log_loss, accuracy = (None, None) if stage in SETS else PAPER[network]
    config.paper = dict(
        row=f'IOA {network} {stage}' if stage in SETS else f'IOA {network}',
        source='Wang et al. 2021 (IOA-CAS), Table 3',
        log_loss=log_loss,
        accuracy=accuracy,
        granularity=config.data['items'],
        note=common.ioacas_note(network, start),
    )

    # On demo data: small networks and pictures, from random weights, with no stage before.
    crop = dict(size=(64, 64), area=(0.35, 1.0))
    config.demo = dict(model=SMALL[network][0], size=(64, 64), canvas=(144, 256), epochs=5)
    config.demo.update(dict(learning_rate=0.05, augment=dict(random_resized_crop=crop)))
    config.demo.paper = dict(note='')
    if before:
        config.demo.begins_with = ''
    return config
