"""The shapes of a run folder's JSON and arrays, which its readers check; see runtime.json_files.

A run folder may come from elsewhere, or be damaged. What is checked here is what programs rely on
without asking; options of networks, front ends and recipes are checked by those that take them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from avsc_jax.data.media.source import MAX_SAMPLE_RATE_HZ, MAX_SIDE_PX
from avsc_jax.runtime import json_files
from avsc_jax.runtime.options import check_numbers
from avsc_jax.tables import thresholds

PART = {'name': str, 'run': str, 'weights?': str}  # an encoder that is a run inside the folder
ENCODER = {'name': str, 'options': dict, 'weights': str}
MEMBER = {
    'name': str, 'fold': (int, None), 'folder': str, 'config?': str, 'parameters?': {str: int},
    'config_hash?': str,
}  # fmt: skip
SHAPES: dict[str, Any] = {
    'classes.json': [str],
    'config.json': {
        'kind?': str, 'data?': {'name?': str, 'test?': str, 'labels?': str}, 'model?': dict,
        'encoders?': {str: dict}, 'text_encoder?': {str: dict}, 'augment?': {str: dict},
        'groups?': {str: [str]}, 'decision?': [str],
        'group_names?': {str: str}, 'members?': {str: dict}, 'recipe?': dict, 'roles?': [str],
        'lines?': [{'row': str, 'roles': [str], 'recipe': {'name': str}}], 'paper?': (dict, None),
    },
    'environment.json': {'data?': str, 'data_by_size?': str, 'weights?': {str: str}},
    'members.json': [{'parameters?': {str: int}, 'name?': str, 'folder?': str}],
    'preprocessing.json': {
        'items?': str, 'frames?': str, 'short_side?': (int, None), 'window_s?': float,
        'jpeg_quality?': (int, None), 'inputs?': ({str: str}, None), 'pool?': (str, None),
        'frames_per_row?': ({str: int}, None), 'length?': (int, {str: int}, None),
        'standardize?': bool, 'size?': [int], 'canvas?': [int], 'pictures?': (int, None),
        'piece_s?': float, 'mean?': [float], 'std?': [float],
        'front_end?': {'name': str, 'sample_rate_hz': int},
        'encoders?': [(PART, ENCODER)],
    },
    thresholds.FILE: thresholds.SHAPE,
    'report.json': {
        'about?': {
            'warnings?': [str], 'data?': str, 'protocol?': str, 'weights?': {str: str},
            'training?': str,
        },
        'headline?': (str, None), 'scores?': {str: dict}, 'learned?': {str: dict},
        'history?': [dict], 'paper?': (dict, None), 'config_hash?': (str, None), 'title?': str,
    },
}  # fmt: skip
FINITE = tuple(name for name in SHAPES if name != 'report.json')  # it may hold a score of nothing
RANGES = {  # of numbers in preprocessing.json that memory or time depends on
    'window_s': (1e-3, 86_400.0), 'piece_s': (1e-3, 3600.0), 'short_side': (1, MAX_SIDE_PX),
    'jpeg_quality': (1, 100), 'length': (1, 1_000_000), 'pictures': (1, 10_000),
    'size': (1, MAX_SIDE_PX), 'canvas': (1, MAX_SIDE_PX), 'sample_rate_hz': (1, MAX_SAMPLE_RATE_HZ),
    'frames_per_row': (1, 1_000_000), 'hop_s': (1e-3, 3600.0),
}  # fmt: skip
OF_SOUND = ('piece_s', 'sample_rate_hz', 'hop_s', 'window_s')  # options of front ends and encoders
MAX_ARRAY_BYTES = 1 << 28  # of stats.npz and means.npz, which hold means of single features


def read(name: str, content: bytes, shape: Any = object) -> Any:
    """Returns what a JSON file of a run folder holds.

    Args:
      name: of the file; one that is not in SHAPES may have any shape.
      shape: what the caller needs besides.

    Raises:
      ValueError: the content is damaged, or of another shape.
    """
    value = json_files.checked(content, SHAPES.get(name, object), finite=name in FINITE)
    json_files.check(value, shape)
    if name == 'classes.json' and (not value or len({*value}) < len(value)):
        raise ValueError(f'it names {len({*value})} classes in {len(value)} lines')
    if name == 'preprocessing.json':
        if value.get('encoders') == []:
            raise ValueError('encoders is a list of 0, and must name one or more')
        encoders = [each.get('options', {}) for each in value.get('encoders', ())]
        check_numbers('the front end', value.get('front_end', {}))
        for place, number in _numbers(value, RANGES) + [
            found
            for options in (value.get('front_end', {}), *encoders)
            for found in _numbers(options, OF_SOUND)
        ]:
            low, high = RANGES[place]
            if not (isinstance(number, int | float) and low <= number <= high):
                raise ValueError(f'{place} is {number!r:.40}, and must be {low} to {high:g}')
    return value


def _numbers(settings: Mapping, names: Iterable[str]) -> list[tuple[str, float]]:
    """Lists the numbers of these names among settings, those of lists and objects one by one."""
    known = [(name, settings[name]) for name in names if settings.get(name) is not None]
    parts = [
        (name, [*value.values()] if isinstance(value, Mapping) else value) for name, value in known
    ]
    return [
        (name, number)
        for name, value in parts
        for number in (value if isinstance(value, list) else [value])
    ]
