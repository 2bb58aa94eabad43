"""Runs avsc_jax.robustness: scores finished runs on disturbed clips of their own test split.

Sound or pictures are dropped, noise is added to the sound, frames are darkened. The records of the
data set are disturbed, so a system reads them as it reads any others.
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
from avsc_jax.data.records import default_data_dir, is_same
from avsc_jax.predict import dataset as clips
from avsc_jax.predict import predictor as systems
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.predictor import Predictor
from avsc_jax.report.console import columns, markdown, number, percent
from avsc_jax.runs.run_folder import RunFolder, opening
from avsc_jax.runtime.files import printable, write_texts
from avsc_jax.weights.cache import default_weights_dir

RECORDS_PER_BATCH = 8
# Factor of pixel values: about 5 % of the light, as at dusk. A factor of 0.5 is within training's
# own colour jitter, and 0.1 leaves 26 levels, which would test the rounding.
GAIN = 0.25


def noisy(record: Mapping, *, snr_db: float) -> dict:
    """Adds white noise to the sound, seeded by the record's name: the same noise at each level.

    Values beyond [-1, 1) are not clipped, because that would change the ratio.
    """
    audio, name = record['audio'], f'{record["clip_id"]} {record["segment"]}'
    noise = np.random.default_rng([*name.encode()]).standard_normal(audio.shape, np.float32)
    power = np.mean(np.square(audio, dtype=np.float64))  # a silent clip stays silent
    return {**record, 'audio': audio + np.float32(np.sqrt(power * 10 ** (-snr_db / 10))) * noise}


def dark(record: Mapping) -> dict:
    """Darkens the pictures of a record: frames stay bytes, OpenL3's pictures stay floats."""
    darkened = dict(record)
    if 'frames' in record:
        darkened['frames'] = [np.round(GAIN * frame).astype(np.uint8) for frame in record['frames']]
    if 'media_frames' in record:  # black is 0, or -1 where videos have the network's own size
        black = -1.0 if any((frame < 0).any() for frame in record['media_frames']) else 0.0
        darkened['media_frames'] = [
            np.float32(GAIN) * (frame - np.float32(black)) + np.float32(black)
            for frame in record['media_frames']
        ]
    return darkened


# Condition -> the modality that it disturbs, and the function for it; None drops the modality.
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
    """Scores each run, prints the table, and writes it if asked; returns the exit code."""
    _check(options)
    options.data_dir = options.data_dir or default_data_dir()
    options.weights_dir = options.weights_dir or default_weights_dir()
    scored = []
    for path in options.runs:
        print(path.name, file=sys.stderr)
        scored.append(score(path, options))
    print(text(scored))
    if options.out:
        suffix = options.out.suffix
        write_texts(options.out.parent, {options.out.name: WRITERS[suffix](scored)})
        print(f'wrote {options.out}')
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises an error for the first argument that is wrong, before any long work."""
    for run in options.runs:
        RunFolder(run).check_done()
        if RunFolder(run).kind != 'exclusive':
            raise ValueError(
                f'{run} gives clips several labels, and this table has log loss and accuracy, of '
                'one class a clip; name runs of one class'
            )
    if options.clips is not None and options.clips < 1:
        raise ValueError(f'--clips is {options.clips}; it must be 1 or more')
    if options.out and options.out.suffix not in WRITERS:
        raise ValueError(f'--out {options.out} must end in {", ".join(WRITERS)}')


def score(run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Scores a run under each condition that applies; returns scores, name, data, warnings."""
    folder = RunFolder(run)
    with opening(run):
        data = ConfigDict(folder.config['data'])
    dataset = sources.open_dataset(data, options.data_dir)
    split = options.split or data.get('test')
    if not split:
        raise ValueError(f'{run} has no test split; name a split of {dataset.name} by --split')
    if options.clips and 'fold' in data:
        raise ValueError(
            f'{run} is scored on a fold, which --clips cannot shorten; leave out --clips'
        )
    predictor = systems.load(run, options.weights_dir)
    warnings = [*predictor.warnings]
    trained = folder.identities
    if not is_same(trained, dataset.identities):
        warnings.append(
            f'{run.name} was trained on {trained[0]}, but these clips are of '
            f'{dataset.identities[0]}'
        )
    total = dataset.num_records(split)
    chosen = _chosen(split, total, options.clips)
    records = clips.records(
        predictor, dataset, split, options.data_dir, options.media_dir, places=chosen
    )
    scores, num_clips = _scores(predictor, records)
    about = f'{dataset.name} {dataset.title(split)}, {num_clips:,} clips'
    about += f', by {len(chosen):,} of {total:,} records' * (len(chosen) < total)
    return {
        'run': printable(run.absolute().name),
        'about': printable(about),
        'warnings': list(map(printable, warnings)),
        'scores': scores,
    }


