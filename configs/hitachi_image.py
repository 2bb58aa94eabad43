"""Image members of Hitachi's system (V01, V02, V03): networks on 12 frames of a clip.

Paper: Okazaki et al. 2021, Sec. 2.2 and 3, Tables 1, 2 and 5.
Expect: log loss 0.328, 0.367, 0.336, accuracy 90.0, 91.7, 90.9 % on fold 1, clips.
Needs: TAU (python -m tfds_tau.build --config=clips) and ImageNet weights; else the demo data.
Command: python -m avsc_jax.main --config=configs/hitachi_image.py:resnest50d,tau
Try it: python -m avsc_jax.main --config=configs/hitachi_image.py:regnetx_064,demo
"""

from avsc_jax.configs import common

VARIANTS = {'network': ('regnetx_064', 'resnest50d', 'hrnet_w18')}

PAPER = dict(
    regnetx_064=('V01', 0.328, 0.900),
    resnest50d=('V02', 0.367, 0.917),
    hrnet_w18=('V03', 0.336, 0.909),
)
# The weights of timm in 2021; its weights for the other two are still the same.
PRETRAINED = dict(hrnet_w18='hrnet_w18.ms_in1k')


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS)
    config = common.experiment(choice, items='frame')
    network = choice['network']

    config.frames = 'hitachi'  # 12 frames of a clip, 5 of a one-second item
    config.short_side = 448
    config.size = (448, 448)  # the whole frame
    config.augment = dict(
        random_affine=dict(degrees=10.0, translate=(0.1, 0.1), scale=(0.5, 1.5)),
        # default parameters, as in the paper; they change nothing
        color_jitter=dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0),
        gaussian_blur=dict(size=11, sigma=(0.1, 2.0)),
        random_erasing=dict(probability=0.5, area=(0.02, 0.33), aspect=(0.3, 3.3)),
    )
    config.mixup_alpha = 0.0  # off

    config.model = dict(name=network, image_size=448)
    config.pretrained = PRETRAINED.get(network, network)

    config.batch_size = 20
    common.hitachi_optimisation(config)

    row, log_loss, accuracy = PAPER[network]
    config.paper = dict(
        row=row,
        source='Okazaki et al. 2021, Table 2',
        log_loss=log_loss,
        accuracy=accuracy,
        granularity='clip',
    )

    # On demo data: a small sibling on small pictures, from random weights.
    config.demo = dict(
        model=common.SIBLINGS[network] | dict(image_size=64),
        size=(64, 64),
        epochs=8,
        learning_rate=0.02,
        drop_at=(5, 7),
    )
    return config
