"""Hou's dual-stream network: OpenL3's embeddings of the sound, a ResNet-50 on ten pictures.

Paper: Hou et al. 2021, DCASE 2021 challenge, task 1B.
Expect: log loss 0.318, accuracy 90.0 % (final), most likely on the 739 clips that select it.
Needs: TAU (python -m tfds_tau.build --config=frames10), the networks' weights; else the demo.
Command: python -m avsc_jax.main --config=configs/hou_dual_stream.py:final,tau
Try it: python -m avsc_jax.main --config=configs/hou_dual_stream.py:final,demo
"""

from avsc_jax.configs import common

VARIANTS = {
    'network': ('final', 'model_1', 'model_3', 'model_4'),
    # The report says "weight decay 0.1"; its code has none, but lowers the rate where
    # (epoch + 1) % 20 == 0, before the epoch's steps.
    'decay': ('rate_half', 'rate_tenth', 'weight_decay'),
}


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS)
    network, decay = choice['network'], choice['decay']
    config = common.experiment(choice, items='clip', config='frames10', inner=True)
    if choice['protocol'] == 'paper':
        config.data.test = 'validation'

    common.openl3(config, picture=False)
    config.pool = 'sequence'
    config.length = 96  # a one-second item's six frames are repeated, others completed by zeros

    config.frames = 'hou'
    config.short_side = 448
    config.pictures = 10
    config.size, config.interpolation = (224, 224), 'bicubic'
    config.mean, config.std = (0.432, 0.413, 0.417), (0.231, 0.230, 0.231)
    config.augment = dict(horizontal_flip=dict(probability=0.5))  # of each picture

    config.model = dict(name=f'hou_{network}', scaled=False)
    config.pretrained = 'tv_resnet50'
    config.pretrained_part = 'resnet'

    config.batch_size = 16
    config.epochs = 50
    config.optimizer = 'adam'
    config.learning_rate = 1e-4
    config.drop_at = (19, 39) if decay != 'weight_decay' else ()
    config.factor = 0.1 if decay == 'rate_tenth' else 0.5
    config.weight_decay = 0.1 if decay == 'weight_decay' else 0.0
    config.loss = dict(name='cross_entropy')
    config.select = 'log_loss'

    is_papers = (network, decay) == ('final', 'rate_half')
    config.paper = dict(
        row=f'Hou {network}' + ('' if decay == 'rate_half' else f', {decay}'),
        source='Hou et al. 2021',
        log_loss=0.318 if is_papers else None,
        accuracy=0.900 if is_papers else None,
        granularity='clip',
    )

    # On demo data: a narrow network on small pictures, from random weights.
    config.demo.update(
        dict(
            model=dict(
                embedding_size=384, image_size=64, layers=(1, 1, 1, 1), width=8,
                filters=(8, 16, 32), features=64,
            ),
            size=(64, 64),
            epochs=10,
            learning_rate=1e-3,
            drop_at=(7, 9),
        )
    )  # fmt: skip
    del config.demo.model.embeddings
    return config
