"""A damaged or hostile journal is one sentence that names the file and the line."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from avsc_jax.predict import outputs
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.media_files import Prediction
from avsc_jax.predict.resume import Journal, Lines
from avsc_jax.runtime.files import stamp
from avsc_jax.tables.parts import Part

WINDOW = {'start_s': 0.0, 'end_s': 10.0, 'scene': 'bus', 'probs': [0.9, 0.1]}
LINE = {
    'file': 'a.wav', 'scene': 'bus', 'probs': {'bus': 0.9, 'tram': 0.1}, 'timeline': [WINDOW],
    'without': [], 'notes': [], 'stamp': [1, 2, 3], 'made_with': {'av': '15.0'},
}  # fmt: skip
DEEP = '[' * 100_000 + ']' * 100_000
LISTS = ('probs', 'timeline', 'stamp', 'notes', 'without')
HOSTILE = [
    '3', '[]', '{}', 'null', '{"file": 3, "error": "x"}', '{"file": "a"}', '{"file": "a',
    '{"file": "a", "scene": 3}', DEEP, '{"file": ' + DEEP + '}', '\0' * 50,
    '{"file": "a", "file": "b", "error": "x"}', '{"file": "\\ud800", "error": "x"}',
    *(json.dumps({k: v for k, v in LINE.items() if k != name}) for name in LISTS),
    *(json.dumps(LINE | {name: 'x'}) for name in LISTS),
    json.dumps(LINE | {'timeline': [{}]}), json.dumps(LINE | {'embedding': ['x']}),
    json.dumps(LINE | {'probs': {'bus': None}}), json.dumps(LINE | {'made_with': [1]}),
]  # fmt: skip


@pytest.mark.parametrize('line', HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_line_is_one_sentence_with_its_number(tmp_path, line):
    path = tmp_path / 'out.jsonl'
    path.write_text(f'{json.dumps(LINE)}\n{line}\n')
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r'\A.*out\.jsonl is not a file of .*line 2\): .*delete it\Z'
    ):
        Journal(path, {})
    assert path.read_bytes() == before


def test_bytes_that_are_no_text_are_one_sentence(tmp_path):
    (tmp_path / 'out.jsonl').write_bytes(b'\xff\xfe\n')
    with pytest.raises(ValueError, match=r'out\.jsonl is not a file of predictions'):
        Journal(tmp_path / 'out.jsonl', {})


def test_whole_lines_are_kept_and_those_of_no_numbers_are_not_there(tmp_path):
    path = tmp_path / 'out.jsonl'
    other = LINE | {'file': 'b.wav', 'probs': {'bus': float('nan')}}
    failed = {'file': 'c.wav', 'error': 'c.wav: no sound'}
    path.write_text(''.join(json.dumps(line) + '\n' for line in (LINE, other, failed)) + '{"fi')
    assert [*Journal(path, {}).lines] == ['a.wav', 'c.wav']


def test_names_of_files_that_are_no_utf8_are_read_again(tmp_path):
    file = Path(os.fsdecode(bytes(tmp_path) + b'/b\xff.wav'))
    file.write_bytes(b'')
    probs = np.array([0.75, 0.25])
    windows = [(0.0, 1.0, Answer(probs, np.zeros(2), ()))]
    tagged = Prediction(file, windows, [], [], None, ('bus', 'tram'), stamp=(*stamp(file),))
    Journal(tmp_path / 'a.jsonl', {}).add(tagged, ('bus', 'tram'), embedding=False)
    assert Journal(tmp_path / 'a.jsonl', {}).has(file, embedding=False)


def test_lines_have_a_familiarity_where_the_system_has_one(tmp_path):
    path = tmp_path / 'out.jsonl'
    journal, probs = Journal(path, {}), np.array([0.75, 0.25])
    scores = {
        'a.wav': (None, None),
        'b.wav': (0.01, 0.02),
        'c.wav': (0.0625, 1.0),
        'd.wav': (0.01, None),
    }
    shown = []
    for name, of_windows in scores.items():
        windows = [(0.0, 1.0, Answer(probs, np.zeros(2), (), score)) for score in of_windows]
        tagged = Prediction(Path(name), windows, [], [], None, ('bus', 'tram'))
        line = journal.add(tagged, ('bus', 'tram'), embedding=False)
        shown.append(outputs.shown(line, [Part('', ('bus', 'tram'))], 1))
    lines = Journal(path, {}).lines  # what is written is read again
    of = {name: (line.get('familiarity'), line.get('is_familiar')) for name, line in lines.items()}
    assert of == {
        'a.wav': (None, None),
        'b.wav': (0.015, False),
        'c.wav': (0.53125, True),
        'd.wav': (0.01, False),
    }
    assert (
        'familiarity' not in lines['a.wav'] and 'familiarity' not in lines['a.wav']['timeline'][0]
    )
    assert [w.get('familiarity') for w in lines['d.wav']['timeline']] == [0.01, None]
    assert ['unlike the training clips' in text for text in shown] == [False, True, False, True]
    with pytest.raises(ValueError, match='is not a file of predictions'):
        path.write_text(json.dumps(LINE | {'is_familiar': 'no'}) + '\n')
        Journal(path, {})


def test_answers_in_memory_take_little_more_than_their_text():
    probs = {f'class {k}': k / 7 for k in range(10)}
    lines = Lines()
    tracemalloc.start()
    for number in range(300):
        lines[str(number)] = json.loads(json.dumps(LINE | {'probs': probs}))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size < 1.5 * sum(len(lines.text(name)) for name in lines)
    assert lines['7'] == LINE | {'probs': probs} and len(lines) == 300
