"""Tables of independent classes, such as tags: what they hold, and who refuses them."""

import numpy as np
import pytest

from avsc_jax import metrics, report, tables
from avsc_jax.report.scores import labelled
from avsc_jax.runtime import cli
from avsc_jax.score import __main__ as score
from avsc_jax.tables import mix

META = {'classes': ['Speech', 'Dog', 'Car'], 'kind': 'independent'}
PROBS = np.array([[0.9, 0.8, 0.1], [0.2, np.nan, np.nan], [0.4, 0.6, 0.3]])
KNOWN = np.array([[True, True, False], [False, False, False], [True, False, True]])
ALIKE = KNOWN[[0, 1, 0]]  # the same in both rows of clip a


def table(label=(-1, -1, -1), **changed):
    given = {'clip_id': ['a', 'b', 'a'], 'segment': [0, 0, 1], 'label': np.asarray(label)}
    return tables.Predictions(**{**given, 'probs': PROBS, 'meta': META, **changed})


@pytest.mark.parametrize('label', [(-1, -1, -1), KNOWN])
def test_npz_keeps_rows_that_do_not_sum_to_one_and_labels_of_each_class(label, tmp_path, recwarn):
    tables.write(table(label), tmp_path / 'tags.npz')
    read = tables.read(tmp_path / 'tags.npz')
    assert read.meta == META and not recwarn.list
    np.testing.assert_array_equal(read.probs, PROBS)
    np.testing.assert_array_equal(read.label, label)


def test_text_files_name_the_likeliest_tag(tmp_path, recwarn):
    clips = tables.pool(table())
    np.testing.assert_allclose(clips.probs, [[0.65, 0.7, 0.2], [0.2, np.nan, np.nan]])
    tables.write(clips, tmp_path / 'tags.csv', ',')
    header, first, second = (tmp_path / 'tags.csv').read_text().splitlines()
    assert header == 'filename,tag_label,Speech,Dog,Car'
    assert first.startswith('a,Dog,0.65') and second == 'b,Speech,0.2,nan,nan'
    read = tables.read(tmp_path / 'tags.csv')
    assert read.meta['kind'] == 'independent' and not recwarn.list
    np.testing.assert_array_equal(read.probs, clips.probs)


