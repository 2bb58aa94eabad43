"""Damaged files of every kind are read, or refused in one sentence; see benchmarks/fuzz.py."""

import fuzz
import pytest


@pytest.mark.parametrize('name', fuzz.READERS)
def test_whole_files_are_read(name):
    with fuzz.made(name) as (whole, _):
        files = sorted(whole.iterdir())
        assert files and {fuzz.attempt(fuzz.READERS[name], file) for file in files} == {'read'}


@pytest.mark.parametrize('name', fuzz.READERS)
def test_damaged_files_are_read_or_refused(name):
    with fuzz.made(name) as (whole, place):
        counts = fuzz.tries(name, whole, place, examples=30)
    assert sum(counts.values()) >= 20 and counts.get('refused', 0) >= 5


@pytest.mark.slow
@pytest.mark.parametrize('name', fuzz.READERS)
def test_many_damaged_files_are_read_or_refused(name):
    with fuzz.made(name) as (whole, place):
        fuzz.tries(name, whole, place, examples=500, seed=1)


def refuses(sentence):
    def read(path):
        raise ValueError(sentence.format(path=path))

    return fuzz.Reader(lambda folder: None, read)


@pytest.mark.parametrize('sentence', ['', '{path}\nis bad', 'it is bad'])
def test_an_error_that_is_no_sentence_about_the_file_is_a_fault(sentence, tmp_path):
    with pytest.raises(AssertionError):
        fuzz.attempt(refuses(sentence), tmp_path / 'a.npz')
    assert fuzz.attempt(refuses('{path} is bad'), tmp_path / 'a.npz') == 'refused'


def test_other_errors_and_much_memory_are_faults(tmp_path, monkeypatch):
    def lost(path):
        raise KeyError('about')

    with pytest.raises(KeyError):
        fuzz.attempt(fuzz.Reader(lambda folder: None, lost), tmp_path / 'a.json')
    peaks = iter([0, fuzz.MAX_GROWTH_BYTES])
    monkeypatch.setattr(fuzz, 'peak_bytes', lambda: next(peaks))
    with pytest.raises(AssertionError, match='bytes of memory'):
        fuzz.attempt(fuzz.Reader(lambda folder: None, len), b'')


@pytest.mark.parametrize('kind', fuzz.EDITS)
def test_an_edit_changes_a_file_but_not_its_original(kind):
    content = b'name,label\na.wav,bus\n'
    assert fuzz.damaged(content, [(kind, 7, b'\x05x')], inside=False) != content
    assert content == b'name,label\na.wav,bus\n'
