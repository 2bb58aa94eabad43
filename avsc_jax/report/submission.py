"""Writes and checks the files of a submission to DCASE 2021, task 1B.

Source: the challenge's submission page (at most four systems a team; label, output and meta sheet
of each). The columns and the names in the sheet are those of the validator of task 1
(toni-heittola/dcase2020_task1_submission_validator, which sheets of task 1A of 2021 still follow,
such as valeoai/SP4ASC's). No sheet of task 1B was available: `visual_features` and
`parameters_of_subsystems` are our names.
"""

import codecs
import dataclasses
import heapq
import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from avsc_jax import metrics, tables
from avsc_jax.runtime.files import printable
from avsc_jax.scenes import SCENES
from avsc_jax.tables.names import ENDINGS

COLUMNS = ('filename', 'scene_label', *SCENES)
OUTPUT = '.output.csv'
LABEL = re.compile(r'[^\W_]+_[^\W_]+_task1b_[1-4]')
EVALUATION_ITEMS = 72_000  # in 2021; their names are numbers
MAX_LINE, MAX_ROWS = 4_096, 200_000  # characters and rows; longer files are not read to the end
PLACEHOLDER = 'FILL IN'  # for the authors to replace
DESCRIPTION = (
    'input_sampling_rate',
    'acoustic_features',
    'visual_features',
    'embeddings',
    'data_augmentation',
    'machine_learning_method',
    'ensemble_method_subsystem_count',
    'decision_making',
    'external_data_usage',
)


def write(
    table: tables.Predictions, folder: Path, *, label: str, system: Mapping[str, object]
) -> list[Path]:
    """Writes `<label>.output.csv` and `<label>.meta.yaml`; returns their paths.

    Args:
      table: one row for each item, over the ten scenes; rows sum to one.
      folder: made if it is missing.
      label: `Surname_INST_task1b_1`, the last number being 1 to 4.
      system: `name`; `members`, name to number of parameters; `scores` of the development set at
        one granularity, as in `report.make(...)['scores']['clip']`, or None; `description`, with
        any of DESCRIPTION. May hold `abbreviation` (10 characters), `external_datasets` and
        `source_code`.

    Raises:
      ValueError: label, classes or description are wrong, or `check` objects to the table.
    """
    if not LABEL.fullmatch(label):
        raise ValueError(
            f'the label {label!r} must be Surname_INST_task1b_N with N from 1 to 4, letters and '
            'digits between the underscores'
        )
    classes = table.meta['classes']
    if sorted(classes) != sorted(SCENES):
        raise ValueError(
            f'the table has the classes {" ".join(classes)}; a submission has {" ".join(SCENES)}'
        )
    content = yaml.safe_dump(sheet(label, system), sort_keys=False, allow_unicode=True)
    named = dataclasses.replace(
        table,
        clip_id=[f'{_item(name)}.wav' for name in table.clip_id],  # as the sound files are called
        label=np.full(len(table.label), -1),
        group=None,
        probs=table.probs[:, [classes.index(scene) for scene in SCENES]],
        meta={**table.meta, 'classes': SCENES},
    )
    folder.mkdir(parents=True, exist_ok=True)
    output, meta = folder / f'{label}{OUTPUT}', folder / f'{label}.meta.yaml'
    beside = folder / f'{label}.part.csv'
    tables.write(named, beside)
    if faults := check(beside, table.clip_id):
        beside.unlink()
        raise ValueError(f'{output} is not written: {"; ".join(faults)}')
    meta.write_text(content, encoding='utf-8')
    beside.replace(output)
    return [output, meta]


def sheet(label: str, system: Mapping[str, object]) -> dict[str, object]:
    """Returns the meta sheet; accuracy is in per cent, overall scores are means over classes."""
    surname, institute, *_ = label.split('_')
    scores = system.get('scores')
    members = {name: int(count) for name, count in system['members'].items()}
    about = {'ensemble_method_subsystem_count': len(members), **system.get('description', {})}
    unknown = sorted({*about} - {*DESCRIPTION})
    if unknown:
        raise ValueError(
            f'the description of the system has {", ".join(unknown)}; the sheet has '
            f'{", ".join(DESCRIPTION)}'
        )
    return {
        'submission': {
            'label': label,
            'name': system['name'],
            'abbreviation': system.get('abbreviation', system['name'])[:10],
            'authors': [
                {
                    'lastname': surname,
                    'firstname': PLACEHOLDER,
                    'email': PLACEHOLDER,
                    'corresponding': True,
                    'affiliation': {
                        'abbreviation': institute,
                        'institute': PLACEHOLDER,
                        'department': PLACEHOLDER,
                        'location': PLACEHOLDER,
                    },
                }
            ],
        },
        'system': {
            'description': {name: about.get(name, PLACEHOLDER) for name in DESCRIPTION},
            'complexity': {
                'total_parameters': sum(members.values()),
                'parameters_of_subsystems': members,
            },
            'external_datasets': system.get(
                'external_datasets',
                [dict.fromkeys(('name', 'url', 'total_audio_length'), PLACEHOLDER)],
            ),
            'source_code': system.get('source_code', PLACEHOLDER),
        },
        'results': {'development_dataset': _results(scores) if scores else PLACEHOLDER},
    }


