"""JSON that no program of ours writes is one sentence, and what it should be is in it."""

import json

import pytest

from avsc_jax.runtime import json_files


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('[' * 100_000 + ']' * 100_000, 'nested on more than 40 levels'),
        ('[' * 41 + ']' * 41, 'nested on more than 40 levels'),
        ('{"a":' * 41 + '1' + '}' * 41, 'nested on more than 40 levels'),
        ('[' * 100_000, 'nested on more than 40 levels'),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "names 'c' twice"),
        ('[NaN]', 'not finite'),
        ('[-Infinity]', 'not finite'),
        ('[1e999]', 'not finite'),
        ('9' * 5000, 'a whole number of 5000 digits'),
        ('"\\ud800"', 'surrogates not allowed'),
        ('{"\\ud800": 1}', 'surrogates not allowed'),
        (b'"\xff"', "'utf-8' codec can't decode"),
        ('"a"'.encode('utf-16'), "'utf-8' codec can't decode"),
        (b'', 'Expecting value'),
        (bytes(9), 'Expecting value'),
        ('[1, 2', "Expecting ',' delimiter"),
        ('[1] [2]', 'Extra data'),
        (' ' * (json_files.MAX_BYTES + 1), 'more than 16,777,216 bytes'),
    ],
    ids=range(18),
)
def test_hostile_text_is_refused(content, said):
    with pytest.raises(ValueError, match=said):
        json_files.parse(content)


def test_what_json_writes_comes_back():
    value = {'a': [1, -2.5, None, True, 'ä\U0001f600', {}], 'b': 10**19, '': []}
    assert json_files.parse(json.dumps(value)) == value
    assert json_files.parse(b'\xef\xbb\xbf' + json.dumps(value).encode()) == value
    assert json_files.parse('[' * 40 + ']' * 40) is not None
    assert str(json_files.parse('[NaN, 1e999]', finite=False)) == '[nan, inf]'


@pytest.mark.parametrize(
    ('value', 'shape', 'said'),
    [
        (3, [int], 'it is 3, and must be a list'),
        ([1, True], [int], r'\[1\] is True, and must be a whole number'),
        ([1, 2.5], [int], r'\[1\] is 2\.5, and must be a whole number'),
        ([1, '2'], [float], r"\[1\] is '2', and must be a number"),
        ({'a': 1}, {'a': str}, 'a is 1, and must be a text'),
        ({'a': 1}, {'b': str}, 'it has no b'),
        ({'a': {'b': [{}]}}, {'a': {'b': [{'c': str}]}}, r'a\.b\[0\] has no c'),
        ({'a': {'x': 1}}, {'a': {str: str}}, r"a\.'x' is 1, and must be a text"),
        ({'a': 1}, {'a?': (str, None)}, 'a is 1, and must be a text or null'),
        ([{'a': 1}], [({'b': int}, {'a': str})], r'\[0\]\.a is 1, and must be a text'),
        ({'a': [3, 4]}, {'a': bool}, 'a is a list of 2, and must be true or false'),
        ('x' * 99, dict, r"it is 'x{44}\.\.\., and must be an object"),
        ('\x1b[2J', int, r"it is '\\x1b\[2J', and must be a whole number"),
    ],
)
def test_another_shape_is_told_with_its_place(value, shape, said):
    with pytest.raises(ValueError, match=rf'\A{said}\Z'):
        json_files.check(value, shape)


@pytest.mark.parametrize(
    ('value', 'shape'),
    [
        ({'a': 1, 'more': []}, {'a': int, 'b?': str}),
        ({'a': 1}, {'a': float}),
        ([{'a': 1}, {'b': 'x'}], [({'b': str}, {'a': int})]),
        ({'a': None}, {'a': ([int], None)}),
        ([], [str]),
        ({'x': [1], 'y': []}, {str: [int]}),
        (None, object),
    ],
)
def test_a_shape_that_fits_is_let_through(value, shape):
    json_files.check(value, shape)


def test_a_file_names_itself(tmp_path):
    (tmp_path / 'a.json').write_text('{"a": 1}')
    assert json_files.read(tmp_path / 'a.json', {'a': int}) == {'a': 1}
    with pytest.raises(ValueError, match=r'a\.json is damaged \(a is 1, and must be a text\); wri'):
        json_files.read(tmp_path / 'a.json', {'a': str})
    with pytest.raises(FileNotFoundError, match=r'b\.json is not a file'):
        json_files.read(tmp_path / 'b.json')
