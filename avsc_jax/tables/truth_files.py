"""Reads the true scenes of clips from a list, and joins them with tables."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avsc_jax.runtime.files import some
from avsc_jax.tables import names
from avsc_jax.tables.predictions import LABEL_COLUMNS, Predictions, cautioned, check_exclusive
from avsc_jax.tables.text_files import (
    GROUPS,
    LABELS,
    LISTED,
    clip_names,
    column,
    existing,
    group_names,
    name_columns,
    naming,
    parse,
)  # fmt: skip


def truth(path: str | pathlib.Path) -> dict[str, str]:
    """Reads the true scene of each clip from a list, such as fold1_evaluate.csv or meta.csv.

    Args:
      path: a text file with a column of file names (filename_audio, path ...) and one of labels
        (scene_label, label or class).

    Returns:
      Name of the clip -> name of the scene. A clip that is a file of sound and one of pictures is
      called by what their names share.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column is missing, the file holds predictions, or a clip has no scene or two.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'fold1_evaluate.csv')
      ...     header = 'filename_audio\\tfilename_video\\tscene_label'
      ...     _ = path.write_text(header + '\\naudio/a.wav\\tvideo/a.mp4\\tbus\\n')
      ...     truth(path)
      {'a': 'bus'}
    """
    return truth_and_groups(path)[0]


def truth_and_groups(path: str | pathlib.Path) -> tuple[dict[str, str], dict[str, str]]:
    """Reads the true scene, and the location or other group, of each clip from a list.

    Args:
      path: a list as of `truth`; its groups are in a column group, location or identifier.

    Returns:
      Name of the clip -> name of the scene, and -> its group, '' where it is unknown; the second is
      empty where the list has no such column.

    Raises:
      FileNotFoundError, ValueError: as `truth`, and ValueError for a clip of two groups.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'list.csv')
      ...     _ = path.write_text('path,label,group\\na.wav,bus,line 5\\n')
      ...     truth_and_groups(path)
      ({'a.wav': 'bus'}, {'a.wav': 'line 5'})
    """
    path = existing(path)
    with naming(path):
        header, rows = parse(path)
        place, of_groups = column(header, LABELS), column(header, GROUPS)
        if place is None:
            names = ' or '.join(LABELS)
            raise ValueError(f'the columns are {" ".join(header)}; {names} must be there')
        clips, scenes = _clips(header, rows), [row[place].strip() for row in rows]
        columns = {*header} - {*LISTED, *LABELS, *GROUPS}
        if 'scene_pred' not in header and {*scenes} & columns:  # a class is a column
            raise ValueError(
                f'this is a file of predictions, whose {header[place]} is what a system guessed; '
                'give the list of the true scenes, such as fold1_evaluate.csv'
            )
        if unlabelled := [clip for clip, scene in zip(clips, scenes, strict=True) if not scene]:
            raise ValueError(
                f'{len(unlabelled)} of {len(clips)} rows have no label: {some(unlabelled)}; give '
                'their scenes, or leave them out'
            )
        labels = _one_each(clips, scenes, 'scene')
        grouped = [] if of_groups is None else group_names(rows, of_groups)
        groups = _one_each(clips, grouped, 'group') if grouped else {}
    return labels, groups


def label_sets(path: str | pathlib.Path) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Reads the true labels, of which a clip may have several or none, and the group of each clip.

    Args:
      path: a list as of `truth`, whose labels are written as in the tables that are trained on; see
        `data.sources.label_columns`. The rows of one clip add up.

    Returns:
      Name of the clip -> its labels, and -> its group, as `truth_and_groups`.

    Raises:
      FileNotFoundError, ValueError: as `truth_and_groups`.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'list.csv')
      ...     _ = path.write_text('path,label\\na.wav,night;crowd\\nb.wav,\\n')
      ...     label_sets(path)[0]
      {'a.wav': ('crowd', 'night'), 'b.wav': ()}
    """
    from avsc_jax.data.sources import label_columns  # TFDS, beside it, takes seconds to load

    path = existing(path)
    with naming(path):
        header, rows = parse(path)
        if answers := [name for name in header if name in LABEL_COLUMNS.values()]:
            raise ValueError(
                f'this is a file of predictions, with the column {answers[0]}; give a list of the '
                'true labels'
            )
        place, of_groups = column(header, (*LABELS, 'labels')), column(header, GROUPS)
        others = [n for n in header if n not in (*LISTED, *LABELS, *GROUPS, 'labels', 'split')]
        made = [
            label_columns.Row(
                number,
                {} if place is None else {'label': row[place].strip()},
                {name: row[header.index(name)].strip() for name in others},
            )
            for number, row in enumerate(rows, start=2)
        ]
        clips = _clips(header, rows)
        sets: dict[str, set[str]] = {}
        for clip, labels in zip(clips, label_columns.read(path, made, 'independent'), strict=True):
            sets.setdefault(clip, set()).update(labels)
        grouped = [] if of_groups is None else group_names(rows, of_groups)
        groups = _one_each(clips, grouped, 'group') if grouped else {}
    return {clip: tuple(sorted(labels)) for clip, labels in sets.items()}, groups