def _chosen(split: str, total: int, clips: int | None) -> list[int]:
    """Chooses records evenly over a split, or the first ones of several splits that '+' joins."""
    count = min(clips or total, total)
    return [*range(count)] if '+' in split else media.evenly_spaced(total, count).tolist()


def _scores(
    predictor: Predictor, records: Iterator[Mapping]
) -> tuple[dict[str, dict[str, float]], int]:
    """Log loss and accuracy of clips by condition, and the number of clips."""
    facts = {name: [] for name in ('clip_id', 'segment', 'label')}
    probs = {name: [] for name in CONDITIONS if _applies(predictor, name)}
    while batch := list(itertools.islice(records, RECORDS_PER_BATCH)):
        for name, column in facts.items():
            column += [record[name] for record in batch]
        for name, column in probs.items():
            column += [answer.probs for answer in _answers(predictor, batch, name)]
    meta = {'classes': predictor.classes}
    made = {
        name: tables.Predictions(**facts, probs=np.stack(column), meta=meta)
        for name, column in probs.items()
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


def _applies(predictor: Predictor, condition: str) -> bool:
    """Whether the system takes the disturbed modality, and another one if that is dropped."""
    kind, change = CONDITIONS[condition]
    return kind in (None, *predictor.takes) and (change is not None or len(predictor.takes) > 1)


def _answers(predictor: Predictor, batch: Sequence[Mapping], condition: str) -> list[Answer]:
    kind, change = CONDITIONS[condition]
    if change is None:
        return predictor.answers(batch, without=(kind,))
    return predictor.answers([change(record) for record in batch])


def text(scored: Sequence[Mapping]) -> str:
    """The table for the console, with notes below it."""
    return '\n'.join([*columns(*_table(scored)), '', *_notes(scored)])


def _table(scored: Sequence[Mapping]) -> tuple[list[str], list[list[str]]]:
    rows = [[each['run'], *(_cell(each['scores'].get(c)) for c in CONDITIONS)] for each in scored]
    return ['log loss, accuracy', *CONDITIONS], rows


def _cell(score: Mapping | None) -> str:
    if score is None:
        return '–'
    return f'{number(score["log_loss"])}, {percent(score["accuracy"])}'


def _notes(scored: Sequence[Mapping]) -> list[str]:
    """Notes below the table: the runs' warnings, their data, and what the conditions mean."""
    warnings = dict.fromkeys(line for each in scored for line in each['warnings'])
    abouts = {}
    for each in scored:
        abouts.setdefault(each['about'], []).append(each['run'])
    return [
        *(f'! {line}' for line in warnings),
        *(f'{about}: {", ".join(names)}' for about, names in abouts.items()),
        'no sound, no picture: dropped (a network of both gets the mean of its training data '
        'instead, or zeros in older runs; an ensemble leaves out the members that need it)',
        f'noise: white, at this ratio to each record’s own power; dark: pixel values times {GAIN}',
    ]


def _markdown(scored: Sequence[Mapping]) -> str:
    return '\n'.join([*markdown(*_table(scored)), '', *(f'- {n}' for n in _notes(scored))]) + '\n'


def _tsv(scored: Sequence[Mapping]) -> str:
    """Formats a row for each run and condition, at full precision."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter='\t', lineterminator='\n')
    writer.writerow(['run', 'condition', 'log_loss', 'accuracy', 'about'])
    for each in scored:
        for name, score in each['scores'].items():
            writer.writerow([each['run'], name, *score.values(), each['about']])
    return out.getvalue()


def _json(scored: Sequence[Mapping]) -> str:
    return json.dumps(list(scored), indent=1, allow_nan=False, ensure_ascii=False) + '\n'


WRITERS = {'.md': _markdown, '.tsv': _tsv, '.json': _json}
