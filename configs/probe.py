"""A probe of sound and picture: logistic regression on the mean features of real, small encoders.

Paper: none; a linear probe of ImageNet's and AudioSet's classifiers, whose weights come with pip.
Expect: not known on TAU.
Needs: TAU (python -m tfds_tau.build --config=clips); else the demo data.
Command: python -m avsc_jax.main --config=configs/probe.py:tau
Try it: python -m avsc_jax.main --config=configs/probe.py:demo
"""

from avsc_jax.configs import common

DEFAULT = 'tf_efficientnet_lite0+yamnet'
VARIANTS = {'encoders': (DEFAULT, *common.PROBED)}


def get_config(argument=''):
    config = common.probe(common.parse(argument, VARIANTS, final=True, joined=('encoders',)))
    scores = dict(log_loss=None, accuracy=None, granularity='clip')
    config.paper = dict(row='probe', source='', **scores)
    return config
