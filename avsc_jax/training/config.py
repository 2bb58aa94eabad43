"""The fields of a config: their types, defaults and meanings, and the check of a config's names."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from avsc_jax import tables
from avsc_jax.data import label_kinds, media
from avsc_jax.data.sources import listing
from avsc_jax.input_pipeline import picture_size
from avsc_jax.runtime import nearest
from avsc_jax.training import recipe
from avsc_jax.training.dependencies import STAGES

REQUIRED = object()  # stands in the place of a default
ALL = 'python -m avsc_jax.main --fields'


class Field(NamedTuple):
    """A field of a config.

    Attributes:
      types: the types that its value may have.
      default: its value if absent; REQUIRED: a job that needs the field has no default for it.
      text: its meaning, in one line.
      allowed: what its value, or each in a list, must be one of; None: anything.
    """

    types: tuple[type, ...]
    default: Any
    text: str
    allowed: Collection[str] | None = None


NUMBER, LIST, SECTION = (int, float), (tuple, list), (ConfigDict, dict)

FIELDS = {
    'kind': Field((str,), 'train', 'the kind of job: train, zero_shot, probe or ensemble'),
    'seed': Field((int,), 0, 'seed of the initial weights, the order of clips and augmentation'),
    'data': Field(SECTION, REQUIRED, 'the data set and its splits; see the fields data.* below'),
    'demo': Field(SECTION, None, 'values that replace other fields on made-up clips'),
    'ablate': Field(
        SECTION,
        None,
        'parts that --ablate leaves out: name -> dotted field -> value; None: no entry',
    ),
    'paper': Field(SECTION, REQUIRED, 'the published number that the report prints beside ours'),
    # the inputs made of a clip
    'frames': Field(
        (str,), None, 'the rule that picks pictures of a clip, such as clip12', media.FRAME_RULES
    ),
    'short_side': Field((int,), None, 'short side of the pictures, in pixels'),
    'pictures': Field((int,), None, 'number of evenly spaced pictures that make one row'),
    'size': Field(LIST, None, 'height and width of the input of a network of media'),
    'resize': Field(
        (str,),
        'squash',
        'how pictures get this size: squash, or crop the middle',
        picture_size.RESIZES,
    ),
    'crop_fraction': Field(NUMBER, None, 'part of the short side that crop keeps, such as 0.875'),
    'interpolation': Field(
        (str,),
        'bilinear',
        'how pictures are resized: bilinear or bicubic',
        picture_size.INTERPOLATIONS,
    ),
    'canvas': Field(LIST, None, 'height and width of the picture before random_resized_crop'),
    'mean': Field(LIST, None, 'mean of R, G, B in [0, 1]; absent: from `pretrained`, or ImageNet'),
    'std': Field(LIST, None, 'deviation of R, G, B; absent: from `pretrained`, or ImageNet'),
    'front_end': Field(SECTION, None, 'name, sample_rate_hz and options, for networks of spectra'),
    'piece_s': Field(NUMBER, None, 'length of the pieces that sound is cut into, in seconds'),
    'spectrum_size': Field(
        LIST, None, "bands and columns of spectra beside pictures; absent: the front end's own"
    ),
    'training_piece_s': Field(NUMBER, None, 'length of the longer pieces that are trained on'),
    'augment': Field(SECTION, {}, 'augmentation of training rows -> its settings'),
    'augment_pictures': Field((bool,), False, 'augment pictures of a frozen run; keep no features'),
    'mixup_alpha': Field(NUMBER, 0.0, 'alpha of the beta distribution of mixup; 0: no mixup'),
    'cutmix_alpha': Field(NUMBER, 0.0, 'alpha of the beta distribution of cutmix; 0: no cutmix'),
    'cutmix_share': Field(NUMBER, 0.5, 'probability of cutmix where both mix; else it is mixup'),
    # encoders and inputs
    'encoders': Field(SECTION, {}, 'frozen encoder -> options that differ from its defaults'),
    'text_encoder': Field(SECTION, {}, 'the text tower of zero-shot classification'),
    'prompt_style': Field((str,), None, 'style of the texts that stand for the classes'),
    'inputs': Field(SECTION, {}, 'input of the network -> the encoder or run that makes it'),
    'standardize': Field((bool,), False, 'scale inputs to mean 0, deviation 1 on training rows'),
    'pool': Field(
        (str,),
        None,
        'mean or sequence: one row per clip; absent: one per frame',
        ('mean', 'sequence'),
    ),
    'length': Field(
        (int, *SECTION), None, 'number of frames of a sequence, or input -> its number'
    ),
    'frames_per_row': Field(SECTION, {}, 'input -> number of its frames that make one row'),
    'frames_per_item': Field((int,), None, 'number of frames whose mean is scored as one item'),
    'one_row_a_clip': Field((bool,), False, 'an epoch takes one random row of each clip'),
    # network
    'model': Field(SECTION, REQUIRED, 'name and options of the network that is trained'),
    'pretrained': Field((str,), None, 'the network whose published weights training begins with'),
    'pretrained_part': Field((str,), None, 'the part of the network that takes these weights'),
    'begins_with': Field(
        (str,), '', 'the member whose weights training begins with', ('', *STAGES)
    ),
    # training
    'batch_size': Field((int,), REQUIRED, 'number of rows of a step, over all devices'),
    'accumulate': Field((int,), 1, 'parts of a batch whose gradients are summed, to save memory'),
    'precision': Field(
        (str,), 'float32', 'of the arithmetic of training: float32 or bfloat16', recipe.PRECISIONS
    ),
    'drop_remainder': Field((bool,), False, 'leave out an incomplete last batch'),
    'epochs': Field((int,), REQUIRED, 'passes over the training rows'),
    'optimizer': Field((str,), 'sgd', 'sgd or adam'),
    'learning_rate': Field(NUMBER, REQUIRED, 'the learning rate: the first, or the highest'),
    'schedule': Field((str,), 'steps', 'steps, constant, plateau, cosine_restarts, warmup_cosine'),
    'drop_at': Field(LIST, (), 'epochs that begin with the rate multiplied by factor'),
    'factor': Field(NUMBER, 0.1, 'factor of the rate where it drops'),
    'plateau_patience': Field((int,), None, 'epochs without gain before the rate drops'),
    'periods': Field(LIST, None, 'number of epochs of each cosine'),
    'lowest_rate': Field(NUMBER, 0.0, 'learning rate at the end of a cosine'),
    'warmup': Field(NUMBER, 0.0, 'share of the steps in which the rate rises'),
    'momentum': Field(NUMBER, 0.0, 'momentum of sgd'),
    'weight_decay': Field(NUMBER, 0.0, 'factor of the weights that are added to the gradient'),
    'clip_norm': Field(NUMBER, 0.0, 'largest norm of the whole gradient; 0: no limit'),
    'ema': Field(NUMBER, 0.0, 'decay of the average of parameters that is kept; 0: no average'),
    'train_part': Field(
        (str,), 'all', 'what is trained: all, last_stage (and head) or head', recipe.PARTS
    ),
    'layer_decay': Field(
        NUMBER, 1.0, 'rate of each group of layers to that of the next, deeper one'
    ),
    'rate_scale': Field(
        SECTION, {}, 'part of the network -> factor of its learning rate; 0: it stays as it is'
    ),
    'loss': Field(SECTION, REQUIRED, 'name and options of the loss, such as cross_entropy'),
    'label_smoothing': Field(NUMBER, 0.0, 'share of each label that is spread over all classes'),
    'class_weights': Field(
        (str, tuple, list), None, "weights of the classes in the loss, or 'balanced'"
    ),
    'select': Field(
        (str,),
        REQUIRED,
        'kept epoch: log_loss, accuracy, loss, batch_loss, mean_average_precision, last',
    ),
    'threshold_beta': Field(
        NUMBER, 1.0, "beta of the F score that sets each label's threshold; 2 weighs recall more"
    ),
    'grid': Field(LIST, None, "values of C, the inverse of a probe's penalty, that are compared"),
    'cross_validation': Field((int,), None, 'number of folds of the training clips that choose C'),
    'patience': Field((int,), 0, 'epochs without gain that end the training; 0: no limit'),
    'views': Field(
        (str,), None, 'name of further tables that are made of the predictions', tables.VIEWS
    ),
    # other runs
    'members': Field(
        SECTION, {}, 'name -> `config` and folder `run` of a run that this is made of'
    ),
    'train_missing': Field((bool,), False, 'train missing members first'),
    'groups': Field(SECTION, {}, 'role in an ensemble -> its members'),
    'group_names': Field(SECTION, {}, "role -> name of the mean of the role's members"),
    'roles': Field(LIST, (), 'the roles that the ensemble itself takes; none: all'),
    'recipe': Field(SECTION, None, 'the rule of an ensemble: a name of RECIPES and options'),
    'lines': Field(LIST, (), 'other recipes of the same members that are scored too'),
    'temperature': Field(
        (bool,), False, 'score each clamped line with a temperature from other places instead, too'
    ),
    'decision': Field(
        LIST, (), 'steps fitted to the mix on other places: temperature, vector, stacking, clamp'
    ),
    'folds': Field((int,), 0, 'number of folds whose refits of each member are averaged; 0: none'),
    'evaluation': Field(SECTION, None, 'the data set whose predictions are submitted'),
    'submission': Field(SECTION, None, 'label and description of a challenge submission'),
}

DATA_FIELDS = {
    'name': Field(
        (str,),
        REQUIRED,
        'tfds_tau, own_data, own_media, or a module that defines a TFDS builder',
    ),
    'config': Field((str,), '', "name of the builder's config"),
    'source': Field(
        (str,),
        'auto',
        'tau, demo, or auto: TAU if it is prepared, else the demo',
        ('tau', 'demo', 'auto'),
    ),
    'items': Field(
        (str,), 'clip', 'what one row is: frame, second or clip', ('frame', 'second', 'clip')
    ),
    'train': Field((str,), None, 'split that is trained on'),
    'valid': Field((str,), None, 'split that selects the epoch'),
    'test': Field((str,), None, 'split that is reported on'),
    'fold': Field((int,), None, 'the fold to report on, of five; set by --fold'),
    'fold_file': Field((str,), None, 'table of clip_id and fold; set by --fold_file'),
    'num_classes': Field((int,), None, 'number of classes of a set of pictures'),
    'folder': Field((str,), '', 'your own clips: a folder with one folder per class, or a table'),
    'labels': Field(
        (str,),
        'one',
        'one class a clip, or several labels, each true or not by itself',
        tuple(label_kinds.KINDS),
    ),
    'needs': Field(
        LIST, (), 'what each of your clips must have: sound, picture or both', listing.ENDINGS
    ),
    'window_s': Field(NUMBER, 10.0, 'length of the windows of longer files, in seconds'),
    'sample_rate_hz': Field((int,), 48000, 'sample rate of the stored sound'),
    'frames': Field((str,), 'clip12', 'the rule that picks the stored pictures', media.FRAME_RULES),
    'short_side': Field((int,), 448, 'short side of the stored pictures, in pixels'),
    'on_error': Field(
        (str,), 'fail', 'fail, or skip: leave out files that cannot be read', ('fail', 'skip')
    ),
}

# Fields that a job reads as if they were always there; see `filled`.
FILLED = (
    'seed', 'mixup_alpha', 'drop_remainder', 'optimizer', 'schedule', 'drop_at', 'factor',
    'lowest_rate', 'warmup', 'momentum', 'weight_decay', 'patience', 'train_missing',
    'group_names', 'roles', 'lines', 'folds',
)  # fmt: skip
DATA_FILLED = ('config', 'source', 'items')
POSITIVE = (
    'short_side', 'pictures', 'piece_s', 'training_piece_s', 'length', 'frames_per_item',
    'batch_size', 'epochs', 'learning_rate', 'num_classes', 'window_s', 'sample_rate_hz',
    'accumulate', 'layer_decay', 'threshold_beta',
)  # fmt: skip
NOT_NEGATIVE = (
    'mixup_alpha', 'momentum', 'weight_decay', 'lowest_rate', 'warmup', 'patience', 'folds',
    'plateau_patience', 'fold', 'cutmix_alpha', 'cutmix_share', 'clip_norm', 'ema',
    'label_smoothing',
)  # fmt: skip
BELOW_ONE = ('ema', 'label_smoothing')
AT_MOST_ONE = ('layer_decay', 'cutmix_share')
PAIRS = ('size', 'canvas', 'spectrum_size')  # of height and width

# Kind of job -> the sections that it needs, and the sections that only other kinds have.
KINDS = {
    'train': (('model', 'data.train'), ('groups', 'text_encoder')),
    'zero_shot': (('model', 'text_encoder'), ('groups', 'data.train')),
    'probe': (('model', 'encoders', 'data.train'), ('groups', 'text_encoder', 'data.valid')),
    'ensemble': (('groups', 'recipe'), ('model', 'data.train')),
}

# Kind of job -> the other fields that it cannot do without, once the demo's settings are merged in.
NEEDED = {
    'train': ('paper', 'batch_size', 'epochs', 'learning_rate', 'loss', 'select'),
    'zero_shot': ('paper', 'batch_size', 'prompt_style'),
    'probe': ('paper', 'batch_size', 'grid', 'cross_validation'),
    'ensemble': ('paper', 'members'),
}
# Fields that say how steps train: other kinds of jobs cannot have them, and a flag can set them
# where the config does not.
OF_STEPS = (
    'accumulate', 'precision', 'clip_norm', 'ema', 'train_part', 'layer_decay', 'label_smoothing',
    'class_weights', 'mixup_alpha', 'cutmix_alpha', 'cutmix_share', 'patience',
)  # fmt: skip
# Field and its value (None: any) -> another field that it cannot do without.
COMPANIONS = {
    ('schedule', 'cosine_restarts'): 'periods',
    ('schedule', 'plateau'): 'plateau_patience',
    ('front_end', None): 'piece_s',
    ('frames', None): 'short_side',
    ('pretrained_part', None): 'pretrained',
    ('submission', None): 'evaluation',
}


def check(config: ConfigDict) -> None:
    """Raises ValueError for an unknown field, or for a value of the wrong type.

    Without this check, a mistyped field would be a setting without effect.
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
    without = [
        f'{place}.{name}'
        for place, section in (('config', config), ('config.demo', config.get('demo') or {}))
        for name in OF_STEPS
        if name in section and config.get('kind', 'train') != 'train'
    ]
    if without:
        raise ValueError(
            f'{without[0]} changes the steps of training, and config.kind is '
            f'{config.kind!r}, which has none; leave it out'
        )
    first = config.get('begins_with')
    if first and first not in config.get('members', {}):
        raise ValueError(
            f'config.begins_with is {first!r}, which is none of config.members '
            f'({", ".join(config.get("members", {})) or "none"}); name the run there'
        )
    check_kind(config)


