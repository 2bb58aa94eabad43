"""Tables of independent classes, such as tags: what they hold, and who refuses them."""

import numpy as np
import pytest

from avsc_jax import metrics, report, tables
from avsc_jax.runtime import cli
from avsc_jax.score import __main__ as score
from avsc_jax.tables import mix

META = {'classes': ['Speech', 'Dog', 'Car'], 'kind': 'independent'}
PROBS = np.array([[0.9, 0.8, 0.1], [0.2, np.nan, np.nan], [0.4, 0.6, 0.3]])
KNOWN = np.array([[True, True, False], [False, False, False], [True, False, True]])


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


def test_losses_mixes_and_lists_of_scenes_refuse_tags(tmp_path, capsys, monkeypatch):
    tags = table(KNOWN)
    for refuse in (
        lambda: mix.alike({'a': tags, 'b': tags}),
        lambda: tables.aligned([tags, tags]),
        lambda: tables.with_truth(tags, {'a': 'Dog', 'b': 'Dog'}),
        lambda: tables.pool(tags, 'product'),
        lambda: report.make(tags, title='tags', about={'data': '', 'protocol': ''}),
    ):
        with pytest.raises(ValueError, match=r'independent \(tags: meta.kind\), and .* needs'):
            refuse()
    with pytest.raises(ValueError, match='of independent classes such as tags; this metric'):
        metrics.check(np.nan_to_num(PROBS), KNOWN)
    tables.write(tags, tmp_path / 'tags.npz')
    for flags in ([], ['--clamp=fused'], ['--recipe=mean']):
        monkeypatch.setattr('sys.argv', ['avsc-score', str(tmp_path / 'tags.npz'), *flags])
        assert cli.main(score.main) == 1
        assert 'independent (tags: meta.kind)' in capsys.readouterr().err


def test_columns_and_their_labels_move_together():
    moved = tables.with_classes(table(KNOWN), ['Car', 'Speech', 'Dog'])
    np.testing.assert_array_equal(moved.label, KNOWN[:, [2, 0, 1]])
    np.testing.assert_array_equal(moved.probs, PROBS[:, [2, 0, 1]])
