"""A probe of CLIP: logistic regression on the mean image features of a clip.

Paper: none; the usual linear probe (Radford et al. 2021, Sec. 3.2) on TAU.
Expect: accuracy about 89.3 % with ViT-B/32, which others report for one frame a clip.
Needs: TAU (python -m tfds_tau.build --config=clips) and the encoders' weights; else the demo data.
Command: python -m avsc_jax.main --config=configs/clip_probe.py:tau
Try it: python -m avsc_jax.main --config=configs/clip_probe.py:demo
"""

from avsc_jax.configs import common

VARIANTS = {'encoders': ('clip_vit_b32', *(e for e in common.PROBED if e != 'clip_vit_b32'))}


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS, final=True, joined=('encoders',))
    config = common.probe(choice)
    is_anchor = choice['encoders'] == 'clip_vit_b32'
    config.paper = dict(
        row='probe',
        source='linear probes of others, one frame a clip' if is_anchor else '',
        log_loss=None,
        accuracy=0.893 if is_anchor else None,
        granularity='clip',
    )
    return config
