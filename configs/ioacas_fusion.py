"""IOA-CAS's hybrids: frozen embeddings of a second's sound and picture, joined by attention.

Paper: Wang et al. 2021 (IOA-CAS technical report), Sec. 2.3.1 and 3.3, Figure 1, Table 4.
Expect: log loss 0.159, accuracy 94.1 % (tf_efficientnet_b5, logmel) on fold 1; others in PAPER.
Needs: TAU (python -m tfds_tau.build --config=clips, and --config=segments), ImageNet weights; else
  the demo data. It trains its sound and its picture system first if they are missing.
Command: python -m avsc_jax.main --config=configs/ioacas_fusion.py:tf_efficientnet_b5,logmel,tau
Try it: python -m avsc_jax.main --config=configs/ioacas_fusion.py:resnet50,logmel,demo
"""

from avsc_jax.configs import common, ioacas_audio, ioacas_image

# The better network for each feature, Table 2.
AUDIO = dict(logmel='resnet1d', scalogram='resnet1d', bark='dcnn1d')
VARIANTS = {'network': tuple(ioacas_image.NETWORKS), 'feature': tuple(AUDIO)}

PAPER = dict(
    resnet50=dict(logmel=(0.189, 0.937), scalogram=(0.187, 0.941), bark=(0.211, 0.930)),
    tf_efficientnet_b5=dict(logmel=(0.159, 0.941), scalogram=(0.170, 0.935), bark=(0.197, 0.933)),
    tf_efficientnetv2_s=dict(logmel=(0.169, 0.944), scalogram=(0.177, 0.942), bark=(0.204, 0.929)),
    swin_tiny=dict(logmel=(0.210, 0.918), scalogram=(0.217, 0.917), bark=(0.244, 0.911)),
)
# The hybrids in the paper's order, which counts from 1.
PAIRS = tuple((network, feature) for network in PAPER for feature in AUDIO)


def get_config(argument=''):
    choice = common.parse(argument, VARIANTS, final=True)
    network, feature = choice['network'], choice['feature']
    config = common.experiment(choice, items='second', config='segments')

    config.members = dict(
        audio=common.member(choice, f'ioacas_audio.py:{AUDIO[feature]},{feature}'),
        image=common.member(choice, f'ioacas_image.py:{network}'),
    )
    config.train_missing = True
    config.inputs = dict(audio_embedding='audio', image_embedding='image')
    config.frames_per_row = dict(audio_embedding=6)
    config.frames, config.short_side = 'second_centres', 480
    config.evaluation = dict(dataset='evaluation', split='test')  # frame 2 of an item's five
    config.augment_pictures = True  # as when their network was trained; False keeps embeddings
    config.one_row_a_clip = True  # a random second of each clip in each epoch
    size = ioacas_image.NETWORKS[network][-1]
    config.model = dict(name='ioacas_hybrid', audio_size=1024, image_size=size)

    config.batch_size = 64
    config.epochs = 200
    config.optimizer = 'adam'
    config.schedule = 'constant'
    config.learning_rate = 1e-5
    config.weight_decay = 0.0
    config.loss = dict(name='cross_entropy')
    config.select = 'last'

    log_loss, accuracy = PAPER[network][feature]
    config.paper = dict(
        row=f'IOA {PAIRS.index((network, feature)) + 1}',
        source='Wang et al. 2021 (IOA-CAS), Table 4',
        log_loss=log_loss,
        accuracy=accuracy,
        granularity='second',
        note=common.ioacas_note(network),
    )

    small = ioacas_image.SMALL[network][-1]
    sizes = dict(audio_size=ioacas_audio.SMALL[-1], image_size=small)
    config.demo = dict(model=sizes, epochs=12, learning_rate=1e-3, paper=dict(note=''))
    return config