def completed(config: ConfigDict) -> ConfigDict:
    """Checks a config as its file gives it, and sets in it the fields that a file may leave out."""
    check(config)
    with config.unlocked():
        config.kind = config.get('kind', 'train')
        for name in DATA_FILLED:
            if name not in config.data:
                config.data[name] = DATA_FIELDS[name].default
    return config


def check_kind(config: ConfigDict) -> None:
    """Raises ValueError if the sections of a config are not those of its kind of job."""
    kind = config.get('kind', 'train')
    nearest.check('config.kind', kind, KINDS)
    needed, foreign = KINDS[kind]
    for path in (*needed, *foreign):
        section, _, name = path.rpartition('.')
        if (name in (config[section] if section else config)) != (path in needed):
            verb = 'needs' if path in needed else 'has no'
            raise ValueError(
                f'config.kind is {kind!r}, which {verb} config.{path}; change that section, or '
                f'set config.kind to the right one of {", ".join(KINDS)}'
            )


def check_complete(config: ConfigDict) -> None:
    """Raises ValueError if a settled config lacks a field that its kind of job needs."""
    missing = [name for name in NEEDED[config.kind] if name not in config]
    if missing:
        raise ValueError(
            f'config.{missing[0]} is missing; it is {FIELDS[missing[0]].text} (see {ALL})'
        )
    for (name, value), other in COMPANIONS.items():
        given = config.get(name)
        if given and value in (None, given) and config.get(other) is None:
            why = name if value is None else f'{name}={value!r}'
            raise ValueError(
                f'config.{other} is missing, which config.{why} needs; it is {FIELDS[other].text}'
            )
    if 'size' in config and not {'frames', 'front_end'} & {*config}:
        raise ValueError(
            'config.size is the input of a network of media, and neither config.frames nor '
            f'config.front_end says of which; see {ALL}'
        )
    if config.get('patience') and config.get('select') == 'last':
        raise ValueError(
            f"config.patience is {config.patience}, and config.select is 'last', by which each "
            'epoch is the best one, so that none ends the training; select by loss, log_loss or '
            'accuracy, or leave out patience'
        )
    if 'accumulate' in config and config.accumulate > config.batch_size:
        raise ValueError(
            f'config.accumulate is {config.accumulate}, and a batch of {config.batch_size} has '
            'no more rows than that to share out; lower it'
        )
    if config.kind == 'train' and config.select != 'last' and 'valid' not in config.data:
        raise ValueError(
            f'config.data.valid is missing, and config.select is {config.select!r}; name the split '
            "that selects the epoch, or select 'last'"
        )


