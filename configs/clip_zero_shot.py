"""CLIP's zero-shot prediction (C01, C02, C03): class names are prompts, nothing is trained.

Paper: Okazaki et al. 2021, Sec. 2.3, Table 2; prompts are the raw class names (poster).
Expect: log loss 0.671, 0.668, 0.725, accuracy 76.7, 74.5, 72.5 % on fold 1, clips.
Needs: TAU (python -m tfds_tau.build --config=clips) and CLIP's weights; else the demo data.
Command: python -m avsc_jax.main --config=configs/clip_zero_shot.py:rn101,tau
Try it: python -m avsc_jax.main --config=configs/clip_zero_shot.py:vit_b32,photo,demo
"""

from avsc_jax.configs import common

VARIANTS = {
    'encoder': ('rn101', 'rn50x4', 'vit_b32'),
    'prompt_style': ('literal', 'spaces', 'photo'),
}

WIDTHS = dict(rn101=512, rn50x4=640, vit_b32=512)
PAPER = dict(
    rn101=('C01', 0.671, 0.767),
    rn50x4=('C02', 0.668, 0.745),
    vit_b32=('C03', 0.725, 0.725),
)


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS)
    config = common.experiment(choice, items='frame')
    config.kind = 'zero_shot'
    del config.data.train, config.data.valid

    encoder = f'clip_{choice["encoder"]}'
    config.encoders = {encoder: {}}
    config.frames = 'clip12'
    config.short_side = 448
    config.text_encoder = {f'{encoder}_text': {}}
    config.prompt_style = choice['prompt_style']

    config.model = dict(name='clip_zero_shot', encoder=encoder, width=WIDTHS[choice['encoder']])
    config.batch_size = 256  # for scoring

    row, log_loss, accuracy = PAPER[choice['encoder']]
    config.paper = dict(
        row=row,
        source='Okazaki et al. 2021, Table 2',
        log_loss=log_loss,
        accuracy=accuracy,
        granularity='clip',
    )

    # On demo data: the same networks, narrow, on small pictures, with random weights.
    narrow = dict(rn101=dict(width=8), rn50x4=dict(width=8), vit_b32=dict(width=64, patch_size=8))
    config.demo = dict(
        encoders={encoder: narrow[choice['encoder']] | dict(image_size=64)},
        text_encoder={f'{encoder}_text': dict(width=64, layers=2)},
    )
    return config
