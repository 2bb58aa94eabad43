"""CLIP Late Fusion Network (C04): frozen CLIP image encoders, a small network on their features.

Paper: Okazaki et al. 2021, Sec. 2.3, Tables 1, 2 and 5.
Expect: log loss 0.273, accuracy 90.9 % on fold 1, clips.
Needs: TAU (python -m tfds_tau.build --config=clips) and CLIP's weights; else the demo data.
Command: python -m avsc_jax.main --config=configs/clip_fusion.py:tau
Try it: python -m avsc_jax.main --config=configs/clip_fusion.py:demo
"""

from avsc_jax.configs import common

VARIANTS = {}


def get_config(argument=''):
    config = common.experiment(common.parse(argument, VARIANTS), items='frame')

    # Encoder -> options that differ from the published network.
    config.encoders = dict(clip_rn50x4={}, clip_rn101={}, clip_vit_b32={})
    config.frames = 'clip12'
    config.short_side = 448

    config.model = dict(name='clip_late_fusion')

    config.batch_size = 48
    common.hitachi_optimisation(config)

    config.paper = dict(
        row='C04',
        source='Okazaki et al. 2021, Table 2',
        log_loss=0.273,
        accuracy=0.909,
        granularity='clip',
    )

    # On demo data: the same networks, narrow, on small pictures, with random weights.
    config.demo = dict(
        encoders=dict(
            clip_rn50x4=dict(width=8, image_size=64),
            clip_rn101=dict(width=8, image_size=64),
            clip_vit_b32=dict(width=64, patch_size=8, image_size=64),
        )
    )
    return config