def _results(scores: Mapping[str, Mapping]) -> dict[str, object]:
    per_class = scores['per_class']
    rows = zip(SCENES, per_class['log_loss'], per_class['accuracy'], strict=True)

    def pair(log_loss: float | None, accuracy: float | None) -> dict[str, float | None]:
        percent = None if accuracy is None else 100 * float(accuracy)
        return {'logloss': None if log_loss is None else float(log_loss), 'accuracy': percent}

    return {
        'overall': pair(scores['log_loss_macro'], scores['accuracy_macro']),
        'class_wise': {scene: pair(*values) for scene, *values in rows},
    }


def check(
    path: Path, items: Collection[str] | None = None, truth: Mapping[str, str] | None = None
) -> list[str]:
    """Lists the faults of an output file, one sentence each; empty if it may be submitted.

    Args:
      path: the file, which may hold anything; it is read line by line.
      items: names that must occur once each, with or without folder and `.wav`. Without them and
        `truth`, names that are all numbers must be as many as those of 2021.
      truth: true scene of every item (`tables.truth`); its items are used if `items` is None.
    """
    path, faults = Path(path), _Faults()
    if path.name.endswith(OUTPUT) and not LABEL.fullmatch(path.name.removesuffix(OUTPUT)):
        faults.say(f'{path.name} is not called Surname_INST_task1b_N{OUTPUT} with N from 1 to 4')
    seen = set()
    for row in _rows(path, faults):
        if row.item in seen:
            faults.add('rows repeat an item', row.item)
        seen.add(row.item)
        _check_row(row, faults)
    if items is None and truth is None:
        if seen and len(seen) != EVALUATION_ITEMS and all(map(str.isdecimal, seen)):
            faults.say(f'{len(seen):,} items instead of the {EVALUATION_ITEMS:,} of 2021')
        return faults.sentences()
    expected = {_item(name) for name in (truth if items is None else items)}
    for name in sorted(expected - seen):
        faults.add(f'of {len(expected):,} items are missing', name)
    for name in sorted(seen - expected):
        faults.add('items are unknown', name)
    return faults.sentences()


def uncounted(path: Path) -> str:
    """Says that a file without faults was not compared with a list of items, or ''."""
    seen = {row.item for row in _rows(Path(path), _Faults())}
    if all(map(str.isdecimal, seen)):
        return ''
    return (
        f'its {len(seen):,} items are not those of 2021, which are numbers, and it was not checked '
        'whether any is missing; give a list by --items or --truth'
    )


def costs(path: Path, truth: Mapping[str, str], count: int = 10) -> str:
    """Lists the items with the largest log loss (renormalised), as text.

    Items without a known scene or valid probabilities are left out.

    Args:
      path: an output file.
      truth: true scene of items, from `tables.truth`.
      count: number of items listed.
    """
    losses, truth = [], {_item(name): scene for name, scene in truth.items()}
    for row in _rows(Path(path), _Faults()):
        scene = truth.get(row.item)
        if scene in row.probs and 0 < row.total < math.inf:  # NaN is not
            share = min(max(row.probs[scene] / row.total, 1e-15), 1)
            losses.append((math.log(1 / share), row.item, f'{scene}, answered {row.answer}'))
    if not losses:
        return 'no item has a known scene'
    total, worst = sum(loss for loss, *_ in losses), heapq.nlargest(count, losses)
    return '\n'.join(
        [
            f'log loss {total / len(losses):.4f} over {len(losses):,} items of known scene; of it '
            f'{sum(loss for loss, *_ in worst) / (total or 1):.0%} is from these {len(worst)}:',
            *(f'{loss:8.3f}  {printable(item)}: {what}' for loss, item, what in worst),
        ]
    )


