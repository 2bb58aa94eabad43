import warnings

import pytest

from avsc_jax.tables import Note, matched, names


@pytest.mark.parametrize(
    ('ours', 'theirs', 'expected', 'words'),
    [
        (['a.wav', 'b.wav'], ['b.wav', 'c.wav'], {'b.wav': 'b.wav'}, None),
        (['bus/a.wav', 'tram/a.wav'], ['tram/a.wav'], {'tram/a.wav': 'tram/a.wav'}, None),
        (['./x/a.wav'], ['x\\a.wav'], {'./x/a.wav': 'x\\a.wav'}, None),
        (['Zoe\u0308.wav'], ['Zo\u00eb.wav'], {'Zoe\u0308.wav': 'Zo\u00eb.wav'}, None),
        (['bus/a.wav', 'tram/a.wav'], ['tram/a'], {'tram/a.wav': 'tram/a'}, 'the endings'),
        (['audio/a.wav'], ['video/a.mp4'], {'audio/a.wav': 'video/a.mp4'}, 'folders and endings'),
        (['a.JPG'], ['x/a'], {'a.JPG': 'x/a'}, 'folders and endings'),
        (['st.pauli'], ['st'], {}, None),
        ([], ['a'], {}, None),
    ],
)
def test_names_are_joined_whole_else_without_endings_else_without_folders(
    ours, theirs, expected, words
):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        assert matched(ours, theirs) == expected
    assert [w.category for w in caught] == [Note] * bool(words)
    assert not words or words in str(caught[0].message)


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [
        (['bus/a.wav', 'tram/a.wav'], ['a']),
        (['a'], ['bus/a.wav', 'tram/a.wav']),
        (['a.wav', 'a.mp4'], ['a']),
        (['x/a.wav', 'x\\a.wav'], ['x/a.wav']),
    ],
)
def test_names_that_several_share_are_refused(ours, theirs):
    with pytest.raises(ValueError, match=r'cannot be told apart .*: .*a.*, .*a.*; give names'):
        matched(ours, theirs)


def test_the_key_of_a_clip_of_tau_is_its_stem():
    assert names.key('audio/airport-lisbon-1175-44106.wav') == 'airport-lisbon-1175-44106'
    assert names.key('x/holiday.wav') == 'x/holiday.wav'
