"""Reads the true scenes of clips from a list, and joins them with tables."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from avsc_jax import scenes
from avsc_jax.runtime.files import some
from avsc_jax.tables.predictions import Predictions
from avsc_jax.tables.text_files import clip_id_of, existing, name_column, naming, parse


def truth(path: str | pathlib.Path) -> dict[str, str]:
    """Reads the true scene of each clip from a fold file, such as fold1_evaluate.csv.

    Args:
      path: a text file with a column of file names (filename_audio ...) and scene_label.

    Returns:
      clip_id -> name of the scene.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column is missing, the file holds predictions, or a clip has two scenes.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder, 'fold1_evaluate.csv')
      ...     _ = path.write_text('filename_audio\\tscene_label\\naudio/a.wav\\tbus\\n')
      ...     truth(path)
      {'a': 'bus'}
    """
    path = existing(path)
    labels: dict[str, str] = {}
    with naming(path):
        header, rows = parse(path)
        if 'scene_label' not in header:
            raise ValueError(f'the columns are {" ".join(header)}; scene_label must be there')
        if set(scenes.SCENES) <= set(header) and 'scene_pred' not in header:
            raise ValueError(
                'this is a file of predictions, whose scene_label is what a system guessed; give '
                'the fold file, such as fold1_evaluate.csv'
            )
        name, label = name_column(header), header.index('scene_label')
        for row in rows:
            clip_id = clip_id_of(row[name])
            if labels.setdefault(clip_id, row[label]) != row[label]:
                raise ValueError(
                    f'{clip_id} is {labels[clip_id]!r} and {row[label]!r}; a clip has one scene'
                )
    return labels


def with_truth(table: Predictions, labels: Mapping[str, str]) -> Predictions:
    """Returns the table with the labels that `truth` read.

    Args:
      table: any labels of its own are replaced.
      labels: clip_id -> name of the scene.

    Raises:
      ValueError: a clip has no label, or a label is none of the table's classes.

    Example:
      >>> probs = np.array([[0.9, 0.1]])
      >>> table = Predictions(['a'], [-1], [-1], probs, {'classes': ['bus', 'tram']})
      >>> with_truth(table, {'a': 'tram'}).label.tolist()
      [1]
    """
    clips = list(dict.fromkeys(table.clip_id.tolist()))
    missing = [clip for clip in clips if clip not in labels]
    if missing:
        raise ValueError(
            f'{len(missing)} of {len(clips)} clips have no true label: {some(missing)}; '
            'give a file that lists them all'
        )
    names = [labels[clip] for clip in table.clip_id.tolist()]
    return dataclasses.replace(table, label=label_indices(names, table.meta['classes']))


def label_indices(names: list[str], classes: Sequence[str]) -> np.ndarray:
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise ValueError(f'true labels {some(unknown)} are none of {" ".join(classes)}')
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number[name] for name in names], np.int32)
