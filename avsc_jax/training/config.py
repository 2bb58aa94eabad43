"""Every field of a config: what it is, its default, and the check that no other is named."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

REQUIRED = object()  # in the place of a default


class Field(NamedTuple):
    """A field of a config.

    Attributes:
      types: what its value may be.
      default: what holds where it is absent; REQUIRED: it must be there if the job needs it.
      text: what it says, in one line.
    """

    types: tuple[type, ...]
    default: Any
    text: str


NUMBER, LIST, SECTION = (int, float), (tuple, list), (ConfigDict, dict)

FIELDS = {
    'kind': Field((str,), 'train', 'train, zero_shot or ensemble: what the job does'),
    'seed': Field((int,), 0, 'of the initial weights, the order of the clips and augmentation'),
    'data': Field(SECTION, REQUIRED, 'the data set and its splits; see DATA_FIELDS'),
    'demo': Field(SECTION, None, 'what replaces other fields on made-up clips'),
    'paper': Field(SECTION, REQUIRED, 'the published number that the report prints beside ours'),
    # what a clip goes through
    'frames': Field((str,), None, 'the rule that picks pictures of a clip, such as clip12'),
    'short_side': Field((int,), None, 'of the pictures, in pixels'),
    'pictures': Field((int,), None, 'how many evenly spaced pictures make one row'),
    'size': Field(LIST, None, 'height and width of what a network of media sees'),
    'canvas': Field(LIST, None, 'height and width of what random_resized_crop is cut from'),
    'mean': Field(LIST, None, 'of R, G, B in [0, 1]; absent: of `pretrained`, or ImageNet'),
    'std': Field(LIST, None, 'of R, G, B in [0, 1]; absent: of `pretrained`, or ImageNet'),
    'front_end': Field(SECTION, None, 'name, sample_rate_hz and options, for networks of spectra'),
    'piece_s': Field(NUMBER, None, 'length of the pieces that sound is cut into, in seconds'),
    'training_piece_s': Field(NUMBER, None, 'of as many pieces side by side in training'),
    'augment': Field(SECTION, {}, 'augmentation -> its settings, of the rows that are trained on'),
    'augment_pictures': Field((bool,), False, 'pictures for a frozen run are augmented, not kept'),
    'mixup_alpha': Field(NUMBER, 0.0, 'of the beta distribution of mixup; 0: none'),
    # encoders and inputs
    'encoders': Field(SECTION, {}, 'frozen encoder -> options that differ from its own'),
    'text_encoder': Field(SECTION, {}, 'the text tower of zero-shot classification'),
    'prompt_style': Field((str,), None, 'of the texts of the classes'),
    'inputs': Field(SECTION, {}, 'input of the network -> the encoder or run that gives it'),
    'standardize': Field((bool,), False, 'inputs get mean 0 and deviation 1, as on training rows'),
    'pool': Field((str,), None, 'mean or sequence: one row a clip; else one a frame'),
    'length': Field((int,), None, 'frames of a sequence'),
    'frames_per_row': Field(SECTION, {}, 'input -> how many of its frames make one row'),
    'frames_per_item': Field((int,), None, 'frames whose mean is scored as one item'),
    'one_row_a_clip': Field((bool,), False, 'an epoch has one row of each clip, by chance'),
    # network
    'model': Field(SECTION, REQUIRED, 'name and options of the network that is trained'),
    'pretrained': Field((str,), None, 'the network whose published weights training begins with'),
    'pretrained_part': Field((str,), None, 'the part of the network that they are for'),
    'begins_with': Field((str,), '', 'the member whose weights training begins with'),
    # training
    'batch_size': Field((int,), REQUIRED, 'rows of a step, over all devices'),
    'drop_remainder': Field((bool,), False, 'an incomplete last batch is left out'),
    'epochs': Field((int,), REQUIRED, 'passes over the training rows'),
    'optimizer': Field((str,), 'sgd', 'sgd or adam'),
    'learning_rate': Field(NUMBER, REQUIRED, 'at the start, or the highest'),
    'schedule': Field((str,), 'steps', 'steps, constant, plateau, cosine_restarts, warmup_cosine'),
    'drop_at': Field(LIST, (), 'epochs on entering which the rate is multiplied by factor'),
    'factor': Field(NUMBER, 0.1, 'of the rate, where it drops'),
    'plateau_patience': Field((int,), None, 'epochs without gain before the rate drops'),
    'periods': Field(LIST, None, 'epochs of each cosine'),
    'lowest_rate': Field(NUMBER, 0.0, 'at the end of a cosine'),
    'warmup': Field(NUMBER, 0.0, 'share of the steps in which the rate rises'),
    'momentum': Field(NUMBER, 0.0, 'of sgd'),
    'weight_decay': Field(NUMBER, 0.0, 'added to the gradient'),
    'loss': Field(SECTION, REQUIRED, 'name and options, such as cross_entropy'),
    'select': Field((str,), REQUIRED, 'log_loss, accuracy, loss, batch_loss or last: which epoch'),
    'patience': Field((int,), 0, 'epochs without gain that end the training; 0: none do'),
    'views': Field((str,), None, 'other views of the predictions that are scored too'),
    # other runs
    'members': Field(SECTION, {}, 'name -> config and folder of a run that this one is made of'),
    'train_missing': Field((bool,), False, 'members that are missing are trained first'),
    'groups': Field(SECTION, {}, 'role -> members, of an ensemble'),
    'group_names': Field(SECTION, {}, 'role -> what the mean of its members is called'),
    'roles': Field(LIST, (), 'which of the roles the ensemble itself takes; none: all'),
    'recipe': Field(SECTION, None, 'how an ensemble decides: a name of RECIPES and options'),
    'lines': Field(LIST, (), 'other recipes of the same members, scored beside'),
    'folds': Field((int,), 0, 'refits of each member that are averaged'),
    'evaluation': Field(SECTION, None, 'the data set whose scenes are submitted'),
    'submission': Field(SECTION, None, 'label and description of a challenge submission'),
}

DATA_FIELDS = {
    'name': Field((str,), REQUIRED, 'tfds_tau, own_data, or a module that defines a TFDS builder'),
    'config': Field((str,), '', 'of its builder'),
    'source': Field((str,), 'auto', 'tau, demo, or auto: TAU where it is prepared'),
    'items': Field((str,), 'clip', 'what one row is: frame, second or clip'),
    'train': Field((str,), None, 'split that is trained on'),
    'valid': Field((str,), None, 'split that selects the epoch'),
    'test': Field((str,), None, 'split that is reported on'),
    'fold': Field((int,), None, 'of five, to report on; set by --fold'),
    'fold_file': Field((str,), None, 'clip_id and fold; set by --fold_file'),
    'num_classes': Field((int,), None, 'of a set of pictures'),
    'folder': Field((str,), '', "one's own clips: a folder for each class, or a table"),
    'needs': Field(LIST, (), 'sound, picture: what each of them must have'),
    'window_s': Field(NUMBER, 10.0, 'length of what longer files are cut into, in seconds'),
    'sample_rate_hz': Field((int,), 48000, 'of the sound that is stored'),
    'frames': Field((str,), 'clip12', 'the rule that picks the pictures that are stored'),
    'short_side': Field((int,), 448, 'of the pictures that are stored, in pixels'),
    'on_error': Field((str,), 'fail', 'fail, or skip: leave out files that cannot be read'),
}

# Kind of job -> the sections it needs, and those of the other kinds.
KINDS = {
    'train': (('model', 'data.train'), ('groups', 'text_encoder')),
    'zero_shot': (('model', 'text_encoder'), ('groups', 'data.train')),
    'ensemble': (('groups', 'recipe'), ('model', 'data.train')),
}


def check(config: ConfigDict) -> None:
    """Raises ValueError for a field that no job reads, or whose value is of another kind.

    A mistyped field would else be a setting without effect.
    """
    _check(config, FIELDS, 'config')
    _check(config.get('demo') or {}, FIELDS, 'config.demo')
    if 'data' not in config:
        raise ValueError(
            'the config has no section data; it names the data set and its splits, such as '
            "dict(name='tfds_tau', config='clips', train='train', valid='test', test='test')"
        )
    _check(config.data, DATA_FIELDS, 'config.data')
    _check((config.get('demo') or {}).get('data', {}), DATA_FIELDS, 'config.demo.data')
    check_kind(config)


def check_kind(config: ConfigDict) -> None:
    """Raises ValueError if the sections of a config are not those of its kind of job."""
    kind = config.get('kind', 'train')
    if kind not in KINDS:
        raise ValueError(f'config.kind is {kind!r}; it must be one of {", ".join(KINDS)}')
    needed, foreign = KINDS[kind]
    for path in (*needed, *foreign):
        section, _, name = path.rpartition('.')
        if (name in (config[section] if section else config)) != (path in needed):
            told = 'needs' if path in needed else 'has no'
            raise ValueError(
                f'config.kind is {kind!r}, which {told} config.{path}; change that section, or '
                f'set config.kind to the one of {", ".join(KINDS)} that the job is'
            )


def _check(section: Mapping, fields: Mapping[str, Field], place: str) -> None:
    for name in section:
        if name not in fields:
            nearest = difflib.get_close_matches(name, fields, n=1, cutoff=0.6)
            meant = f'; did you mean {place}.{nearest[0]}?' if nearest else ''
            raise ValueError(
                f'{place}.{name} is no field of a config{meant} (docs/fields.md lists them all)'
            )
        value = section[name]
        allowed = fields[name].types
        if value is not None and not isinstance(value, allowed):
            raise ValueError(f'{place}.{name} is {value!r}; it must be {_kinds(allowed)}')
        if isinstance(value, bool) and bool not in allowed:
            raise ValueError(f'{place}.{name} is {value!r}; it must be {_kinds(allowed)}')


def _kinds(types: tuple[type, ...]) -> str:
    if {int, float} <= {*types}:
        return 'a number'
    words = {
        int: 'a whole number',
        float: 'a number',
        str: 'a text',
        bool: 'True or False',
        tuple: 'a list',
        ConfigDict: 'a section of fields',
    }
    return ' or '.join(words[kind] for kind in types if kind in words)


def table() -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and text of each field, for people."""
    for place, fields in (('', FIELDS), ('data.', DATA_FIELDS)):
        for name, field in fields.items():
            default = 'absent' if field.default is None else repr(field.default)
            default = 'required' if field.default is REQUIRED else default
            yield f'{place}{name}', _kinds(field.types), default, field.text


def markdown() -> str:
    """The page docs/fields.md."""
    lines = [
        '# Fields of a config',
        '',
        'Made from `avsc_jax/training/config.py`:',
        '`python -c "from avsc_jax.training import config; print(config.markdown(), end=str())"`.',
        'Any of them can be set by a flag, such as `--config.batch_size=64`.',
        '',
        '| field | value | default | what it is |',
        '|---|---|---|---|',
        *(f'| `{name}` | {kind} | {default} | {text} |' for name, kind, default, text in table()),
    ]
    return '\n'.join(lines) + '\n'
