"""Audio members of Hitachi's system (A01, A02, A03): spectrograms of 1 s pieces as pictures.

Paper: Okazaki et al. 2021, Sec. 2.1 and 3, Tables 1, 2 and 5.
Expect: log loss 0.711, 0.732, 0.821, accuracy 76.6, 76.9, 77.2 % on fold 1, clips.
Needs: TAU (python -m tfds_tau.build --config=clips) and ImageNet weights; else the demo data.
Command: python -m avsc_jax.main --config=configs/hitachi_audio.py:resnest50d,tau
Try it: python -m avsc_jax.main --config=configs/hitachi_audio.py:regnetx_064,demo
"""

from avsc_jax.configs import common

VARIANTS = {'network': ('regnetx_064', 'resnest50d', 'tf_efficientnet_b1_ns')}

PAPER = dict(
    regnetx_064=('A01', 0.711, 0.766),
    resnest50d=('A02', 0.732, 0.769),
    tf_efficientnet_b1_ns=('A03', 0.821, 0.772),
)


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS)
    config = common.experiment(choice, items='second')
    network = choice['network']

    config.piece_s = 1.0  # 10 trains on whole clips: better, says the caption of Table 2
    config.front_end = dict(name='hitachi_logmel', sample_rate_hz=48000, lineage=False)
    config.size = (256, 100)  # bands, columns
    config.augment = dict(
        random_gain=dict(limit_db=6.0),
        frequency_mask=dict(max_bands=24, num_masks=1),
        time_mask=dict(max_frames=0, num_masks=1),  # off
    )
    config.mixup_alpha = 0.0  # off

    config.model = dict(name=network)
    config.pretrained = network

    config.batch_size = 24
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
        model=common.SIBLINGS[network],
        size=(64, 48),
        epochs=10,
        learning_rate=0.02,
        drop_at=(7, 9),
    )
    return config
