"""Reads the true scenes of clips from a list, and joins them with tables."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from avsc_jax import scenes
from avsc_jax.runtime.files import some
from avsc_jax.tables import names
from avsc_jax.tables.predictions import Predictions, cautioned
from avsc_jax.tables.text_files import (
    GROUPS,
    LABELS,
    LISTED,
    clip_names,
    column,
    existing,
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
      ValueError: a column is missing, the file holds predictions, or a clip has two scenes.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'fold1_evaluate.csv')
      ...     header = 'filename_audio\\tfilename_video\\tscene_label'
      ...     _ = path.write_text(header + '\\naudio/a.wav\\tvideo/a.mp4\\tbus\\n')
      ...     truth(path)
      {'a': 'bus'}
    """
    path = existing(path)
    with naming(path):
        header, rows = parse(path)
        place = column(header, LABELS)
        if place is None:
            raise ValueError(f'the columns are {" ".join(header)}; {LABELS[0]} must be there')
        if set(scenes.SCENES) <= set(header) and 'scene_pred' not in header:
            raise ValueError(
                'this is a file of predictions, whose scene_label is what a system guessed; give '
                'the fold file, such as fold1_evaluate.csv'
            )
        labels: dict[str, str] = {}
        for clip, row in zip(_clips(header, rows), rows, strict=True):
            label = row[place].strip()
            if labels.setdefault(clip, label) != label:
                raise ValueError(f'{clip} is {labels[clip]!r} and {label!r}; a clip has one scene')
    return labels


def listed_groups(path: str | pathlib.Path) -> dict[str, str]:
    """Reads the location or other group of each clip from a list, if it has such a column.

    Args:
      path: a list as of `truth`; its groups are in a column group, location or identifier.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'list.csv')
      ...     _ = path.write_text('path,label,group\\na.wav,bus,line 5\\n')
      ...     listed_groups(path)
      {'a.wav': 'line 5'}
    """
    path = existing(path)
    with naming(path):
        header, rows = parse(path)
        place = column(header, GROUPS)
        if place is None:
            return {}
        return {
            clip: row[place].strip() for clip, row in zip(_clips(header, rows), rows, strict=True)
        }


def with_truth(
    table: Predictions, labels: Mapping[str, str], groups: Mapping[str, str] | None = None
) -> Predictions:
    """Returns the table with the labels that `truth` read, joined by `names.matched`.

    Clips that only the list has are a warning, which the table brings into reports.

    Args:
      table: any labels of its own are replaced.
      labels: clip_id -> name of the scene.
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
    label = label_indices([labels[name] for name in listed], table.meta['classes'])
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


def label_indices(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Returns the number of each label among the classes `[N]`.

    Raises:
      ValueError: a label is none of the classes.
    """
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise ValueError(f'true labels {some(unknown)} are none of {" ".join(classes)}')
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
