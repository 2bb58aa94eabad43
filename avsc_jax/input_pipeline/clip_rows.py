"""The rows that a clip of some length gives, counted without decoding or encoding anything."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from avsc_jax.data import media
from avsc_jax.input_pipeline.encoders import EncoderSpec, FrontEndEncoder
from avsc_jax.input_pipeline.pooling import network_inputs
from avsc_jax.input_pipeline.sound import FRONT_ENDS

FRAMES = 100_000  # of a film, from which a rule picks: more than it can pick
RATE_HZ = 48000
# Frame rule -> the lengths in seconds, from and to, of the clips that it is for; others take any.
# Source: Hou et al. 2021, whose network takes ten pictures of ten seconds, or of one.
LENGTHS_S = {'hou': ((0.9, 1.1), (9.5, 10.5))}


def check_length(settings: Mapping, window_s: float, name: str) -> None:
    """Raises ValueError if a system is made for clips of other lengths.

    Args:
      settings: the run's preprocessing, or its config.
      window_s: length of the clips in seconds.
      name: of the system, for the error.
    """
    lengths = LENGTHS_S.get(settings.get('frames') or '', ())
    if lengths and not any(low <= window_s <= high for low, high in lengths):
        allowed = ' or '.join(f'{low:g} to {high:g}' for low, high in lengths)
        raise ValueError(
            f'{name} takes clips of {allowed} s, and the windows are of {window_s:g} s; set their '
            'length to one of these (--window; of your own data: --config.data.window_s)'
        )


def of_clip(settings: Mapping, specs: Iterable[Any], window_s: float) -> int:
    """Returns how many rows of a network's input a clip of `window_s` seconds gives.

    Args:
      settings: the run's preprocessing.
      specs: its encoders; see EncoderSpec and RunSpec.

    Raises:
      ValueError: the inputs differ in their number of rows, or a front end needs longer pieces.
    """
    arrays = {spec.name: np.zeros((1, of_encoder(spec, settings, window_s), 1)) for spec in specs}
    if arrays:
        made = network_inputs({**settings, 'standardize': False}, arrays)
        return len(next(iter(made.values())))
    if 'piece_s' in settings:
        return media.num_pieces(window_s, settings['piece_s'])
    return 1 if settings.get('pictures') else _pictures(settings['frames'], window_s)


def of_encoder(spec: Any, settings: Mapping, window_s: float) -> int:
    """Returns how many rows an encoder makes of a clip, such as windows of sound or pictures.

    Args:
      settings: of the run that takes them; `frames` picks the pictures of a record.
    """
    if not isinstance(spec, EncoderSpec):  # a run
        parts = [EncoderSpec(**about) for about in spec.settings.get('encoders', ())]
        return of_clip(spec.settings, parts, window_s)
    if spec.takes != 'audio':
        return _pictures(spec.reading.get('frames') or settings['frames'], window_s)
    silence = np.zeros((round(window_s * RATE_HZ), 2), np.float32)
    items = spec.transform.items({'audio': silence, 'sample_rate': RATE_HZ})
    return _frames(spec, items) if spec.name in FRONT_ENDS else len(items)


def _frames(spec: EncoderSpec, items: Sequence[np.ndarray]) -> int:
    try:
        return FrontEndEncoder(spec).count(items)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ValueError(
            f'{spec.name} cannot take pieces of {spec.reading["piece_s"]:g} s ({error}); set '
            f'config.encoders.{spec.name}.piece_s to a longer one'
        ) from error


def _pictures(rule: str, window_s: float) -> int:
    return len(media.pick_frames(rule, FRAMES, duration_s=window_s))
