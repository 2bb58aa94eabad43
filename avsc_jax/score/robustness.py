"""What avsc_jax.robustness does: finished runs answer disturbed clips of their own test split.

Sound is dropped, pictures are dropped, noise is laid over the sound, frames are darkened. What is
disturbed are the records of the data set; a system gets them as it gets any others.
"""

import argparse
import csv
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from avsc_jax import metrics, tables
from avsc_jax.data import media, sources
from avsc_jax.data.records import default_data_dir
from avsc_jax.predict import dataset as clips
from avsc_jax.predict import predictor as systems
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.predictor import Predictor
from avsc_jax.report.console import columns, markdown, number, percent
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime.files import printable, write_texts
from avsc_jax.weights.cache import default_weights_dir

RECORDS_PER_BATCH = 8
# Of pixel values: about 5 % of the light, day become dusk. Half of it is within what training's
# own colour jitter does, and a tenth leaves 26 levels, where it is the rounding that is tested.
GAIN = 0.25


def noisy(record: Mapping, *, snr_db: float) -> dict:
    """The record with white noise over its sound, drawn by its name: the same at every level.

    What lies beyond [-1, 1) is left so, as the ratio would change where it is cut.
    """
    audio, name = record['audio'], f'{record["clip_id"]} {record["segment"]}'
    noise = np.random.default_rng([*name.encode()]).standard_normal(audio.shape, np.float32)
    power = np.mean(np.square(audio, dtype=np.float64))  # a silent clip stays so
    return {**record, 'audio': audio + np.float32(np.sqrt(power * 10 ** (-snr_db / 10))) * noise}


def dark(record: Mapping) -> dict:
    """The record with its pictures darkened: frames as bytes, OpenL3's pictures as they are."""
    found = dict(record)
    if 'frames' in record:
        found['frames'] = [np.round(GAIN * frame).astype(np.uint8) for frame in record['frames']]
    if 'media_frames' in record:  # black is 0, or -1 where videos have the network's own size
        black = -1.0 if any((frame < 0).any() for frame in record['media_frames']) else 0.0
        found['media_frames'] = [
            np.float32(GAIN) * (frame - np.float32(black)) + np.float32(black)
            for frame in record['media_frames']
        ]
    return found


# What is done to clips -> to what of them, and how; without a way it is dropped.
CONDITIONS: dict[str, tuple[str | None, Callable[[Mapping], dict] | None]] = {
    'clean': (None, dict),
    'no sound': ('sound', None),
    'no picture': ('picture', None),
    'noise 20 dB': ('sound', partial(noisy, snr_db=20)),
    'noise 10 dB': ('sound', partial(noisy, snr_db=10)),
    'noise 0 dB': ('sound', partial(noisy, snr_db=0)),
    'dark': ('picture', dark),
}


def run(options: argparse.Namespace) -> int:
    """Scores each run; the table is written once all are scored."""
    _check(options)
    options.data_dir = options.data_dir or default_data_dir()
    options.weights_dir = options.weights_dir or default_weights_dir()
    found = []
    for path in options.runs:
        print(path.name, file=sys.stderr)
        found.append(score(path, options))
    print(text(found))
    if options.out:
        suffix = options.out.suffix
        write_texts(options.out.parent, {options.out.name: WRITERS[suffix](found)})
        print(f'wrote {options.out}')
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises an error for what of the arguments does not hold, before anything takes long."""
    for run in options.runs:
        if not RunFolder(run).is_done:
            raise FileNotFoundError(f'{run} holds no finished run; name run folders')
    if options.clips is not None and options.clips < 1:
        raise ValueError(f'--clips is {options.clips}; it must be 1 or more')
    if options.out and options.out.suffix not in WRITERS:
        raise ValueError(f'--out {options.out} must end in {", ".join(WRITERS)}')


def score(run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A run's name, its data, and its scores of clips under each condition that it can meet."""
    folder = RunFolder(run)
    data = ConfigDict(folder.config['data'])
    dataset = sources.open_dataset(data, options.data_dir)
    split = options.split or data.get('test')
    if not split:
        raise ValueError(f'{run} was scored on nothing; name a split of {dataset.name} by --split')
    if options.clips and 'fold' in data:
        raise ValueError(f'{run} is scored on a fold, of which --clips takes no part; leave it out')
    predictor = systems.load(run, options.weights_dir)
    warnings = [*predictor.warnings]
    if (trained := folder.read_json('environment.json')['data']) != _told(dataset):
        warnings.append(f'{run.name} was trained on {trained}, these clips are of {_told(dataset)}')
    total = dataset.num_records(split)
    chosen = media.evenly_spaced(total, min(options.clips or total, total))
    part = split if len(chosen) == total else '+'.join(f'{split}[{i}:{i + 1}]' for i in chosen)
    records = clips.records(predictor, dataset, part, options.data_dir, options.media_dir)
    scores, num_clips = _scores(predictor, records)
    about = f'{dataset.name} {split}, {num_clips:,} clips'
    about += f', by {len(chosen):,} of {total:,} records' * (len(chosen) < total)
    return {
        'run': printable(run.absolute().name),
        'about': printable(about),
        'warnings': list(map(printable, warnings)),
        'scores': scores,
    }


