"""Mistyped names, whatever their case, are answered with the nearest known one."""

import doctest
from pathlib import Path

import pytest

from avsc_jax.runtime import nearest

KNOWN = ('accuracy', 'log_loss', 'resnet50')


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        ('log_los', ['log_loss']),
        ('ACURACY', ['accuracy']),
        (' accuracy', ['accuracy']),
        ('res', ['resnet50']),  # its begin, far below the cutoff
        ('re', []),
        ('tram', []),
        ('', []),
    ],
)
def test_the_nearest_name_is_found_and_an_unlike_one_is_none(name, found):
    assert nearest.names(name, KNOWN) == found


def test_a_value_among_the_known_ones_is_no_error():
    nearest.check('select', 'accuracy', KNOWN)
    nearest.check('clamp', None, (None, 'fused'))


def test_the_sentence_says_value_allowed_values_and_the_nearest():
    with pytest.raises(ValueError) as caught:
        nearest.check('select', 'acuracy', ('', None, 'accuracy'))
    assert str(caught.value) == (
        "select is 'acuracy'; it must be one of '', None, accuracy (did you mean accuracy?)"
    )


def test_the_examples_give_what_they_say():
    assert doctest.testmod(nearest).failed == 0


def test_the_existing_path_next_to_a_missing_one_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'runs/clip_fusion').mkdir(parents=True)
    (tmp_path / 'runs/.hidden').mkdir()
    assert nearest.path(Path('runs/clip_fusoin')) == ' (did you mean runs/clip_fusion?)'
    assert nearest.path(Path('run/clip_fusion')) == ' (did you mean runs/clip_fusion?)'
    assert nearest.path(Path('run/other')) == ' (did you mean runs?)'  # only that part is known
    assert (
        nearest.path(tmp_path / 'runs/Clip_Fusion')
        == f' (did you mean {tmp_path}/runs/clip_fusion?)'
    )
    (tmp_path / 'file').touch()
    for path in ('runs/hidden', 'nothing', 'x' * 5000, 'a\0b', 'file', 'file/x', 'runs'):
        assert nearest.path(Path(path)) == ''
