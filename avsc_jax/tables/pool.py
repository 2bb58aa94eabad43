"""Pools frames and pieces of tables to seconds and clips, and aligns tables of the same items."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from avsc_jax import ensemble
from avsc_jax.runtime import nearest
from avsc_jax.runtime.files import some
from avsc_jax.tables import names, parts, thresholds
from avsc_jax.tables.predictions import Predictions, check_exclusive, keys_of, rows


def pool(table: Predictions, rule: str = 'mean') -> Predictions:
    """Joins all rows of each clip; clips keep the order of their first row and have segment -1.

    Args:
      rule: 'mean' of the probabilities, or their 'product', divided by its sum: its largest class
        is the one that the baseline of DCASE 2021, task 1B, decides for.

    Raises:
      ValueError: another rule, or rows of one clip with different labels.

    Example:
      >>> probs = np.array([[0.75, 0.25], [0.5, 0.5]])
      >>> table = Predictions(['a', 'a'], [0, 1], [0, 0], probs, {'classes': ['bus', 'tram']})
      >>> pool(table).probs.tolist(), pool(table, 'product').probs.round(3).tolist()
      ([[0.625, 0.375]], [[0.75, 0.25]])
    """
    nearest.check('the pooling rule', rule, _RULES)
    _, first, group = np.unique(table.clip_id, return_index=True, return_inverse=True)
    is_independent = table.meta.get('kind') == 'independent'
    if is_independent and rule != 'mean':
        check_exclusive(table, f'the pooling rule {rule!r}')
    differs = table.label != table.label[first][group]
    differs = differs.any(axis=1) if differs.ndim == 2 else differs
    unlike = np.unique(table.clip_id[differs])
    if len(unlike):
        raise ValueError(
            f'the rows of {len(unlike)} clips have several labels: {some(unlike.tolist())}; '
            + ('all rows of a clip have the same' if is_independent else 'a clip has one scene')
        )
    order = np.argsort(first)
    pooled = _known_mean if is_independent else _RULES[rule]
    return rows(
        table,
        first[order],
        segment=np.full(len(order), -1, np.int32),
        probs=pooled(table.probs, group, len(order))[order],
        meta={**table.meta, 'granularity': 'clip', 'pooled': True},
    )


def _known_mean(probs: np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Averages the rows of each group that are not NaN, such as tags of a sense that some miss."""
    return np.stack([parts.mean(probs[group == number]) for number in range(num_groups)])


def _product(probs: np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Multiplies the rows of each group and divides the products by their sum."""
    logs = np.log(np.maximum(probs, np.finfo(np.float32).tiny))  # float32 softmax may round to 0
    counts = np.bincount(group, minlength=num_groups)
    logs = ensemble.pool(logs, group, num_groups) * counts[:, None]
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


_RULES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    'mean': ensemble.pool,
    'product': _product,
}


def seconds(table: Predictions, count: int = 10) -> Predictions:
    """Picks one frame for each second: frame int(k T / count) of T for second k of `count`.

    The baseline of DCASE 2021, task 1B, scores one-second items in this way. Clips keep the order
    of their first row; the segment of a row is its second.

    Raises:
      ValueError: the frames of a clip are not numbered 0, 1, 2 ...

    Example:
      >>> frames = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])  # two a second
      >>> table = Predictions(['a'] * 4, range(4), [0] * 4, frames, {'classes': ['bus', 'tram']})
      >>> seconds(table, count=2).probs.tolist()
      [[0.9, 0.1], [0.7, 0.3]]
    """
    _, first, group, frames = np.unique(
        table.clip_id, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((table.segment, group))  # clip by clip, frame by frame
    starts = np.cumsum(frames) - frames
    uneven = order[table.segment[order] != np.arange(len(order)) - np.repeat(starts, frames)]
    if len(uneven):
        raise ValueError(
            f'the frames of {some(np.unique(table.clip_id[uneven]).tolist())} are not numbered '
            '0, 1, 2 ...; give a table with all frames of each clip'
        )
    chosen = starts[:, None] + np.arange(count)[None] * frames[:, None] // count
    return rows(
        table,
        order[chosen[np.argsort(first)].ravel()],
        segment=np.tile(np.arange(count), len(first)),
        meta={**table.meta, 'granularity': 'second'},
    )


def grouped(table: Predictions, count: int) -> Predictions:
    """Averages each `count` rows in turn, such as the frames of each second.

    Args:
      table: the rows of a clip follow each other, frame by frame.
      count: row k of a clip becomes part of segment k // count.

    Raises:
      ValueError: the rows of a clip are not in this order or are no multiple of `count`.

    Example:
      >>> frames = np.array([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [0.25, 0.75]])
      >>> table = Predictions(['a'] * 4, range(4), [0] * 4, frames, {'classes': ['bus', 'tram']})
      >>> grouped(table, 2).probs.tolist()
      [[0.5, 0.5], [0.375, 0.625]]
    """
    first = slice(None, None, count)
    places = table.segment - np.arange(len(table.segment)) % count
    if len(places) % count or (places != np.repeat(places[first], count)).any():
        raise ValueError(
            f'the rows are not {count} frames of each second in order; cut sound and pictures into '
            'pieces of one length'
        )
    return rows(
        table,
        first,
        segment=(table.segment[first] // count).astype(np.int32),
        probs=table.probs.reshape(-1, count, table.probs.shape[1]).mean(axis=1),
        meta={**table.meta, 'granularity': 'second'},
    )


def baseline_views(table: Predictions) -> dict[str, Predictions]:
    """Returns what the challenge's baseline is scored on: its seconds, and its clips."""
    return {'second': seconds(table), 'product': pool(table, rule='product')}


