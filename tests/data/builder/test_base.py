"""The builder that writes records, without a data set of its own."""

import pytest

from avsc_jax.data.builder import base
from avsc_jax.data.builder.clip_reader import Clip

A, B = Clip('a', 'a.wav', '', 'bus', 'line 1'), Clip('b', '', 'b.mp4', 'tram', 'line 1')


def test_ordered_map_keeps_order_and_looks_ahead_only_a_little():
    taken = []
    items = (taken.append(i) or i for i in range(100))
    results = base._ordered_map(lambda i: i, items, 2)
    assert next(results) == 0
    assert len(taken) == 4
    assert list(results) == list(range(1, 100))


@pytest.mark.parametrize(
    ('made', 'classes', 'sentence'),
    [
        (('files', {'train': [A]}), ('bus',), r"classes are \['bus'\]; a data set needs two"),
        (None, ('bus', 'tram'), r'clips must return the media files and a dict of split'),
        (('files', {'train': [('a', 'a.wav')]}), ('bus', 'tram'), r'each clip must be a Clip'),
        (('files', {'train': [A._replace(scene='sea')]}), ('bus', 'tram'), r"a is 'sea', which is"),
        (
            ('files', {'train': [A._replace(audio='')]}),
            ('bus', 'tram'),
            r'neither a sound file',
        ),
        (('files', {'train': [A], 'test': [A]}), ('bus', 'tram'), r'a is in the splits train and'),
    ],
)
def test_clips_that_cannot_be_built_are_a_sentence(made, classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        base._checked(made, classes)


def test_a_place_in_several_splits_is_noted(capsys):
    made = ('files', {'train': [A], 'test': [B]})
    assert base._checked(made, ('bus', 'tram')) == made
    assert '1 places are in several splits (line 1); scores' in capsys.readouterr().err
