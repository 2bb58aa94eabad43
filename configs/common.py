"""Helpers of the configs: parsing tokens, and settings that several systems share."""

from collections.abc import Collection, Mapping

from ml_collections import ConfigDict

from avsc_jax.runtime import nearest

# Token -> a few words. Neither: TAU if it is prepared, else the demo.
DATA_TOKENS = {'demo': 'made-up clips', 'tau': 'the real ones'}
# Neither: the paper's own; some configs take no final.
PROTOCOL_TOKENS = {
    'strict': 'select on clips that nothing is reported on',
    'final': 'train on all clips, report nothing',
}

IMPLIED = ('auto', 'paper')  # data and protocol without a token

# Small networks of the same families, for demo data; a RegNetX of few groups compiles faster.
SIBLINGS = dict(
    regnetx_064=dict(name='regnetx_002', widths=(24, 48, 96, 192), group_width=24),
    resnest50d=dict(name='resnest14d'),
    tf_efficientnet_b1_ns=dict(name='tf_efficientnet_b0'),
    hrnet_w18=dict(name='hrnet_w18_small'),
)

# Weights that IOA-CAS's image networks begin with: of ImageNet-1k and of 2021, or today's stronger
# ones. The paper trained the last two networks on ImageNet itself.
IOACAS_WEIGHTS = dict(
    timm=dict(
        resnet50='tv_resnet50',
        tf_efficientnet_b5='tf_efficientnet_b5.ra_in1k',
        tf_efficientnetv2_s='tf_efficientnetv2_s.in1k',
        swin_tiny='swin_tiny_patch4_window7_224',
    ),
    modern=dict(
        resnet50='resnet50',
        tf_efficientnet_b5='tf_efficientnet_b5',
        tf_efficientnetv2_s='tf_efficientnetv2_s',
        swin_tiny='swin_tiny_patch4_window7_224.ms_in22k_ft_in1k',
    ),
)

# Encoders of a probe -> narrow networks of the same families, for demo data.
PROBED = dict(
    clip_vit_b32=dict(width=64, patch_size=8, image_size=64),
    clip_vit_l14=dict(width=64, patch_size=8, image_size=64, layers=12),
    clip_rn101=dict(width=8, image_size=64),
    clip_rn50x4=dict(width=8, image_size=64),
    tf_efficientnet_lite0=dict(channel_multiplier=0.25, image_size=64),
    yamnet=dict(width=0.25),
    mn10_as=dict(width=0.1),
    openl3_audio=dict(widths=(4, 8, 16, 32), embedding_size=384, hop_s=1.0),
    openl3_image=dict(widths=(4, 8, 16, 32), embedding_size=128, input_shape=(64, 64, 3)),
)

# The same -> the width of their features, of the published and of the narrow networks.
WIDTHS = dict(
    clip_vit_l14=(768, 768),
    clip_vit_b32=(512, 512),
    clip_rn101=(512, 512),
    clip_rn50x4=(640, 640),
    tf_efficientnet_lite0=(1280, 320),
    yamnet=(1024, 256),
    mn10_as=(1280, 128),
    openl3_audio=(512, 384),
    openl3_image=(512, 128),
)

# Encoders that are classifiers, and give their tags unless they are told not to.
WITHOUT_HEAD = {
    name: dict(num_classes=0) for name in ('tf_efficientnet_lite0', 'yamnet', 'mn10_as')
}


class TokenError(ValueError):
    """A token is none that a config knows.

    Attributes:
      token: the wrong one.
      axes: axis -> its tokens, perhaps with a few words; see `parse`.
    """

    token: str
    axes: Mapping[str, Collection[str]]


def unknown(token: str, axes: Mapping[str, Collection[str]]) -> TokenError:
    """Returns the error of an unknown token, which lists the known ones; see `TokenError`."""
    known, listed = [], []
    for axis, tokens in axes.items():
        words = tokens if isinstance(tokens, Mapping) else dict.fromkeys(tokens, '')
        names = [name for name in words if name not in IMPLIED]
        known += names
        told = (name + f' ({words[name]})' * bool(words[name]) for name in names)
        listed.append(f'{axis}: {", ".join(told)}')
    error = TokenError(
        f'the config knows no token {token!r}{nearest.meant(token, known)}; tokens after the colon '
        f'are {"; ".join(listed)}'
    )
    error.token, error.axes = token, axes
    return error


