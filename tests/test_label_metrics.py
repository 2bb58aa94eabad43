"""Scores of independent classes against scikit-learn, and the edges."""

import numpy as np
import pytest
import sklearn.metrics as theirs

from avsc_jax import label_metrics as ours

THRESHOLDS = np.array([0.3, 0.5, 0.7, 0.5])


@pytest.fixture(scope='module')
def table():
    """Probabilities with ties, and labels that follow them; the last class is never true."""
    draw = np.random.default_rng(0)
    probs = draw.random((200, 4)).round(2)
    labels = draw.random((200, 4)) < probs * np.array([0.9, 0.5, 0.2, 0])
    return probs, labels


def test_average_precision_is_that_of_scikit_learn(table):
    probs, labels = table
    got = ours.average_precision(probs, labels)
    expected = [theirs.average_precision_score(labels[:, c], probs[:, c]) for c in range(3)]
    np.testing.assert_allclose(got[:3], expected, rtol=0, atol=1e-12)
    assert np.isnan(got[3]) and ours.counts(labels)[3] == 0
    assert ours.macro(got) == pytest.approx(np.mean(expected), abs=1e-12)
    micro = theirs.average_precision_score(labels, probs, average='micro')
    assert ours.micro_average_precision(probs, labels) == pytest.approx(micro, abs=1e-12)


def test_areas_and_losses_are_those_of_scikit_learn(table):
    probs, labels = table
    auc = [theirs.roc_auc_score(labels[:, c], probs[:, c]) for c in range(3)]
    np.testing.assert_allclose(ours.roc_auc(probs, labels)[:3], auc, rtol=0, atol=1e-12)
    assert np.isnan(ours.roc_auc(probs, labels)[3])
    columns = [(labels[:, c], probs[:, c]) for c in range(4)]
    brier = [theirs.brier_score_loss(*column) for column in columns]
    np.testing.assert_allclose(ours.brier(probs, labels), brier, rtol=0, atol=1e-12)
    inside = probs.clip(0.01, 0.99)  # they clip where p is 0 or 1 otherwise
    loss = [theirs.log_loss(labels[:, c], inside[:, c], labels=[0, 1]) for c in range(4)]
    np.testing.assert_allclose(ours.log_loss(inside, labels), loss, rtol=0, atol=1e-12)


def test_scores_at_thresholds_are_those_of_scikit_learn(table):
    probs, labels = table
    got, said = ours.at_thresholds(probs, labels, THRESHOLDS), probs >= THRESHOLDS
    for average in ('macro', 'micro'):
        columns = slice(3) if average == 'macro' else slice(4)  # one that is never true has none
        expected = theirs.precision_recall_fscore_support(
            labels[:, columns], said[:, columns], average=average, zero_division=0
        )
        assert list(got[average].values()) == pytest.approx(expected[:3], abs=1e-12)
    assert np.isnan(got['f1'][3]) and got['called'][3] == said[:, 3].sum()


@pytest.mark.parametrize('beta', [0.5, 1.0, 2.0])
def test_no_threshold_is_better_than_the_one_that_is_found(table, beta):
    probs, labels = table
    found = ours.best_thresholds(probs, labels, beta=beta)
    assert np.isnan(found[3])
    for c in range(3):
        score = lambda t, c=c: theirs.fbeta_score(labels[:, c], probs[:, c] >= t, beta=beta)  # noqa: E731
        best = max(score(t) for t in np.linspace(0, 1, 201))
        assert score(found[c]) == pytest.approx(best, abs=1e-12)
        assert score(found[c] - 0.004) == score(found[c] + 0.004) == score(found[c])  # half-way


def test_a_threshold_lies_between_true_and_false_rows():
    probs, labels = (
        np.array([[0.9, 0.4], [0.5, 0.4], [0.1, 0.4]]),
        np.array([[1, 1], [1, 0], [0, 0]]),
    )
    assert ours.best_thresholds(probs, labels).tolist() == [pytest.approx(0.3), 0.2]
    with pytest.raises(ValueError, match='beta is 0; it must be more than 0'):
        ours.best_thresholds(probs, labels, beta=0)


def test_intervals_are_those_of_drawing_whole_groups_by_hand(table):
    probs, labels = table
    probs, labels, group = probs[:40], labels[:40], np.arange(40) // 5
    got = ours.intervals(probs, labels, group, THRESHOLDS, samples=60)
    times, values = np.random.default_rng(0).integers(8, size=(60, 8)), []
    for chosen in times:
        rows = np.concatenate([np.flatnonzero(group == g) for g in chosen])
        p, y = probs[rows], labels[rows]
        each = [
            theirs.average_precision_score(y[:, c], p[:, c]) if y[:, c].any() else np.nan
            for c in range(4)
        ]
        micro = theirs.average_precision_score(y, p, average='micro')
        f1 = theirs.f1_score(y, p >= THRESHOLDS, average='micro')
        values.append([np.nanmean(each), micro, f1, ours.log_loss(p, y).mean(), *each[:3]])
    names = ('average_precision_macro', 'average_precision_micro', 'f1_micro', 'log_loss')
    found = [got[name] for name in names] + got['average_precision'][:3]
    np.testing.assert_allclose(found, np.nanquantile(values, (0.025, 0.975), axis=0).T, atol=1e-12)
    assert np.isnan(got['average_precision'][3]).all()


def test_few_values_at_once_draw_the_same_intervals(table, monkeypatch):
    probs, labels = table
    given = probs, labels, np.arange(200) // 20, THRESHOLDS
    whole = ours.intervals(*given, samples=30)
    monkeypatch.setattr(ours, '_VALUES_AT_ONCE', 7 * probs.size)
    parts = ours.intervals(*given, samples=30)
    for name in ('f1_macro', 'log_loss', 'average_precision_micro'):
        assert parts[name] == pytest.approx(whole[name], abs=1e-12)


def test_one_group_has_no_interval(table):
    probs, labels = table
    got = ours.intervals(probs, labels, np.zeros(200), THRESHOLDS)
    assert np.isnan(got['f1_macro']).all() and len(got['average_precision']) == 4


@pytest.mark.parametrize(
    ('labels', 'sentence'),
    [
        (
            np.zeros(3, int),
            r'labels have shape \(3,\) and type int64 beside probabilities \(3, 2\)',
        ),
        (np.full((3, 2), -1), 'each 0 or 1'),
    ],
)
def test_labels_of_one_class_a_row_are_refused(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        ours.average_precision(np.full((3, 2), 0.5), labels)
