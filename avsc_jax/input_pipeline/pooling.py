"""Turns the features of frozen encoders into the inputs of a network, for every caller.

Arrays are numpy's on the host, or traced ones, whose number of frames may be symbolic.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax.types import AnyArray, Array

LEAST_REPEATED = 10  # a sequence of ten seconds holds the frames of a second so often, or more


def network_inputs(
    settings: Mapping,
    arrays: Mapping[str, AnyArray],
    stats: Mapping[str, np.ndarray] | None = None,
    filled: Mapping[str, np.ndarray] | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, AnyArray]:
    """Returns a network's inputs by name, made from its encoders' features.

    Args:
      settings: `inputs` (name of each input -> its encoder; default `features/<encoder>`) and
        `pool`. None: a row for each frame, or for each `frames_per_row[input]` frames; 'mean': a
        row for each clip, the mean of its frames; 'sequence': a row for each clip with all its
        frames, which zeros complete to `length` (a number, or one for each input), or a cut, if
        that is given; those of a second, which fill it ten times or another whole number above,
        are repeated.
      arrays: encoder -> `[clips, T, D]`, or `[clips, T, 2, F]` from a front end.
      stats: see `measure`; None leaves values as they are.
      filled: encoder -> for each time of a clip at which it has a frame or should have one, bool,
        whether it has; T of them are true. Encoders that are not named have one each time.
      overwrite: whether numpy's arrays may be standardised in place, as they are not used again.

    Returns:
      Rows `[R, ...]` of each input whose encoder is among the arrays. Where they are frames, those
      of one time make a row, and times that one input lacks are left out. Where one input has one
      time more than another, as tracks of one length may round to, its last is left out.

    Raises:
      ValueError: inputs differ in times by more, or have none in common, or frames do not fill
        their rows.
    """
    named = {name: arrays[encoder] for name, encoder in names(settings, arrays).items()}
    together = settings.get('frames_per_row') or {}
    if stats is not None:
        encoders = [*names(settings, arrays).values()]
        named = {
            name: _standardized(
                array,
                np.asarray(stats[f'mean_{name}'])[None, None],
                np.asarray(stats[f'std_{name}'])[None, None],
                overwrite=overwrite and encoders.count(encoder) == 1,
            )
            for (name, array), encoder in zip(named.items(), encoders, strict=True)
        }
    pool, length = settings.get('pool'), settings.get('length')
    if pool == 'mean':
        return {name: array.mean(axis=1) for name, array in named.items()}
    if pool == 'sequence':
        lengths = length if isinstance(length, Mapping) else dict.fromkeys(named, length)
        return {name: _completed(array, lengths.get(name)) for name, array in named.items()}
    if pool is not None:
        raise ValueError(f"pool is {pool!r}, it must be None, 'mean' or 'sequence'")
    named = {name: _together(name, x, together.get(name, 1)) for name, x in named.items()}
    counts = {name: array.shape[1] for name, array in named.items()}
    of = names(settings, arrays)
    given = {name: filled[of[name]] for name in named if filled and of[name] in filled}
    places = common_places(counts, given)
    return {name: x[:, places[name]].reshape(-1, *x.shape[2:]) for name, x in named.items()}


def common_places(
    counts: Mapping[str, Any], filled: Mapping[str, np.ndarray]
) -> dict[str, slice | np.ndarray]:
    """Returns which rows of several inputs stand at times that all of them have.

    Args:
      counts: name of each input -> its number of rows, which may be symbolic.
      filled: the inputs that may lack times -> which they have; see `network_inputs`.

    Raises:
      ValueError: the inputs differ in times by more than one, or have none in common.
    """
    few = _fewest({**counts, **{name: len(times) for name, times in filled.items()}})
    if all(times.all() for times in filled.values()):
        return dict.fromkeys(counts, slice(few))
    common = np.flatnonzero(np.logical_and.reduce([times[:few] for times in filled.values()]))
    if not len(common):
        raise ValueError('its sound and its pictures have no time in common')
    return {
        name: np.cumsum(filled[name])[common] - 1 if name in filled else common for name in counts
    }


def clip_inputs(
    settings: Mapping,
    arrays: Mapping[str, np.ndarray],
    counts: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray] | None = None,
    *,
    overwrite: bool = False,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns a network's inputs for clips that may be of unlike length.

    Args:
      settings, arrays, stats, overwrite: see `network_inputs`.
      counts: encoder -> the number of each clip's own rows `[clips]`, behind which are zeros.

    Returns:
      Rows `[R, ...]` of each input, clip after clip, and each clip's number of them `[clips]`.
    """
    by_clip = np.stack([counts[name] for name in arrays], axis=1)
    alike, group = np.unique(by_clip, axis=0, return_inverse=True)
    parts: dict[int, tuple[int, Mapping[str, np.ndarray]]] = {}  # by the place of a clip
    for number, lengths in enumerate(alike):
        places = np.flatnonzero(group.reshape(-1) == number)
        of = places if len(alike) > 1 else slice(None)  # all of them without a copy
        own = {
            name: array[of, :length]
            for (name, array), length in zip(arrays.items(), lengths, strict=True)
        }
        made = network_inputs(settings, own, stats, overwrite=overwrite)
        rows = len(next(iter(made.values()))) // len(places)
        if len(alike) == 1:
            return made, np.full(len(places), rows)
        for k, place in enumerate(places):
            of_clip = {name: x[k * rows : (k + 1) * rows] for name, x in made.items()}
            parts[int(place)] = rows, of_clip
    ordered = [parts[place] for place in sorted(parts)]
    of_all = [*ordered[0][1]]
    inputs = {name: np.concatenate([part[name] for _, part in ordered]) for name in of_all}
    return inputs, np.array([rows for rows, _ in ordered])