def parse(
    argument: str | None,
    variants: Mapping[str, Collection[str]],
    *,
    final: bool = False,
    joined: Collection[str] = (),
) -> dict[str, str]:
    """Parses comma-separated tokens, in any order and at most one per axis; returns axis -> token.

    Args:
      variants: axis -> its tokens, the first being the default; or token -> a few words about it,
        for the error of an unknown one.
      final: whether the config takes the token `final`, which trains on all data.
      joined: the axes of which several tokens, with + between them, are one, too.

    Raises:
      TokenError: a token is unknown.
      ValueError: two tokens exclude each other.
    """
    protocols = {t: PROTOCOL_TOKENS[t] for t in PROTOCOL_TOKENS if final or t != 'final'}
    auto, paper = (dict.fromkeys([name], '') for name in IMPLIED)
    axes = {**variants, 'data': auto | DATA_TOKENS, 'protocol': paper | protocols}
    chosen = {}
    for token in filter(None, (argument or '').split(',')):
        axis = next((axis for axis, tokens in axes.items() if token in tokens), None)
        axis = axis or next((a for a in joined if {*token.split('+')} <= {*axes[a]}), None)
        if axis is None or token in IMPLIED:
            raise unknown(token, axes)
        if axis in chosen:
            raise ValueError(f'{chosen[axis]!r} and {token!r} exclude each other; give one')
        chosen[axis] = token
    return {axis: chosen.get(axis, next(iter(tokens))) for axis, tokens in axes.items()}


def experiment(
    choice: Mapping[str, str], *, items: str, config: str = 'clips', inner: bool = False
) -> ConfigDict:
    """Makes a config of kind train, with the splits that train, select the epoch and are reported.

    A final system trains on all data, so no split is left to select or report on.

    Args:
      items: what one row is: 'frame', 'second' or 'clip'.
      config: name of the tfds_tau builder's config; `demo` replaces it on demo data.
      inner: whether the paper selects on a part of the training set, like the token `strict`.
    """
    if choice['protocol'] == 'final':
        splits = dict(train='train+test')
    elif inner or choice['protocol'] == 'strict':
        splits = dict(train='train_inner', valid='validation', test='test')
    else:
        splits = dict(train='train', valid='test', test='test')
    data = dict(name='tfds_tau', config=config, source=choice['data'], items=items, **splits)
    return ConfigDict(dict(kind='train', seed=0, data=data))


def probe(choice: Mapping[str, str]) -> ConfigDict:
    """Makes a config of kind probe: logistic regression on the mean features of `encoders`."""
    config = experiment(choice, items='clip')
    config.kind = 'probe'
    if 'valid' in config.data:  # cross-validation on the training clips selects
        del config.data.valid
    mean_features(config, choice['encoders'])
    config.model = dict(name='probe')
    config.batch_size = 256  # for scoring
    config.cross_validation = 5
    config.grid = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
    return config


def mean_features(config: ConfigDict, encoders: str) -> None:
    """Makes a row of each clip: the mean features of encoders, whose names have + between them."""
    names = encoders.split('+')
    config.encoders = {name: WITHOUT_HEAD.get(name, {}) for name in names}
    config.frames, config.short_side, config.pool = 'clip12', 448, 'mean'
    config.demo = dict(encoders={name: PROBED[name] for name in names})


def ensemble(choice: Mapping[str, str], groups: Mapping[str, Mapping[str, str]]) -> ConfigDict:
    """Makes a config whose members are runs of other configs, with the same data and protocol.

    Args:
      groups: role -> member -> config file, perhaps with a token of its own.
    """
    config = ConfigDict(dict(kind='ensemble', seed=0))
    config.data = dict(name='tfds_tau', config='clips', source=choice['data'], test='test')
    config.groups = {role: tuple(members) for role, members in groups.items()}
    config.members = _members(choice, groups)
    config.train_missing = False
    config.demo = dict(train_missing=True, members=_members({**choice, 'data': 'demo'}, groups))
    return config


