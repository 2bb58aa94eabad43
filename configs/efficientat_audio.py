"""EfficientAT's networks of sound, trained on AudioSet and fine-tuned to scenes.

Paper: Schmid et al. 2023 (ICASSP), whose code's recipe for scenes (ex_dcase20.py) this is.
Expect: not known on TAU; on AudioSet, a mean average precision of 0.471 (mn10_as).
Needs: TAU (python -m tfds_tau.build --config=clips) and EfficientAT's weights; else the demo data.
  The token `last_stage` trains the last three blocks and the head, `frozen` the head alone.
Command: python -m avsc_jax.main --config=configs/efficientat_audio.py:mn10_as,tau
Try it: python -m avsc_jax.main --config=configs/efficientat_audio.py:mn10_as,demo
"""

from avsc_jax.configs import common

VARIANTS = {
    'network': ('mn10_as', 'mn04_as', 'mn20_as', 'mn40_as'),
    'trained': ('whole', 'last_stage', 'frozen'),
}
PARTS = dict(whole='all', last_stage='last_stage', frozen='head')


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS, final=True)
    config = common.experiment(choice, items='clip')
    network = choice['network']

    config.piece_s = 10.0
    config.front_end = dict(name='efficientat_logmel', sample_rate_hz=32000)
    config.size = (128, 1000)  # bands, columns: as they are
    config.augment = dict(random_gain=dict(limit_db=12.0))
    config.mixup_alpha = 0.3

    config.model = dict(name=network)
    config.pretrained = network
    config.train_part = PARTS[choice['trained']]

    config.batch_size = 64
    config.epochs = 80
    config.optimizer = 'adam'
    config.learning_rate = 8e-4
    config.weight_decay = 0.0
    config.schedule = 'warmup_cosine'
    config.warmup = 1 / 8  # ten epochs
    config.lowest_rate = 8e-6
    config.loss = dict(name='cross_entropy')
    config.select = 'last'

    config.paper = dict(row=network, source='', log_loss=None, accuracy=None, granularity='clip')

    # On demo data: the narrowest network on small spectrograms, from random weights.
    config.demo = dict(
        model=dict(name='mn01_as', momentum=0.9, drop_rate=0.0),
        size=(64, 250),
        mixup_alpha=0.0,
        batch_size=12,
        epochs=30,
        learning_rate=3e-3,
    )
    return config
