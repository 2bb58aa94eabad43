"""Sound systems of IOA-CAS: small networks on frames of half a second, three acoustic features.

Paper: Wang et al. 2021 (IOA-CAS technical report), Sec. 2.1 and 3.1, Tables 1 and 2.
Expect: log loss 0.623, accuracy 78.5 % (resnet1d, scalogram) on fold 1; PAPER lists the others.
Needs: TAU (python -m tfds_tau.build --config=clips); else the demo data. With the token `final` it
  trains on train + test, as for the paper's submission, keeps the last epoch and scores nothing.
Command: python -m avsc_jax.main --config=configs/ioacas_audio.py:resnet1d,scalogram,tau
Try it: python -m avsc_jax.main --config=configs/ioacas_audio.py:resnet1d,logmel,demo
"""

from avsc_jax.configs import common

VARIANTS = {'network': ('resnet1d', 'dcnn1d'), 'feature': ('logmel', 'scalogram', 'bark')}

PAPER = dict(
    logmel=dict(dcnn1d=(0.703, 0.750), resnet1d=(0.652, 0.775)),
    scalogram=dict(dcnn1d=(0.661, 0.766), resnet1d=(0.623, 0.785)),
    bark=dict(dcnn1d=(0.764, 0.715), resnet1d=(0.794, 0.715)),
)
NUM_FILTERS = dict(logmel=256, scalogram=290, bark=256)
SMALL = (256, 128, 64)  # linear layers of the demo's networks


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS, final=True)
    network, feature = choice['network'], choice['feature']
    config = common.experiment(choice, items='frame')

    front_end = f'ioacas_{feature}'
    config.encoders = {
        front_end: dict(piece_s=1.0, sample_rate_hz=48000, mono='silent', difference_scale=1.0)
    }
    config.training_piece_s = 10.0  # 59 frames of a clip
    config.frames_per_item = 6  # frames of a second, the item that is scored
    config.inputs = dict(image=front_end)
    config.standardize = True
    config.model = dict(name=network, num_filters=NUM_FILTERS[feature])

    config.batch_size = 256
    config.schedule = 'cosine_restarts'
    config.periods = (3, 4, 8, 16)  # restarts on entering epochs 3, 7 and 15
    config.epochs = 31
    config.learning_rate = 0.1
    config.lowest_rate = 1e-5
    config.momentum = 0.9
    config.weight_decay = 1e-4
    config.loss = dict(name='cross_entropy')
    config.select = 'last'

    log_loss, accuracy = PAPER[feature][network]
    config.paper = dict(
        row=f'IOA {network} {feature}',
        source='Wang et al. 2021 (IOA-CAS), Table 2',
        log_loss=log_loss,
        accuracy=accuracy,
        granularity='second',
    )

    # On demo data: the same networks, narrower, for fewer epochs.
    config.demo = dict(model=dict(hidden=SMALL), periods=(3, 4), epochs=7)
    return config
