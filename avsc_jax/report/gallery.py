"""Shows the clips whose scene is right from sound and wrong from pictures, darkest first.

Source: Okazaki et al. 2021, Fig. 2: dim scenes that A02 knows and V02 does not, beside C04.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avsc_jax import tables
from avsc_jax.data import media, split_words
from avsc_jax.data.batches import read_ahead
from avsc_jax.data.records import Dataset, Records
from avsc_jax.report import html
from avsc_jax.report.console import percent
from avsc_jax.runtime.files import write_texts
from avsc_jax.tables.names import key

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, of R, G, B
THUMBNAIL_WIDTH = 400


def write(
    members: Mapping[str, tables.Predictions],
    dataset: Dataset,
    split: str,
    path: Path,
    *,
    sound: str,
    picture: str,
    count: int = 24,
) -> int:
    """Writes the page; returns how many clips `sound` has right and `picture` wrong.

    Args:
      members: name to table, of the same clips; those of frames and seconds are pooled to clips.
      dataset: has the frames of these clips in `split`. All are decoded once, for the brightness.
      sound, picture: names of two members.
      count: clips shown at most.

    Raises:
      ValueError: a member is missing, no clip has a true scene, or a clip is not in the split.
    """
    for role in (sound, picture):
        if role not in members:
            raise ValueError(f'{role!r} is none of the tables {", ".join(members)}; name one')
    if sound == picture:
        raise ValueError(f'{sound!r} cannot be both the sound and the picture; name two tables')
    pooled = tables.aligned(tables.pool(table) for table in members.values())
    label = np.max([table.label for table in pooled], axis=0)  # -1 where no table knows it
    if not (known := label >= 0).any():
        raise ValueError(f'none of the {len(label)} clips has a true scene; give it with --truth')
    clips, label = pooled[0].clip_id[known].tolist(), label[known]
    probs = {name: table.probs[known] for name, table in zip(members, pooled, strict=True)}
    records = dataset.records(split, fields=('frames',))
    index, brightness = _brightness(records, clips, f'{split_words.title(split)} of {dataset.name}')
    darkest = np.argsort(brightness, kind='stable')
    right = {role: (probs[role].argmax(axis=1) == label)[darkest] for role in (sound, picture)}
    chosen = darkest[right[sound] & ~right[picture]]
    classes = pooled[0].meta['classes']
    cards = []
    for row in chosen[:count]:
        frames = records[index[row]]['frames']
        cards.append(
            {
                'jpeg': _thumbnail(frames[len(frames) // 2]),
                'clip': clips[row],
                'scene': classes[label[row]],
                'brightness': brightness[row],
                'answers': _answers(
                    {name: each[row] for name, each in probs.items()}, label[row], classes
                ),
            }
        )
    sentence = _sentence(right, len(chosen))
    if len(cards) < len(chosen):
        sentence += f' The {len(cards)} darkest are shown.'
    title = f'{sound} right, {picture} wrong'
    page = html.render('gallery.html', title=title, warnings=(), sentence=sentence, cards=cards)
    write_texts(path.parent, {path.name: page})
    return len(chosen)


def _brightness(records: Records, clips: Sequence[str], where: str) -> tuple[list[int], np.ndarray]:
    """Returns the place of each clip among the records, and the mean luma of its frames."""
    wanted = {*map(key, clips)}

    def measure(place: int) -> tuple[str, int, float]:
        clip_id = key(records.outline(place)['clip_id'])
        frames = records[place]['frames'] if clip_id in wanted else [np.zeros((1, 1, 3))]
        return clip_id, place, np.mean([frame.mean(axis=(0, 1)) @ LUMA for frame in frames])

    measured = read_ahead(measure, range(len(records)))
    measured = tqdm(measured, desc='brightness', total=len(records), unit='clip')
    by_clip = {clip_id: (place, luma) for clip_id, place, luma in measured}
    if missing := [clip_id for clip_id in clips if key(clip_id) not in by_clip]:
        raise ValueError(
            f'{len(missing)} of {len(clips)} clips are not in {where}: {", ".join(missing[:3])}; '
            'name the --dataset and --split that the tables are of'
        )
    places, luma = zip(*(by_clip[key(clip_id)] for clip_id in clips), strict=True)
    return list(places), np.array(luma)


def _sentence(right: Mapping[str, np.ndarray], count: int) -> str:
    """Counts the chosen clips, and says how often sound and picture are right in dark and light.

    Args:
      right: for the sound, then for the picture, whether it is right; the darkest clip first.
      count: number of chosen clips.
    """
    (sound, sound_right), (picture, picture_right) = right.items()
    num = len(sound_right)
    halves = ' and '.join(
        f'in the {name} half {sound} is right in {percent(sound_right[half].mean())}, '
        f'{picture} in {percent(picture_right[half].mean())}'
        for name, half in (('dark', slice(0, (num + 1) // 2)), ('light', slice(num // 2, None)))
    )
    clips = f'{count:,} of {num:,} clips' if count else f'none of the {num:,} clips'
    return f'{sound} is right and {picture} is wrong in {clips}; {halves}.'


def _thumbnail(frame: np.ndarray) -> str:
    """Returns a small JPEG of the frame in base64."""
    height = max(1, round(frame.shape[0] * THUMBNAIL_WIDTH / frame.shape[1]))
    small = media.resize_picture(frame, height, THUMBNAIL_WIDTH)
    return base64.b64encode(media.encode_jpeg(small, quality=75)).decode()


def _answers(
    probs: Mapping[str, np.ndarray], label: int, classes: Sequence[str]
) -> list[tuple[str, str, float]]:
    """Lists each member's answer; below a wrong one, the true scene with its probability."""
    rows = []
    for name, each in probs.items():
        answer = int(each.argmax())
        rows.append((name, classes[answer], each[answer]))
        if answer != label:
            rows.append(('', classes[label], each[label]))
    return rows