@pytest.mark.parametrize(
    ('changed', 'sentence'),
    [
        ({'meta': META | {'kind': 'many'}}, "'many'; it must be exclusive or independent"),
        ({'label': np.array([0, 1, -1])}, 'it must be bool'),
        ({'label': KNOWN[:, :2]}, 'it must be bool'),
        ({'label': KNOWN[:2]}, 'give one value a row'),
        ({'meta': META | {'kind': 'exclusive'}}, 'hold NaN'),
        ({'probs': PROBS + 1}, 'outside'),
    ],
)
def test_what_a_table_cannot_hold_is_a_sentence(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        table(**changed)


def test_exclusive_tables_take_no_labels_of_each_class():
    probs = np.array([[0.9, 0.1]])
    meta = {'classes': ['bus', 'tram'], 'kind': 'exclusive'}
    assert tables.Predictions(['a'], [-1], [0], probs, meta).label.tolist() == [0]
    with pytest.raises(ValueError, match='label must hold integers'):
        tables.Predictions(['a'], [-1], np.array([[True, False]]), probs, meta)


def test_losses_comparisons_and_lists_of_scenes_refuse_tags(tmp_path, capsys, monkeypatch):
    tags = table(KNOWN)
    for refuse in (
        lambda: labelled({'a': tags, 'b': tags}),
        lambda: tables.with_truth(tags, {'a': 'Dog', 'b': 'Dog'}),
        lambda: tables.pool(tags, 'product'),
    ):
        with pytest.raises(ValueError, match=r'independent \(tags: meta.kind\), and .* needs'):
            refuse()
    with pytest.raises(ValueError, match='of independent classes such as tags; this metric'):
        metrics.check(np.nan_to_num(PROBS), KNOWN)
    tables.write(tags, tmp_path / 'tags.npz')
    for flags in (['--clamp=fused'], ['--recipe=geometric'], ['--clamped']):
        monkeypatch.setattr('sys.argv', ['avsc-score', str(tmp_path / 'tags.npz'), *flags])
        assert cli.main(score.main) == 1
        assert 'independent (tags: meta.kind)' in capsys.readouterr().err
    for name in ('tags', 'b'):
        tables.write(table(ALIKE), tmp_path / f'{name}.npz')
    monkeypatch.setattr(
        'sys.argv', ['avsc-score', 'compare', str(tmp_path / 'tags.npz'), str(tmp_path / 'b.npz')]
    )
    assert cli.main(score.main) == 1
    assert 'a comparison needs classes of which one is right' in capsys.readouterr().err
    with pytest.raises(ValueError, match='1 of 2 rows hold NaN'):
        report.make(tables.pool(table(ALIKE)), title='tags', about={'data': '', 'protocol': ''})


def whole(probs, label=KNOWN, **meta):
    return table(label, probs=np.asarray(probs), meta=META | meta)


def test_a_mix_of_independent_classes_is_their_mean_with_the_known_labels():
    ours, theirs = whole(np.full((3, 3), 0.2)), whole(np.full((3, 3), 0.6), [-1, -1, -1])
    moved = tables.with_classes(theirs, ['Car', 'Speech', 'Dog'])
    members = mix.alike({'a': moved, 'b': ours})
    assert mix.first(members).label.dtype == bool
    np.testing.assert_array_equal(mix.first(members).label, KNOWN[:, [2, 0, 1]])
    np.testing.assert_allclose(mix.mix(members, 'mean', None, None), 0.4)
    with pytest.raises(ValueError, match='different true labels in 2 rows'):
        mix.alike({'a': ours, 'b': whole(ours.probs, ~KNOWN & KNOWN)})
    scenes = table(probs=np.full((3, 3), 1 / 3), meta={'classes': META['classes']})
    with pytest.raises(ValueError, match='has the kind exclusive, the first has independent'):
        mix.alike({'a': ours, 'b': scenes})


LIMITS = {'thresholds': [0.7, 0.7, 0.15], 'beta': 1.0, 'fitted_on': 'valid', 'not_fitted': []}


def test_thresholds_stay_with_a_table_and_name_its_labels_in_text(tmp_path):
    made = whole(np.nan_to_num(PROBS), ALIKE, thresholds=LIMITS)
    tables.write(made, tmp_path / 'a.npz')
    assert tables.read(tmp_path / 'a.npz').meta['thresholds'] == LIMITS
    moved = tables.with_classes(made, ['Car', 'Speech', 'Dog'])
    assert moved.meta['thresholds']['thresholds'] == [0.15, 0.7, 0.7]
    tables.write(tables.pool(made), tmp_path / 'a.csv', ',')
    lines = (tmp_path / 'a.csv').read_text().splitlines()
    assert lines[0] == 'filename,tag_label,labels,Speech,Dog,Car'
    assert lines[1].startswith('a,Dog,Dog;Car,') and lines[2].startswith('b,Speech,,')
    assert tables.read(tmp_path / 'a.csv').meta['classes'] == META['classes']
    with pytest.raises(ValueError, match='there are 2 thresholds for 3 labels'):
        whole(made.probs, thresholds=LIMITS | {'thresholds': [0.5, 2.0]})


def test_true_labels_come_from_a_list_as_those_of_training(tmp_path):
    (tmp_path / 'list.csv').write_text('path,label\na.wav,Speech;Car\nb.wav,\nc.wav,Dog\n')
    labels, groups = tables.label_sets(tmp_path / 'list.csv')
    assert labels == {'a.wav': ('Car', 'Speech'), 'b.wav': (), 'c.wav': ('Dog',)} and not groups
    known = tables.with_truth(table(), labels)
    expected = [[True, False, True], [False] * 3, [True, False, True]]
    np.testing.assert_array_equal(known.label, expected)
    assert any('1 of the 3 clips with a true' in w for w in known.meta['about']['warnings'])
    with pytest.raises(ValueError, match='true labels Cat are none of Speech Dog Car'):
        tables.with_truth(table(), {'a': ('Cat',), 'b': ()})
    (tmp_path / 'own.csv').write_text('filename,tag_label,Speech\na,Speech,0.4\n')
    with pytest.raises(
        ValueError, match='this is a file of predictions, with the column tag_label'
    ):
        tables.label_sets(tmp_path / 'own.csv')


def test_columns_and_their_labels_move_together():
    moved = tables.with_classes(table(KNOWN), ['Car', 'Speech', 'Dog'])
    np.testing.assert_array_equal(moved.label, KNOWN[:, [2, 0, 1]])
    np.testing.assert_array_equal(moved.probs, PROBS[:, [2, 0, 1]])
