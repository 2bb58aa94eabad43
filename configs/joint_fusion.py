"""Joint training: a picture network and a sound network learn together, and answer alone as well.

Paper: none; the parts are those of Wang et al. 2021 (IOA-CAS) and Okazaki et al. 2021, and joint
  Mixup, RandAugment and dropped modalities come from later work (docs/systems/joint_fusion.md).
Expect: nothing is published for it; on TAU it has not been run.
Needs: TAU (python -m tfds_tau.build --config=segments), timm's weights; else the demo data.
Command: python -m avsc_jax.main --config=configs/joint_fusion.py:tf_efficientnetv2_s,tau
Try it: python -m avsc_jax.main --config=configs/joint_fusion.py:resnet50,demo
"""

from avsc_jax.configs import common, ioacas_audio, ioacas_image

# Token -> front end, bands and columns (None: a second's frames), shape of the network's input.
SOUNDS = dict(
    resnet1d=('ioacas_logmel', None, (6, 2, 256)),
    resnest50d=('hitachi_logmel', (256, 100), (256, 100, 3)),
)
VARIANTS = dict(network=tuple(ioacas_image.NETWORKS), sound=tuple(SOUNDS))


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS, final=True)
    network, sound = choice['network'], choice['sound']
    (name, side, _), (front_end, spectrum, shape) = ioacas_image.NETWORKS[network], SOUNDS[sound]
    config = common.experiment(choice, items='second', config='segments')

    config.frames, config.short_side = 'second_centres', 480
    config.size, config.resize, config.canvas = (side, side), 'crop', (480, 853)
    config.piece_s = 1.0  # beside each frame
    config.front_end = dict(name=front_end, sample_rate_hz=48000)
    config.augment = dict(
        random_resized_crop=dict(size=(side, side), area=(0.25, 1.0)),
        horizontal_flip=dict(probability=0.5),
        rand_augment=dict(num_ops=2, magnitude=9),
        random_gain=dict(limit_db=6.0),
    )
    if spectrum:
        config.spectrum_size = spectrum
        config.augment.frequency_mask = dict(max_bands=24, num_masks=1)
    config.mixup_alpha = 0.2  # of both senses, with one weight and the same partner

    own = dict(name=sound) if spectrum else dict(name=sound, num_filters=256)
    config.model = dict(name='joint', sound_shape=shape, modality_dropout=0.2)
    config.model.update(picture=dict(name=name, image_size=side), sound=own)
    config.pretrained, config.pretrained_part = common.ioacas_weights(network, 'timm'), 'picture'
    config.rate_scale = dict(picture=0.1, sound=1.0)  # the picture network is trained already

    config.batch_size = 32
    config.epochs = 20
    config.schedule, config.warmup = 'warmup_cosine', 0.05
    config.learning_rate, config.momentum, config.weight_decay = 0.05, 0.9, 1e-4
    config.ema = 0.999
    config.loss = dict(name='cross_entropy')
    config.select = 'last'
    config.paper = dict(row=f'joint {network} {sound}', source='', log_loss=None, accuracy=None)
    config.paper.granularity = 'second'

    # On demo data: small networks and pictures, from random weights, all at one rate.
    crop = dict(size=(64, 64), area=(0.35, 1.0))
    small = dict(hidden=ioacas_audio.SMALL) if not spectrum else common.SIBLINGS[sound]
    config.demo = dict(model=dict(picture=ioacas_image.SMALL[network][0], sound=small, hidden=64))
    config.demo.update(dict(size=(64, 64), canvas=(144, 256), epochs=8, ema=0.98))
    config.demo.update(dict(augment=dict(random_resized_crop=crop), rate_scale=dict(picture=1.0)))
    if spectrum:
        config.demo.update(dict(spectrum_size=(64, 48)))
        config.demo.model.sound_shape = (64, 48, 3)
    return config