def _one_each(clips: Sequence[str], values: Sequence[str], kind: str) -> dict[str, str]:
    """Maps clips to their values; raises ValueError for a clip that has two."""
    value_of: dict[str, str] = {}
    for clip, value in zip(clips, values, strict=True):
        if value_of.setdefault(clip, value) != value:
            raise ValueError(f'{clip} is {value_of[clip]!r} and {value!r}; a clip has one {kind}')
    return value_of


def with_truth(
    table: Predictions, labels: Mapping[str, Any], groups: Mapping[str, str] | None = None
) -> Predictions:
    """Returns the table with the labels that `truth` or `label_sets` read; see `names.matched`.

    Clips that only the list has are a warning, which the table brings into reports.

    Args:
      table: any labels of its own are replaced.
      labels: clip_id -> name of the scene or, of independent classes, the names of its labels.
      groups: clip_id -> its group; those replace the table's own.

    Raises:
      ValueError: a clip has no label, or a label is none of the table's classes.

    Example:
      >>> probs = np.array([[0.9, 0.1]])
      >>> table = Predictions(['a'], [-1], [-1], probs, {'classes': ['bus', 'tram']})
      >>> with_truth(table, {'a': 'tram'}).label.tolist()
      [1]
    """
    clips = list(dict.fromkeys(table.clip_id.tolist()))
    name_in_list = names.matched(clips, labels)
    missing = [clip for clip in clips if clip not in name_in_list]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(clips)} clips have no true label: {some(missing)}; '
            'give a file that lists them all'
        )
    listed = [name_in_list[clip] for clip in table.clip_id.tolist()]
    classes = table.meta['classes']
    if any(isinstance(names, str) for names in labels.values()):
        check_exclusive(table, 'a list of scenes')
    if table.meta.get('kind') == 'independent':
        label = _multi_hot([labels[name] for name in listed], classes)
    else:
        label = label_indices([labels[name] for name in listed], classes)
    table = dataclasses.replace(table, label=label)
    if groups:
        group = [groups.get(name, '') for name in listed]
        table = dataclasses.replace(table, group=np.array(group, str))
    left = [name for name in labels if name not in {*name_in_list.values()}]
    line = (
        f'{len(left)} of the {len(labels)} clips with a true scene are not in the table, and count '
        f'in no score: {some(left)}'
    )
    return cautioned(table, [line] * bool(left))


def _multi_hot(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """Returns which classes are true of each row, bool `[N, C]`; see `label_indices`."""
    numbers = label_indices([name for names in labels for name in names], classes)
    rows = np.repeat(np.arange(len(labels)), [len(names) for names in labels])
    array = np.zeros((len(labels), len(classes)), bool)
    array[rows, numbers] = True
    return array


def label_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Returns the number of each label among the classes `[N]`.

    Raises:
      ValueError: a label is none of the classes.
    """
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        shown = some([name or 'nothing' for name in unknown])
        raise ValueError(f'true labels {shown} are none of {" ".join(classes)}')
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in labels], np.int32)


def _clips(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Names the clip of each row; sound and picture are one clip, called by what they share."""
    first, *others = name_columns(header, LISTED)
    forms = (names.plain, names.without_ending, names.stem)
    clips = []
    for name, row in zip(clip_names(rows, first), rows, strict=True):
        files = [name, *filter(None, (names.plain(row[place]) for place in others))]
        shared = (form(name) for form in forms if len({*map(form, files)}) == 1)
        clips.append(next(shared, name))
    return clips
