"""Any system on your own clips: a folder of files for each class, or a table of files.

Paper: none; the systems are those of the other configs, with another data section.
Expect: it depends on the clips; train, validation and test share no group of clips.
Needs: FOLDER/CLASS/*.mp4|wav|jpg ..., or a CSV of path, label and perhaps group and split; the
  system's published weights. The token `demo` makes the networks small, with random weights.
Command: python -m avsc_jax.main --config=configs/own_data.py:clip_fusion --config.data.folder=...
Try it: python -m avsc_jax.main --config=configs/own_data.py:clip_fusion,demo
"""

import importlib
from pathlib import Path

from ml_collections import ConfigDict

from avsc_jax.configs import common

# System -> token -> the parts of a clip that it takes; '' without such a token.
NEEDS = dict(
    clip_fusion={'': ('picture',)},
    hitachi_audio={'': ('sound',)},
    hitachi_image={'': ('picture',)},
    openl3_baseline={'audio': ('sound',), 'video': ('picture',), '': ('sound', 'picture')},
    feng_fusion={'audio': ('sound',), 'video': ('picture',), '': ('sound', 'picture')},
    hou_dual_stream={'': ('sound', 'picture')},
    ioacas_audio={'': ('sound',)},
    ioacas_image={'': ('picture',)},
    ioacas_fusion={'': ('sound', 'picture')},
    efficientat_audio={'': ('sound',)},
    joint_fusion={'': ('sound', 'picture')},
    probe={'': ()},  # what the files hold
    clip_probe={'': ('picture',)},
    late_fusion={'': ()},  # what the files hold, too
)
VARIANTS = {
    'system': {s: ' and '.join(of['']) or 'what the files hold' for s, of in NEEDS.items()},
    'labels': {'one': 'one class a file', 'multi_label': 'any number of labels a file'},
}


def get_config(argument=''):
    tokens = [token for token in (argument or '').split(',') if token]
    system = next((token for token in tokens if token in NEEDS), next(iter(NEEDS)))
    tokens = [token for token in tokens if token != system]
    if 'tau' in tokens:
        raise ValueError(f'own_data is not TAU; that is configs/{system}.py:tau')
    several = 'multi_label' in tokens
    tokens = [token for token in tokens if token not in VARIANTS['labels']]
    module = importlib.import_module(f'avsc_jax.configs.{system}')
    try:
        config = module.get_config(','.join(tokens))
    except common.TokenError as error:
        raise common.unknown(error.token, VARIANTS | error.axes) from error

    data = config.data
    # a probe reads the files, others read records of them; main names the config after the folder
    data.name, data.config = 'own_media' if config.kind == 'probe' else 'own_data', ''
    if 'valid' in data:  # otherwise the system is final
        data.train, data.valid, data.test = 'train_inner', 'validation', 'test'
    data.folder = ''  # a folder or a table; empty with the token demo: the made-up clips
    data.needs = next(needs for token, needs in NEEDS[system].items() if token in (*tokens, ''))
    data.window_s = 10.0  # longer files are cut into windows; shorter ones stay as they are
    data.sample_rate_hz = 48000
    data.frames, data.short_side = 'clip12', 448  # or the system's own
    data.on_error = 'fail'  # or skip: leave out files that cannot be read

    if several:
        data.labels = 'several'
        if config.kind == 'train':
            config.loss = ConfigDict(dict(name='sigmoid_cross_entropy'))
            config.select = 'mean_average_precision' if 'valid' in data else 'last'
        config.threshold_beta = 1.0  # of each label's threshold: the largest F1 on validation clips

    for name in {'views', 'drop_remainder'} & {*config}:  # these need many clips, of 10 s
        del config[name]
    if 'openl3_image' in config.get('encoders', {}):  # takes the frames stored in the records
        config.frames, config.short_side = 'openl3', 256
        config.encoders.openl3_image.frames = None
        config.demo.update(dict(frames='second_centres'))
        config.demo.encoders.openl3_image.frames = None

    for name, member in config.get('members', {}).items():
        if name == config.get('begins_with'):  # a stage on other data
            continue
        file, _, of_member = member.config.partition(':')
        own = [Path(file).stem, *filter(None, [of_member]), *(['multi_label'] * several)]
        member.config = f'configs/own_data.py:{",".join(own)}'

    scores = dict(log_loss=None, accuracy=None, granularity=data['items'])
    config.paper = dict(row='own data', source='', **scores)
    return config
