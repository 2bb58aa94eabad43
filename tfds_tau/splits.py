"""Which clip is in which split: the set's own fold lists, and the official baseline's inner split.

Stored splits are `train_inner`, `validation` and `test`; `train` is the first two, in that order.
"""

import collections
import csv
import hashlib
import random

from avsc_jax.data.builder.clip_reader import Clip
from avsc_jax.data.builder.media_files import MediaFiles
from avsc_jax.scenes import parse_clip_id

# SHA-256 of the sorted names, joined by line feeds, of the set's fold 1 training list (8,646
# clips) and of the 7,907 of them that the baseline trains on. They guard the rule below.
TRAIN_SHA256 = 'fc5f6bf2302c902f6390e0e6274301d49ad32046f39e0e6c0b931b05dedb1074'
TRAIN_INNER_SHA256 = '03c1c7d1d4b9802a4601d8a93486f068eb6113932f8bddf99ab7520572434d5f'


def development(files: MediaFiles) -> dict[str, list[Clip]]:
    """Returns the non-empty stored splits of the development set, each in the lists' order."""
    train, test = (_read_list(files, f'fold1_{part}.csv') for part in ('train', 'evaluate'))
    if both := {clip.clip_id for clip in train} & {clip.clip_id for clip in test}:
        raise ValueError(f'clip {min(both)} is both in fold1_train.csv and fold1_evaluate.csv')
    inner = inner_split([clip.clip_id for clip in train])
    parts = {
        'train_inner': [clip for clip in train if clip.clip_id in inner],
        'validation': [clip for clip in train if clip.clip_id not in inner],
        'test': test,
    }
    return {name: clips for name, clips in parts.items() if clips}


def evaluation(files: MediaFiles) -> dict[str, list[Clip]]:
    """Returns the evaluation items: files paired by stem whose names tell no scene."""
    stems = {'audio': {}, 'video': {}}
    for name in files:
        folder, _, filename = name.rpartition('/')
        stem = filename.rpartition('.')[0]
        if folder in stems and not filename.startswith('.') and parse_clip_id(stem) is None:
            stems[folder][stem] = name
    if not stems['audio'] and not stems['video']:
        raise FileNotFoundError(
            f'no evaluation items (audio/*, video/* without a scene in the name) in {files.root}; '
            'put the zips of zenodo.org/records/4767103 there, or name their folder by --manual_dir'
        )
    pairs = []
    for stem in sorted(stems['audio'].keys() | stems['video'].keys()):
        # one without the other keeps its place: the build lists what is missing
        audio = stems['audio'].get(stem, f'audio/{stem}.wav')
        pairs.append(Clip(stem, audio, stems['video'].get(stem, f'video/{stem}.mp4'), ''))
    return {'test': pairs}


def inner_split(clip_ids: list[str]) -> set[str]:
    """Returns the training part of the official baseline's seeded cut of a training list.

    Scene by scene, whole locations move to the training part in random order until it holds nine
    tenths of the scene's clips; one generator serves all scenes.

    Source: official DCASE 2021 Task 1B baseline, split_data.py.
    """
    scenes = collections.defaultdict(lambda: collections.defaultdict(list))
    for clip_id in clip_ids:
        name = parse_clip_id(clip_id)
        scenes[name.scene][name.location].append(clip_id)
    rng, inner = random.Random(30), set()
    for _, locations in sorted(scenes.items()):
        rest, taken = sorted(locations), []
        enough = int(0.9 * sum(map(len, locations.values())))
        while len(taken) < enough:
            location = rng.choice(rest)
            rest.remove(location)
            taken += locations[location]
        inner.update(taken)
    if _sha256(clip_ids) == TRAIN_SHA256 and _sha256(inner) != TRAIN_INNER_SHA256:
        raise ValueError(
            f'the inner split of the true training list gives {len(inner)} clips, not the 7,907 of '
            'the official baseline: did random.Random change?'
        )
    return inner


def _sha256(names: list[str] | set[str]) -> str:
    return hashlib.sha256('\n'.join(sorted(names)).encode()).hexdigest()


def _read_list(files: MediaFiles, filename: str) -> list[Clip]:
    """Reads a fold list: tab-separated, any line ending, with or without a byte order mark."""
    text = files.read_text(filename)
    if text is None:
        raise FileNotFoundError(
            f'{filename} is neither under {files.root} nor in a zip there; put the archives of '
            'zenodo.org/records/4477542 there, or name their folder by --manual_dir'
        )
    rows = csv.DictReader(text.splitlines(), delimiter='\t')
    wanted = {'filename_audio', 'filename_video', 'scene_label'}
    if missing := wanted - set(rows.fieldnames or ()):
        raise ValueError(
            f'{filename} has the columns {rows.fieldnames}, not {", ".join(sorted(missing))}; '
            'it should be tab-separated, with a header'
        )
    clips = []
    for row in rows:
        audio, video, scene = (str(row[c]).strip() for c in sorted(wanted))
        clip_id = audio.rpartition('/')[2].rpartition('.')[0]
        name = parse_clip_id(clip_id)
        if name is None or name.scene != scene:
            raise ValueError(
                f'{filename} lists {audio!r} as {scene!r}; the name should be '
                'audio/<scene>-<city>-<location>-<segment>.wav with that scene'
            )
        clips.append(Clip(clip_id, audio, video, scene))
    return clips