def filled(config: ConfigDict) -> ConfigDict:
    """Returns a copy with the defaults of the fields of FILLED that are absent."""
    made = ConfigDict(config.to_dict())
    for name in FILLED:
        if name not in made:
            made[name] = FIELDS[name].default
    return made.lock()


def _check(section: Mapping, fields: Mapping[str, Field], place: str) -> None:
    for name in section:
        if name not in fields:
            meant = ''.join(f' (did you mean {place}.{n}?)' for n in nearest.names(name, fields))
            raise ValueError(f'{place}.{name} is no field of a config{meant}; {ALL} lists them')
        value = section[name]
        allowed = fields[name].types
        if value is not None and not isinstance(value, allowed):
            raise ValueError(f'{place}.{name} is {value!r}; it must be {_kinds(allowed)}')
        if isinstance(value, bool) and bool not in allowed:
            raise ValueError(f'{place}.{name} is {value!r}; it must be {_kinds(allowed)}')
        if value is None and name in OF_STEPS and fields[name].default is not None:
            raise ValueError(
                f'{place}.{name} is None; it must be {_kinds(allowed)}, and is '
                f'{fields[name].default!r} where it is left out'
            )
        if name in OF_STEPS and value in (math.inf, -math.inf):
            raise ValueError(f'{place}.{name} is {value!r}; it must be finite')
        numbers = [*value.values()] if isinstance(value, Mapping) else [value]
        if name in POSITIVE and value is not None and not all(number > 0 for number in numbers):
            raise ValueError(f'{place}.{name} is {value!r}; it must be more than 0')
        if name in NOT_NEGATIVE and value is not None and not value >= 0:
            raise ValueError(f'{place}.{name} is {value!r}; it must be 0 or more')
        if name in BELOW_ONE and value is not None and not value < 1:
            raise ValueError(f'{place}.{name} is {value!r}; it must be less than 1')
        if name in AT_MOST_ONE and value is not None and not value <= 1:
            raise ValueError(f'{place}.{name} is {value!r}; it must be 1 or less')
        if name == 'class_weights' and isinstance(value, str) and value != 'balanced':
            raise ValueError(f"{place}.{name} is {value!r}; it must be a list or 'balanced'")
        if name in PAIRS and value is not None and not _is_pair(value):
            raise ValueError(
                f'{place}.{name} is {value!r}; it must be height and width, whole numbers above 0'
            )
        _check_allowed(f'{place}.{name}', value, fields[name].allowed)


