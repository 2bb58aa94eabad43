"""The official baseline on OpenL3: B01 sound, B02 picture, B03 both, and their early fusion.

Paper: Wang et al. 2021 (A curated dataset of urban scenes), Sec. 4; DCASE 2021, task 1B.
Expect: log loss 1.048, 1.648, 0.963, 0.658, accuracy 65.1, 64.9, 77.5, 77.0 %, fold 1, seconds.
Needs: TAU (python -m tfds_tau.build --config=clips), its videos, OpenL3's weights; else the demo.
Command: python -m avsc_jax.main --config=configs/openl3_baseline.py:audio_video,tau
Try it: python -m avsc_jax.main --config=configs/openl3_baseline.py:audio_video,demo
"""

from avsc_jax.configs import common

VARIANTS = {'system': ('audio_video', 'audio', 'video', 'early')}

PAPER = dict(
    audio=('B01', 1.048, 0.651),
    video=('B02', 1.648, 0.649),
    early=('EAV', 0.963, 0.775),
    audio_video=('B03', 0.658, 0.770),
)


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS)
    system = choice['system']
    config = common.experiment(choice, items='frame', inner=True)

    common.openl3(config, sound=system != 'video', picture=system != 'audio')
    config.standardize = True
    config.model = dict(name=f'openl3_baseline_{system}')
    if system == 'audio_video':  # its members: the networks whose stems it keeps frozen
        config.members = dict(
            audio_embedding=common.member(choice, 'openl3_baseline.py:audio'),
            image_embedding=common.member(choice, 'openl3_baseline.py:video'),
        )
        config.train_missing = True

    config.batch_size = 64
    config.drop_remainder = True
    config.epochs = 99 if system == 'audio_video' else 199
    config.optimizer = 'adam'
    config.learning_rate = 1e-4
    config.schedule = 'constant'
    config.weight_decay = 1e-4
    config.loss = dict(name='cross_entropy')
    config.select = 'loss'
    config.patience = 0  # 20 would end the training after 20 epochs without gain

    config.views = 'openl3_baseline'
    row, log_loss, accuracy = PAPER[system]
    config.paper = dict(
        row=row,
        source='Wang et al. 2021',
        log_loss=log_loss,
        accuracy=accuracy,
        granularity='second',
        average='macro',
    )

    config.demo.update(dict(epochs=20, learning_rate=1e-3))
    return config