def measure(
    settings: Mapping,
    arrays: Mapping[str, np.ndarray],
    counts: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Measures mean and population standard deviation of each input over all frames of all clips.

    Args:
      settings, arrays: see `network_inputs`.
      counts: encoder -> the number of each clip's own frames `[clips]`; None takes all.

    Returns:
      `mean_<input>` and `std_<input>`, float32 `[D]`; a constant has deviation 1.
    """
    stats = {}
    for name, encoder in names(settings, arrays).items():
        array = arrays[encoder]
        if counts and encoder in counts:
            array = array[np.arange(array.shape[1]) < counts[encoder][:, None]][None]
        mean = array.mean(axis=(0, 1), dtype=np.float64)
        # clip by clip: a whole set in float64 is gigabytes
        squares = sum(np.square(clip - mean).sum(axis=0) for clip in array)
        std = np.sqrt(squares / np.prod(array.shape[:2]))
        changes = array.min(axis=(0, 1)) < array.max(axis=(0, 1))
        stats[f'mean_{name}'] = mean.astype(np.float32)
        stats[f'std_{name}'] = np.where(changes, std, 1).astype(np.float32)
    return stats


def names(settings: Mapping, arrays: Mapping) -> Mapping[str, str]:
    """Maps each input whose encoder is among the arrays to that encoder."""
    named = settings.get('inputs') or {f'features/{name}': name for name in arrays}
    return {name: encoder for name, encoder in named.items() if encoder in arrays}


def _standardized(
    array: AnyArray, mean: np.ndarray, std: np.ndarray, *, overwrite: bool
) -> AnyArray:
    """Returns (array - mean) / std, in the array itself if it is numpy's and may be overwritten."""
    if not (overwrite and isinstance(array, np.ndarray) and array.flags.writeable):
        return (array - mean) / std
    array -= mean
    array /= std
    return array


def _fewest(counts: Mapping[str, Any]) -> Any:
    """Returns the smallest of the inputs' numbers of rows, which may be symbolic."""
    numbers = [*counts.values()]
    if all(isinstance(count, int) for count in numbers) and max(numbers) > min(numbers) + 1:
        rows = ', '.join(f'{count} of {name}' for name, count in counts.items())
        raise ValueError(
            f'the inputs of a clip differ in rows ({rows}): sound and picture must be equally '
            'long, and their encoders must give as many rows per second'
        )
    least, *others = numbers
    for other in others:
        least = jax.core.min_dim(least, other)
    return least


def _together(name: str, array: AnyArray, count: int) -> AnyArray:
    """Groups frames `[clips, T, D]` to `[clips, T / count, count, D]`."""
    clips, length, *rest = array.shape
    if count == 1:
        return array
    if isinstance(length, int) and length % count:
        raise ValueError(
            f'{length} frames of {name} in a clip cannot be divided into rows of {count}; is its '
            'sound cut short?'
        )
    return array.reshape(clips, length // count, count, *rest)


def _completed(array: AnyArray, length: int | None) -> AnyArray:
    """Completes frames `[clips, T, D]` to `[clips, length, D]` by zeros, or cuts them.

    Frames of a second, which fill the length a whole number of times, are repeated; others never:
    the same number of frames may be half of a longer clip.
    """
    frames, library = array.shape[1], _library(array)
    places, total = library.arange(length or frames), library.asarray(length or frames)
    is_second = (total % frames == 0) & (total >= LEAST_REPEATED * frames)
    is_own = (places < frames) | is_second
    return library.where(is_own[None, :, None], array[:, places % frames], 0)


def _library(array: Array) -> ModuleType:
    return jnp if isinstance(array, jax.Array) else np
