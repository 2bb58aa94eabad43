"""C04's late fusion of any frozen encoders, of sound too; means of a clip's frames, or attention.

Paper: none; the network is that of Okazaki et al. 2021, Table 1, with other encoders.
Expect: not known on TAU.
Needs: TAU (python -m tfds_tau.build --config=clips) and the encoders' weights; else the demo data.
Command: python -m avsc_jax.main --config=configs/late_fusion.py:clip_vit_l14+mn10_as,tau
Try it: python -m avsc_jax.main --config=configs/late_fusion.py:clip_vit_l14+mn10_as,demo
"""

from avsc_jax.configs import common

VARIANTS = {
    'encoders': (
        'clip_vit_l14+mn10_as',
        'clip_rn50x4+clip_rn101+clip_vit_b32',  # C04's
        'clip_vit_b32+openl3_audio+yamnet',
        *common.PROBED,
    ),
    'frames': {
        'mean': "the mean of a clip's frames",
        'attention': 'their mean with weights that are learned',
    },
}


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS, final=True, joined=('encoders',))
    config = common.experiment(choice, items='clip')
    names = choice['encoders'].split('+')
    config.encoders = {name: common.WITHOUT_HEAD.get(name, {}) for name in names}
    config.frames, config.short_side = 'clip12', 448
    config.pool = 'mean' if choice['frames'] == 'mean' else 'sequence'
    config.standardize = True
    config.model = dict(name='late_fusion', dropout=0.5)

    # A clip is one row, where C04 has twelve: more epochs, and the loss that is reported.
    config.batch_size = 64
    config.epochs = 40
    config.optimizer = 'adam'
    config.learning_rate = 5e-4
    config.schedule = 'warmup_cosine'
    config.warmup = 0.05
    config.weight_decay = 1e-4
    config.mixup_alpha = 0.2
    config.loss = dict(name='cross_entropy')
    config.select = 'last'  # no clip that is reported on selects the epoch

    scores = dict(log_loss=None, accuracy=None, granularity='clip')
    config.paper = dict(row='late fusion', source='', **scores)
    config.demo = dict(encoders={name: common.PROBED[name] for name in names}, batch_size=16)
    return config
