"""A damaged or hostile journal is one sentence that names the file and the line."""

import json
import tracemalloc

import pytest

from avsc_jax.predict.resume import Journal, Lines

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