def _members(
    choice: Mapping[str, str], groups: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """Returns member -> its config with all tokens, and its run folder ('': the default)."""
    members = {}
    for group in groups.values():
        members |= {name: member(choice, own) for name, own in group.items()}
    return members


def member(choice: Mapping[str, str], config: str) -> dict[str, str]:
    """Returns a member's config and run folder, with the data and protocol tokens of `choice`."""
    shared = (choice.get(axis) for axis in ('data', 'protocol'))
    shared = [token for token in shared if token in (*DATA_TOKENS, *PROTOCOL_TOKENS)]
    file, _, token = config.partition(':')
    tokens = ','.join(filter(None, [token, *shared]))
    return dict(config=f'configs/{file}' + (f':{tokens}' if tokens else ''), run='')


def submission(config: ConfigDict, *, number: int, folds: int, description: Mapping) -> None:
    """Makes an ensemble also classify the evaluation set, for a submission to the challenge.

    Args:
      number: the system's number among a team's four.
      folds: number of refits of each member that are averaged; 0: only that of the official fold.
      description: entries of the challenge's sheet; see avsc_jax.report.submission.
    """
    config.submission = dict(label=f'Surname_INST_task1b_{number}', description=description)
    config.folds = folds
    config.evaluation = dict(dataset='evaluation', split='test')
    config.demo.evaluation = dict(dataset='demo', split='test')  # in place of the evaluation set


def openl3(config: ConfigDict, *, sound: bool = True, picture: bool = True) -> None:
    """Sets OpenL3's embeddings as encoders, 96 in ten seconds as in the challenge's baseline.

    Demo data gets one a second, by narrow networks on small pictures, with random weights.
    """
    narrow = dict(widths=(4, 8, 16, 32))
    config.encoders, config.inputs = ConfigDict(), ConfigDict()
    config.demo = dict(encoders={}, model=dict(embeddings={}))
    if sound:
        config.encoders.openl3_audio = dict(
            version='0.3.1',  # of openl3, whose front end changed later
            hop_s=0.1,
            centre=True,
            max_windows=96,  # clips may last a little longer
        )
        config.inputs.audio_embedding = 'openl3_audio'
        config.demo.encoders.openl3_audio = dict(
            narrow, embedding_size=384, hop_s=1.0, centre=False, max_windows=10
        )
        config.demo.model.embeddings.audio_embedding = 384
    if picture:
        config.encoders.openl3_image = dict(frames='openl3')  # read from the video file itself
        config.inputs.image_embedding = 'openl3_image'
        config.demo.encoders.openl3_image = dict(
            narrow, embedding_size=128, input_shape=(64, 64, 3), frames='second_centres'
        )
        config.demo.model.embeddings.image_embedding = 128


def hitachi_optimisation(config: ConfigDict) -> None:
    """Sets SGD as in Okazaki 2021, Sec. 3, which refers to IBN-Net for all that it does not name.

    IBN-Net says a rate of 0.1, at batches of 256. Ours is a choice: at C04's batches of 48, 0.1
    diverges on the demo. For networks of sound or pictures, which have batches of 24 and 20,
    --sweep=learning_rate=0.003,0.01,0.03 compares three.
    """
    config.epochs = 20
    config.learning_rate = 0.01
    config.drop_at = (5, 10, 15)
    config.factor = 0.1
    config.momentum = 0.9
    config.weight_decay = 1e-4
    config.loss = dict(name='focal_loss', gamma=2.0)
    config.select = 'accuracy'


def ioacas_weights(network: str, start: str) -> str | None:
    """Returns the published weights that an image network begins with; None for `scratch`."""
    return IOACAS_WEIGHTS.get(start, {}).get(network)


def ioacas_note(network: str, start: str = 'timm') -> str:
    """Says how the weights that an image network begins with differ from the paper's."""
    published = ioacas_weights(network, start)
    if start == 'modern':
        return f'begins with {published}, stronger weights than the paper had'
    stands_in = published and network in ('tf_efficientnetv2_s', 'swin_tiny')
    return f'{published} stands in for weights that the paper trained itself' if stands_in else ''