def _is_pair(value: Collection) -> bool:
    return len(value) == 2 and all(type(side) is int and side > 0 for side in value)


def _check_allowed(field: str, value: Any, allowed: Collection[str] | None) -> None:
    """Raises ValueError, with the nearest name, for a value that is none of the allowed ones."""
    if allowed is None or value is None:
        return
    for one in [value] if isinstance(value, str) else value:
        if one not in allowed:
            known = ', '.join(name or "''" for name in allowed)
            which = 'it' if isinstance(value, str) else 'each'
            meant = nearest.meant(str(one), allowed)
            raise ValueError(f'{field} is {value!r}; {which} must be one of {known}{meant}')


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
    """Yields name, type, default and text of each field, as readable words."""
    for place, fields in (('', FIELDS), ('data.', DATA_FIELDS)):
        for name, field in fields.items():
            default = 'absent' if field.default is None else repr(field.default)
            default = 'required' if field.default is REQUIRED else default
            yield f'{place}{name}', _kinds(field.types), default, field.text


def text() -> str:
    """Returns the table for a terminal: each field with its type and default, and its text."""
    lines = [
        f'config.{name}  {kind}, {default}\n    {text}' for name, kind, default, text in table()
    ]
    return '\n'.join(lines)


def markdown() -> str:
    """Returns the page docs/fields.md."""
    lines = [
        '# Fields of a config',
        '',
        'Made from `avsc_jax/training/config.py`:',
        '`python -c "from avsc_jax.training import config; print(config.markdown(), end=str())"`.',
        'Those that a config file sets can be changed by a flag, such as `--config.batch_size=64`,',
        'but for `data.items`, and so can ' + ', '.join(f'`{name}`' for name in OF_STEPS[:6]) + ',',
        ', '.join(f'`{name}`' for name in OF_STEPS[6:]) + '; others are written into a copy.',
        '',
        '| field | value | default | what it is |',
        '|---|---|---|---|',
        *(f'| `{name}` | {kind} | {default} | {text} |' for name, kind, default, text in table()),
    ]
    return '\n'.join(lines) + '\n'
