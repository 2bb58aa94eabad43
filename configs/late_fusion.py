"""Late fusion of any encoders: a small network on each one's mean features, joined.

Paper: none; C04's network (Okazaki et al. 2021, Sec. 2.3) on other encoders, sound included.
Expect: not known on TAU.
Needs: TAU (python -m tfds_tau.build --config=clips) and the encoders' weights; else the demo data.
Command: python -m avsc_jax.main --config=configs/late_fusion.py:clip_vit_l14+mn10_as,tau
Try it: python -m avsc_jax.main --config=configs/late_fusion.py:clip_vit_l14+mn10_as,demo
"""

from avsc_jax.configs import common

JOINS = ('clip_vit_l14+mn10_as', 'clip_vit_b32+yamnet', 'clip_rn101+openl3_audio+openl3_image')
VARIANTS = {'encoders': (*JOINS, *common.WIDTHS)}


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS, final=True, joined=('encoders',))
    config = common.experiment(choice, items='clip')
    common.mean_features(config, choice['encoders'])
    widths = {name: common.WIDTHS[name] for name in config.encoders}
    config.standardize = True  # encoders differ in size
    config.model = dict(
        name='clip_late_fusion',
        encoders={name: published for name, (published, _) in widths.items()},
    )

    config.batch_size = 48
    common.hitachi_optimisation(config)
    config.select = 'last'

    config.paper = dict(
        row='late fusion', source='', log_loss=None, accuracy=None, granularity='clip'
    )

    # On demo data: narrow encoders, with random weights.
    config.demo.batch_size = 12
    config.demo.model = dict(encoders={name: narrow for name, (_, narrow) in widths.items()})
    return config
