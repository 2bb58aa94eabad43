"""Feng's fusions of a clip's mean OpenL3 embeddings (weighted is best); sound or picture alone.

Paper: Feng, Audio-Visual Scene Classify, Tables 1 to 5 and Figure 3.
Expect: log loss 0.507, accuracy 81.6 % (weighted) on fold 1, clips; PAPER lists the others.
Needs: TAU (python -m tfds_tau.build --config=clips), its videos, OpenL3's weights; else the demo.
Command: python -m avsc_jax.main --config=configs/feng_fusion.py:weighted,tau
Try it: python -m avsc_jax.main --config=configs/feng_fusion.py:weighted,demo
"""

from avsc_jax.configs import common

PAPER = dict(
    weighted=('Table 5', 0.507, 0.816),
    early=('Table 1', 0.528, 0.797),
    intermediate=('Table 1', 0.541, 0.798),
    late_concat=('Table 1', 0.540, 0.792),
    late_mean=('code', None, None),
    audio=('Table 4', 0.808, 0.706),
    video=('Table 4', 0.854, 0.674),
)
VARIANTS = {'fusion': tuple(PAPER), 'features': ('openl3', 'clip')}


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS)
    fusion, by_clip = choice['fusion'], choice['features'] == 'clip'
    config = common.experiment(choice, items='clip', inner=True)

    sound, picture = fusion != 'video', fusion != 'audio'
    common.openl3(config, sound=sound, picture=picture and not by_clip)
    if picture and by_clip:  # CLIP's features of the picture; CLIP takes no sound
        config.encoders.clip_vit_b32 = dict()
        config.inputs.image_embedding = 'clip_vit_b32'
        config.frames, config.short_side = 'clip12', 448
        config.demo.encoders.clip_vit_b32 = dict(width=64, patch_size=8, image_size=64)
        config.demo.model.embeddings.image_embedding = 512
    config.standardize = True
    config.pool = 'mean'
    config.model = dict(name=f'feng_{fusion}', hidden=512, dropout=0.2)

    config.batch_size = 128
    config.epochs = 99
    config.optimizer = 'adam'
    config.learning_rate = 1e-4
    config.schedule = 'plateau'
    config.factor = 0.1
    config.plateau_patience = 3
    config.weight_decay = 1e-4
    config.loss = dict(name='cross_entropy')
    config.select = 'batch_loss'
    config.patience = 7

    source, log_loss, accuracy = PAPER[fusion]
    config.paper = dict(
        row=f'Feng {fusion}' + (', CLIP' if by_clip else ''),
        source=f'Feng, {source}',
        log_loss=None if by_clip else log_loss,
        accuracy=None if by_clip else accuracy,
        granularity='clip',
    )

    config.demo.update(dict(batch_size=32, learning_rate=1e-3))
    return config