def read_items(path: Path) -> list[str]:
    """Reads names of items from a text file, one a line, or the first column of a DCASE list.

    A line that ends in the ending of a media file is a name as a whole, commas included.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no text; give the names of the items, one a line') from error
    lines = [line.strip() for line in lines if line.strip()]
    names = [
        line if line.lower().endswith(ENDINGS) and '\t' not in line else re.split('[\t,;]', line)[0]
        for line in lines
    ]
    names = names[1:] if names and names[0].startswith('filename') else names
    if not names:
        raise ValueError(f'{path} names no item; give one a line')
    return names


class _Faults:
    """Faults of a file: sentences, and kinds of faults with their number and first three cases."""

    def __init__(self):
        self._sentences: list[str] = []
        self._offenders: dict[str, tuple[int, list[str]]] = {}

    def say(self, sentence: str) -> None:
        self._sentences.append(printable(sentence))

    def add(self, fault: str, offender: str) -> None:
        count, first = self._offenders.get(fault, (0, []))
        first = first if len(first) == 3 else [*first, printable(offender)]
        self._offenders[fault] = count + 1, first

    def sentences(self) -> list[str]:
        return self._sentences + [
            f'{count:,} {fault}: {", ".join(first)}' + (', ...' if count > 3 else '')
            for fault, (count, first) in self._offenders.items()
        ]


class _Row(NamedTuple):
    """A complete row of an output file.

    Attributes:
      name: names the row in messages.
      label: None if the file has no such column.
      probs: scene -> probability, NaN if the field is no number.
    """

    name: str
    item: str
    label: str | None
    probs: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.probs.values())

    @property
    def answer(self) -> str:
        return max(self.probs, key=self.probs.get)


def _rows(path: Path, faults: _Faults) -> Iterator[_Row]:
    """Yields the complete rows; adds the faults of the header and of other rows to `faults`."""
    if not path.is_file():
        raise FileNotFoundError(f'{path} is not a file; give the path of an output file')
    with path.open('rb') as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            faults.say('no row was read, for the file is UTF-16; save it as UTF-8')
            return
    with path.open(encoding='utf-8-sig', errors='replace') as file:
        header = file.readline(MAX_LINE).rstrip('\n').split('\t')
        _check_header(header, faults)
        column = {name: header.index(name) for name in COLUMNS if name in header}
        if 'filename' not in column:
            faults.say(f'no row was read; the columns, with tabs between them: {" ".join(COLUMNS)}')
            return
        number = 1
        while line := file.readline(MAX_LINE):
            number += 1
            if number > MAX_ROWS:
                faults.say(f'the file is longer than {MAX_ROWS:,} lines; the rest was not read')
                return
            fields = line.rstrip('\n').split('\t')
            if len(fields) != len(header):
                fault = f'rows do not have the {len(header)} fields of the header'
                faults.add(fault, f'line {number} has {len(fields)}')
                continue
            cells = {name: fields[index] for name, index in column.items()}
            probs = {scene: _number(cells[scene]) for scene in SCENES if scene in cells}
            item = _item(cells['filename'])
            yield _Row(f'line {number} ({item})', item, cells.get('scene_label'), probs)
        if number == 1:
            faults.say('the file has no rows')


def _check_header(header: list[str], faults: _Faults) -> None:
    before = len(faults.sentences())
    for name in COLUMNS:
        if name not in header:
            faults.add('columns are missing', name)
    for name in dict.fromkeys(header):
        if name not in COLUMNS:
            faults.add('columns are unknown', repr(name[:60]))
        elif header.count(name) > 1:
            faults.add('columns are doubled', name)
    if len(faults.sentences()) == before and tuple(header) != COLUMNS:
        faults.say(f'the columns are in another order than {" ".join(COLUMNS)}')


def _check_row(row: _Row, faults: _Faults) -> None:
    if not row.item:
        faults.add('rows name no item', row.name)
    outside = [p for p in row.probs.values() if not 0 <= p <= 1]
    whole = len(row.probs) == len(SCENES) and not outside
    if outside:
        faults.add('rows hold no number from 0 to 1', f'{row.name} {outside[0]:.6g}')
    elif whole and abs(row.total - 1) > metrics.sum_tolerance(np.array([[*row.probs.values()]])):
        faults.add('rows do not sum to one', f'{row.name} {row.total:.6g}')
    if row.label is not None and row.label not in SCENES:
        faults.add('rows have a scene_label that is no scene', f'{row.name} {row.label[:60]!r}')
    elif row.label and whole and row.probs[row.label] < row.probs[row.answer]:
        fault = 'rows have a scene_label that is not the largest probability'
        faults.add(fault, f'{row.name} {row.label} for {row.answer}')


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _item(name: str) -> str:
    """Strips folder and ending: 'audio/0.wav' -> '0'; at most 200 characters are kept."""
    return tables.stem(name)[:200]