def _scores(
    predictor: Predictor, records: Iterator[Mapping]
) -> tuple[dict[str, dict[str, float]], int]:
    """Condition -> log loss and accuracy of clips; and how many clips there are."""
    facts = {name: [] for name in ('clip_id', 'segment', 'label')}
    probs = {name: [] for name in CONDITIONS if _meets(predictor, name)}
    while batch := list(itertools.islice(records, RECORDS_PER_BATCH)):
        for name, column in facts.items():
            column += [record[name] for record in batch]
        for name, found in probs.items():
            found += [answer.probs for answer in _answers(predictor, batch, name)]
    meta = {'classes': predictor.classes}
    made = {
        name: tables.Predictions(**facts, probs=np.stack(of), meta=meta)
        for name, of in probs.items()
    }
    pooled = {name: tables.pool(table) for name, table in made.items()}
    scores = {
        name: {
            'log_loss': metrics.log_loss(table.probs, table.label),
            'accuracy': metrics.accuracy(table.probs, table.label),
        }
        for name, table in pooled.items()
    }
    return scores, len(pooled['clean'].clip_id)


def _meets(predictor: Predictor, condition: str) -> bool:
    """Whether it takes what is disturbed, and something else too where that is dropped."""
    kind, change = CONDITIONS[condition]
    return kind in (None, *predictor.takes) and (change is not None or len(predictor.takes) > 1)


def _answers(predictor: Predictor, batch: Sequence[Mapping], condition: str) -> list[Answer]:
    kind, change = CONDITIONS[condition]
    if change is None:
        return predictor.answers(batch, without=(kind,))
    return predictor.answers([change(record) for record in batch])


def _told(dataset: Any) -> str:
    """As a run's environment.json tells of its data."""
    return f'{dataset.name} {dataset.fingerprint}'


def text(found: Sequence[Mapping]) -> str:
    """The table for a console, what it is of below."""
    return '\n'.join([*columns(*_table(found)), '', *_notes(found)])


def _table(found: Sequence[Mapping]) -> tuple[list[str], list[list[str]]]:
    rows = [[each['run'], *(_cell(each['scores'].get(c)) for c in CONDITIONS)] for each in found]
    return ['log loss, accuracy', *CONDITIONS], rows


def _cell(score: Mapping | None) -> str:
    if score is None:
        return '–'
    return f'{number(score["log_loss"])}, {percent(score["accuracy"])}'


def _notes(found: Sequence[Mapping]) -> list[str]:
    """What the numbers are of, and what the runs warn of."""
    warnings = dict.fromkeys(line for each in found for line in each['warnings'])
    abouts = {}
    for each in found:
        abouts.setdefault(each['about'], []).append(each['run'])
    return [
        *(f'! {line}' for line in warnings),
        *(f'{about}: {", ".join(names)}' for about, names in abouts.items()),
        'no sound, no picture: dropped (a network of both gets the mean of its training data in '
        'its place, or zeros in older runs; an ensemble does without those members)',
        f'noise: white, at this ratio to each record’s own power; dark: pixel values times {GAIN}',
    ]


def _markdown(found: Sequence[Mapping]) -> str:
    return '\n'.join([*markdown(*_table(found)), '', *(f'- {n}' for n in _notes(found))]) + '\n'


def _tsv(found: Sequence[Mapping]) -> str:
    """A row for each run and condition, at full precision."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter='\t', lineterminator='\n')
    writer.writerow(['run', 'condition', 'log_loss', 'accuracy', 'about'])
    for each in found:
        for name, score in each['scores'].items():
            writer.writerow([each['run'], name, *score.values(), each['about']])
    return out.getvalue()


def _json(found: Sequence[Mapping]) -> str:
    return json.dumps(list(found), indent=1, allow_nan=False, ensure_ascii=False) + '\n'


WRITERS = {'.md': _markdown, '.tsv': _tsv, '.json': _json}
