"""Rows of tables joined: frames and pieces to seconds and clips, tables to the same items."""

from collections.abc import Callable, Iterable

import numpy as np

from avsc_jax import ensemble
from avsc_jax.runtime.files import some
from avsc_jax.tables.predictions import FIELDS, Predictions, keys_of


def pool(table: Predictions, rule: str = 'mean') -> Predictions:
    """One row a clip, of all its rows; clips in the order of their first row, segment -1.

    Args:
      rule: 'mean' of the probabilities, or their 'product', divided by its sum: its largest class
        is the one that the baseline of DCASE 2021, task 1B, decides for.
    """
    if rule not in _RULES:
        raise ValueError(f'no rule of pooling is called {rule!r}; give one of {" ".join(_RULES)}')
    clip_id, first, group = np.unique(table.clip_id, return_index=True, return_inverse=True)
    unlike = np.unique(table.clip_id[table.label != table.label[first][group]])
    if len(unlike):
        raise ValueError(
            f'the rows of {len(unlike)} clips have several labels: {some(unlike.tolist())}; '
            'a clip has one scene'
        )
    order = np.argsort(first)
    return Predictions(
        clip_id=clip_id[order],
        segment=np.full(len(order), -1, np.int32),
        label=table.label[first[order]],
        probs=_RULES[rule](table.probs, group, len(order))[order],
        meta={**table.meta, 'granularity': 'clip', 'pooled': True},
    )


def _product(probs: np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Products of the rows of each group, divided by their sums."""
    logs = np.log(np.maximum(probs, np.finfo(np.float32).tiny))  # what softmax rounds to 0 is less
    counts = np.bincount(group, minlength=num_groups)
    logs = ensemble.pool(logs, group, num_groups) * counts[:, None]
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


_RULES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    'mean': ensemble.pool,
    'product': _product,
}


def seconds(table: Predictions, count: int = 10) -> Predictions:
    """One frame a second: of a clip of T frames, second k of `count` has frame int(k T / count).

    So the baseline of DCASE 2021, task 1B, scores one-second items. Clips in the order of their
    first row; the segment of a row is its second.
    """
    _, first, group, frames = np.unique(
        table.clip_id, return_index=True, return_inverse=True, return_counts=True
    )
    rows = np.lexsort((table.segment, group))  # clip by clip, frame by frame
    starts = np.cumsum(frames) - frames
    uneven = rows[table.segment[rows] != np.arange(len(rows)) - np.repeat(starts, frames)]
    if len(uneven):
        raise ValueError(
            f'the frames of {some(np.unique(table.clip_id[uneven]).tolist())} are not numbered '
            '0, 1, 2 ...; give a table of frames, all that a clip has'
        )
    chosen = starts[:, None] + np.arange(count)[None] * frames[:, None] // count
    rows = rows[chosen[np.argsort(first)].ravel()]
    return Predictions(
        clip_id=table.clip_id[rows],
        segment=np.tile(np.arange(count), len(first)),
        label=table.label[rows],
        probs=table.probs[rows],
        meta={**table.meta, 'granularity': 'second'},
    )


def grouped(table: Predictions, count: int) -> Predictions:
    """One row for each `count` rows, their mean: the seconds of a table of frames.

    The rows of a clip stand together, frame by frame; segment k is of frames k * count and on.
    """
    first = slice(None, None, count)
    places = table.segment - np.arange(len(table.segment)) % count
    if len(places) % count or (places != np.repeat(places[first], count)).any():
        raise ValueError(
            f'the rows are not {count} frames of each second, one after the other: was the sound '
            'cut into pieces of another length?'
        )
    return Predictions(
        clip_id=table.clip_id[first],
        segment=(table.segment[first] // count).astype(np.int32),
        label=table.label[first],
        probs=table.probs.reshape(-1, count, table.probs.shape[1]).mean(axis=1),
        meta={**table.meta, 'granularity': 'second'},
    )


def baseline_views(table: Predictions) -> dict[str, Predictions]:
    """What the challenge's baseline was scored on: its seconds, and its decisions on clips."""
    return {'second': seconds(table), 'product': pool(table, rule='product')}


VIEWS = {'openl3_baseline': baseline_views}


def aligned(tables: Iterable[Predictions]) -> list[Predictions]:
    """The tables with rows in the first one's order; an error unless they hold the same items."""
    first, *others = tables
    keys = keys_of(first)
    result = [first]
    for number, table in enumerate(others, start=2):
        for name in ('classes', 'granularity'):
            ours, theirs = first.meta.get(name), table.meta.get(name)
            if ours != theirs:
                raise ValueError(
                    f'table {number} has the {name} {_list(theirs)}, the first has {_list(ours)}; '
                    'give tables of one kind'
                )
        row = {key: index for index, key in enumerate(keys_of(table))}
        unlike = row.keys() ^ set(keys)
        if unlike:
            raise ValueError(
                f'table {number} has {len(row)} rows, the first has {len(keys)}, and {len(unlike)} '
                f'are in one only: {some(sorted(unlike))}; give tables of the same items'
            )
        order = [row[key] for key in keys]
        moved = {name: getattr(table, name)[order] for name in FIELDS}
        known = (first.label >= 0) & (moved['label'] >= 0)
        clash = np.flatnonzero(known & (first.label != moved['label']))
        if len(clash):
            raise ValueError(
                f'table {number} and the first have different true labels in {len(clash)} rows: '
                f'{some([keys[index] for index in clash])}; give tables of one truth'
            )
        result.append(Predictions(**moved, meta=table.meta))
    return result


def _list(value: Iterable[str] | str | None) -> str:
    return str(value) if value is None or isinstance(value, str) else ' '.join(value)