VIEWS = {'openl3_baseline': baseline_views}


def aligned(tables: Iterable[Predictions]) -> list[Predictions]:
    """Returns the tables with names, rows and classes in the order of the first one's.

    Clips are joined by `names.matched`.

    Raises:
      ValueError: items, classes, granularity or known labels differ.

    Example:
      >>> meta = {'classes': ['bus', 'tram']}
      >>> ours = Predictions(['a', 'b'], [-1, -1], [0, 1], np.array([[0.9, 0.1]] * 2), meta)
      >>> theirs = Predictions(['b', 'a'], [-1, -1], [1, 0], np.array([[0.4, 0.6]] * 2), meta)
      >>> aligned([ours, theirs])[1].clip_id.tolist()
      ['a', 'b']
    """
    first, *others = tables
    keys = keys_of(first)
    result = [first]
    for number, table in enumerate(others, start=2):
        table = renamed(with_classes(table, first.meta['classes']), first.clip_id.tolist())
        for name, default in (('classes', None), ('granularity', None), ('kind', 'exclusive')):
            ours, theirs = (of.meta.get(name, default) for of in (first, table))
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
        moved = rows(table, np.array([row[key] for key in keys], int))
        clash = np.flatnonzero(_differ(first.label, moved.label))
        if len(clash):
            raise ValueError(
                f'table {number} and the first have different true labels in {len(clash)} rows: '
                f'{some([keys[index] for index in clash])}; give tables with the same labels'
            )
        result.append(moved)
    return result


def _differ(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Whether the known labels of each row differ, in one class at least."""
    if ours.ndim != theirs.ndim:  # of independent classes, one table knows no labels
        return np.zeros(len(ours), bool)
    if ours.ndim == 2:
        return (ours != theirs).any(axis=1)
    return (ours >= 0) & (theirs >= 0) & (ours != theirs)


def renamed(table: Predictions, clips: Iterable[str]) -> Predictions:
    """Gives the clips of a table the names that a list has for them; other clips keep theirs.

    Example:
      >>> probs = np.array([[0.9, 0.1]])
      >>> table = Predictions(['audio/a.wav'], [-1], [0], probs, {'classes': ['bus', 'tram']})
      >>> renamed(table, ['audio/a.wav', 'b.wav']).clip_id.tolist()
      ['audio/a.wav']
    """
    own = table.clip_id.tolist()
    theirs = names.matched(own, clips)
    clip_id = np.array([theirs.get(name, name) for name in own], str)
    return dataclasses.replace(table, clip_id=clip_id)


def with_classes(table: Predictions, classes: list[str]) -> Predictions:
    """Puts the columns of a table in the order of `classes`, if these are its classes.

    Example:
      >>> probs = np.array([[0.9, 0.1]])
      >>> table = Predictions(['a'], [-1], [0], probs, {'classes': ['bus', 'tram']})
      >>> with_classes(table, ['tram', 'bus']).probs.tolist()
      [[0.1, 0.9]]
    """
    own = table.meta['classes']
    if own == classes or sorted(own) != sorted(classes):
        return table
    place = np.array([*map(classes.index, own), -1], np.int32)  # the last one: an unknown label
    columns = [own.index(name) for name in classes]
    return dataclasses.replace(
        table,
        label=table.label[:, columns] if table.label.ndim == 2 else place[table.label],
        probs=table.probs[:, columns],
        meta={**table.meta, 'classes': classes, **thresholds.moved(table.meta, columns)},
    )


def _list(value: Iterable[str] | str | None) -> str:
    return str(value) if value is None or isinstance(value, str) else ' '.join(value)
