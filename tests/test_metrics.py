import time
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from avsc_jax import metrics

PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.5, 0.25, 0.25]])
LABELS = np.array([0, 1, 0, 2])


@pytest.fixture
def table():
    """1000 rows over 10 unequal classes, right more often than not, and 20 locations."""
    rng = np.random.default_rng(0)
    labels = rng.choice(10, size=1000, p=np.arange(1, 11) / 55)
    probs = rng.dirichlet(np.ones(10), size=1000) + 0.3 * np.eye(10)[labels]
    return probs / probs.sum(axis=1, keepdims=True), labels, rng.integers(20, size=1000)


def test_log_loss_and_accuracy_by_hand():
    terms = -np.log([0.7, 0.8, 0.3, 0.25])
    np.testing.assert_allclose(metrics.log_loss(PROBS, LABELS), terms.mean())
    macro = ((terms[0] + terms[2]) / 2 + terms[1] + terms[3]) / 3
    np.testing.assert_allclose(metrics.log_loss(PROBS, LABELS, average='macro'), macro)
    assert metrics.accuracy(PROBS, LABELS) == 2 / 4
    np.testing.assert_allclose(metrics.accuracy(PROBS, LABELS, average='macro'), (0.5 + 1 + 0) / 3)


def test_log_loss_of_certain_rows_is_finite():
    right, wrong = np.array([[1.0, 0]]), np.array([[0, 1.0]])
    labels = np.array([0])
    assert 0 <= metrics.log_loss(right, labels) < 3e-15
    np.testing.assert_allclose(metrics.log_loss(wrong, labels), -np.log(1e-15))
    np.testing.assert_allclose(metrics.log_loss(wrong, labels, eps=1e-3), -np.log(1e-3))


def test_log_loss_of_one_uniform_row_is_the_log_of_the_class_number():
    loss = metrics.log_loss(np.full((1, 10), 0.1), np.array([3]))
    np.testing.assert_allclose(loss, np.log(10))


@pytest.mark.filterwarnings('ignore:probabilities')
def test_renormalize_divides_by_the_row_sum_after_clipping():
    probs, labels = np.array([[0.99, 0.06, 0.06, 0.001]]), np.array([0])
    np.testing.assert_allclose(metrics.log_loss(probs, labels), -np.log(0.99 / 1.111))
    np.testing.assert_allclose(metrics.log_loss(probs, labels, renormalize=False), -np.log(0.99))
    double = np.array([[1.0, 1.0]])
    np.testing.assert_allclose(metrics.log_loss(double, np.array([0]), eps=0.2), np.log(2))


def test_accuracy_counts_the_first_of_equal_values():
    probs = np.full((2, 4), 0.25)
    assert metrics.accuracy(probs, np.array([0, 0])) == 1
    assert metrics.accuracy(probs, np.array([1, 3])) == 0


def test_a_class_without_items_counts_in_no_average():
    probs, labels = np.array([[0.6, 0.1, 0.3], [0.2, 0.1, 0.7]]), np.array([0, 0])
    assert metrics.accuracy(probs, labels, average='macro') == 0.5
    np.testing.assert_allclose(
        metrics.log_loss(probs, labels, average='macro'), -np.log([0.6, 0.2]).mean()
    )
    scores = metrics.per_class(probs, labels)
    assert scores['macro']['precision'] == 1
    for name in ('precision', 'recall', 'f1', 'accuracy', 'log_loss'):
        np.testing.assert_array_equal(np.isnan(scores[name]), [False, True, True])
    np.testing.assert_array_equal(scores['support'], [2, 0, 0])


def test_scores_agree_with_scikit_learn(table):
    probs, labels, _ = table
    predicted = probs.argmax(axis=1)
    np.testing.assert_allclose(
        metrics.log_loss(probs, labels), sklearn_metrics.log_loss(labels, probs), rtol=1e-12
    )
    assert metrics.accuracy(probs, labels) == sklearn_metrics.accuracy_score(labels, predicted)
    np.testing.assert_allclose(
        metrics.accuracy(probs, labels, average='macro'),
        sklearn_metrics.balanced_accuracy_score(labels, predicted),
    )
    confusion = metrics.confusion(probs, labels)
    np.testing.assert_array_equal(confusion, sklearn_metrics.confusion_matrix(labels, predicted))
    scores = metrics.per_class(probs, labels)
    report = sklearn_metrics.classification_report(labels, predicted, output_dict=True)
    for ours, theirs in (('precision',) * 2, ('recall',) * 2, ('f1', 'f1-score')):
        np.testing.assert_allclose(scores[ours], [report[str(c)][theirs] for c in range(10)])
        for average in ('macro', 'weighted'):
            np.testing.assert_allclose(scores[average][ours], report[f'{average} avg'][theirs])


def test_per_class_scores_average_to_the_overall_ones(table):
    probs, labels, _ = table
    scores = metrics.per_class(probs, labels)
    for name, function in (('log_loss', metrics.log_loss), ('accuracy', metrics.accuracy)):
        np.testing.assert_allclose(scores['weighted'][name], function(probs, labels))
        np.testing.assert_allclose(scores['macro'][name], function(probs, labels, average='macro'))
    np.testing.assert_array_equal(scores['support'], np.bincount(labels, minlength=10))


def test_per_class_by_hand():
    scores = metrics.per_class(PROBS, LABELS)  # predicted 0 1 2 0, true 0 1 0 2
    np.testing.assert_allclose(scores['precision'], [0.5, 1, 0])
    np.testing.assert_allclose(scores['recall'], [0.5, 1, 0])
    np.testing.assert_allclose(scores['f1'], [0.5, 1, 0])
    np.testing.assert_allclose(scores['log_loss'][1:], -np.log([0.8, 0.25]))


def test_a_class_that_is_never_predicted_has_precision_zero():
    scores = metrics.per_class(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    np.testing.assert_array_equal(scores['precision'], [0.5, 0])


def test_confusion_has_the_truth_in_its_rows():
    probs = np.eye(3)[[2, 2, 1]]
    np.testing.assert_array_equal(
        metrics.confusion(probs, np.array([0, 0, 1])), [[0, 0, 2], [0, 1, 0], [0, 0, 0]]
    )


def test_scores_do_not_depend_on_the_order_of_rows(table):
    probs, labels, _ = table
    order = np.random.default_rng(1).permutation(len(labels))
    np.testing.assert_allclose(
        metrics.log_loss(probs[order], labels[order]), metrics.log_loss(probs, labels)
    )
    np.testing.assert_allclose(
        metrics.calibration_error(probs[order], labels[order]),
        metrics.calibration_error(probs, labels),
    )


def test_calibration_error_by_hand():
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.65, 0.35]])
    labels = np.array([0, 1, 0, 0])
    parts = metrics.reliability(probs, labels, bins=10)
    np.testing.assert_array_equal(parts['count'], [0, 0, 0, 0, 0, 1, 1, 0, 2, 0])
    np.testing.assert_allclose(parts['confidence'][[5, 6, 8]], [0.6, 0.65, 0.9])
    np.testing.assert_allclose(parts['accuracy'][[5, 6, 8]], [1, 1, 0.5])
    assert np.isnan(parts['accuracy'][[0, 7, 9]]).all()
    error = (0.4 + 0.35 + 2 * 0.4) / 4
    np.testing.assert_allclose(metrics.calibration_error(probs, labels, bins=10), error)
    one_bin = abs(3 / 4 - (0.9 + 0.9 + 0.6 + 0.65) / 4)
    np.testing.assert_allclose(metrics.calibration_error(probs, labels, bins=1), one_bin)


def test_calibration_error_of_certain_rows():
    probs = np.array([[1.0, 0], [0, 1.0]])
    assert metrics.calibration_error(probs, np.array([0, 1])) == 0
    assert metrics.calibration_error(probs, np.array([1, 0])) == 1


def test_bootstrap_of_equal_groups_has_no_width():
    probs = np.tile(PROBS, (5, 1))
    labels = np.tile(LABELS, 5)
    groups = np.repeat(np.arange(5), 4)
    interval = metrics.bootstrap_interval('log_loss', probs, labels, groups, samples=50)
    np.testing.assert_allclose(interval, [metrics.log_loss(PROBS, LABELS)] * 2)


def test_bootstrap_draws_whole_groups():
    # Two groups, one all right, one all wrong: a draw is 0, 1/2 or 1, however many items they have.
    probs = np.repeat([[0.9, 0.1], [0.1, 0.9]], 50, axis=0)
    labels, groups = np.zeros(100, int), np.repeat(['here', 'there'], 50)
    interval = metrics.bootstrap_interval('accuracy', probs, labels, groups)
    assert interval == (0, 1)
    alone = metrics.bootstrap_interval('accuracy', probs, labels, np.arange(100))
    assert 0.35 < alone[0] < 0.45 and 0.55 < alone[1] < 0.65


def test_bootstrap_width_is_that_of_the_standard_error(table):
    probs, labels, _ = table
    low, high = metrics.bootstrap_interval('accuracy', probs, labels, np.arange(len(labels)))
    share = metrics.accuracy(probs, labels)
    width = 2 * 1.96 * np.sqrt(share * (1 - share) / len(labels))
    # 1000 draws know a percentile to some 5 % of the width
    np.testing.assert_allclose(high - low, width, rtol=0.15)


@pytest.mark.parametrize('metric', ['log_loss', 'accuracy'])
@pytest.mark.parametrize('average', ['micro', 'macro'])
def test_bootstrap_equals_scoring_the_drawn_rows(table, metric, average):
    probs, labels, groups = table
    rng = np.random.default_rng(5)
    values = []
    for _ in range(20):
        rows = [np.flatnonzero(groups == group) for group in rng.integers(20, size=20)]
        rows = np.concatenate(rows)
        values.append(getattr(metrics, metric)(probs[rows], labels[rows], average=average))
    expected = np.quantile(values, [0.05, 0.95])
    interval = metrics.bootstrap_interval(
        metric, probs, labels, groups, average=average, samples=20, level=0.9, seed=5
    )
    np.testing.assert_allclose(interval, expected)


def test_bootstrap_of_one_group_is_unknown():
    interval = metrics.bootstrap_interval('accuracy', PROBS, LABELS, np.zeros(4))
    assert np.isnan(interval).all()


def test_bootstrap_of_the_test_set_takes_less_than_two_seconds():
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(10), size=36_450), rng.integers(10, size=36_450)
    groups = rng.integers(126, size=36_450)
    start = time.process_time()
    for metric in ('log_loss', 'accuracy'):
        metrics.bootstrap_interval(metric, probs, labels, groups)
    assert time.process_time() - start < 2


@pytest.mark.parametrize('average', ['micro', 'macro'])
def test_against_a_system_of_equal_losses_the_paired_interval_is_the_systems_own(table, average):
    probs, labels, groups = table
    uniform = np.full_like(probs, 0.1)  # log 10 for every item
    found = metrics.paired_test(probs, uniform, labels, groups, average=average, seed=3)['log_loss']
    own = metrics.bootstrap_interval('log_loss', probs, labels, groups, average=average, seed=3)
    np.testing.assert_allclose(found.interval, np.array(own) - np.log(10))
    loss = metrics.log_loss(probs, labels, average=average)
    np.testing.assert_allclose(found.difference, loss - np.log(10))


def test_paired_by_hand():
    # Right in 2, 1 and 1 items of three locations where the other is wrong: all sums have one sign,
    # which 2 of the 8 flips keep or turn round as a whole.
    right, wrong = np.tile([0.8, 0.2], (5, 1)), np.tile([0.2, 0.8], (5, 1))
    right[4] = wrong[4]
    labels, groups = np.zeros(5, int), np.array(['a', 'a', 'b', 'c', 'c'])
    found = metrics.paired_test(right, wrong, labels, groups)
    assert found['accuracy'].difference == pytest.approx(4 / 5)
    assert found['log_loss'].difference == pytest.approx(-4 / 5 * np.log(4))
    assert found['accuracy'].p_value == found['log_loss'].p_value == 2 / 8


def test_paired_macro_weighs_every_class_alike():
    # Twice as good in the three items of one class, half as good in the one item of the other.
    good, bad = [0.8, 0.2], [0.4, 0.6]
    ours, theirs = np.array([good] * 3 + [[0.75, 0.25]]), np.array([bad] * 3 + [[0.5, 0.5]])
    labels, groups = np.array([0, 0, 0, 1]), np.arange(4)
    micro, macro = (
        metrics.paired_test(ours, theirs, labels, groups, average=average)['log_loss']
        for average in ('micro', 'macro')
    )
    assert micro.difference == pytest.approx(-np.log(2) / 2)
    assert macro.difference == pytest.approx(0)
    assert (micro.p_value, macro.p_value) == (10 / 16, 1)  # of +-1 +-1 +-1 +-1, 6 are 0


def test_the_standard_error_is_that_of_independent_locations(table):
    probs, labels, _ = table
    other = np.roll(probs, 1, axis=0)
    found = metrics.paired_test(probs, other, labels, np.arange(len(labels)))['accuracy']
    hits = (probs.argmax(axis=1) == labels) * 1.0 - (other.argmax(axis=1) == labels)
    # 1000 draws know a standard error to some 2 %
    np.testing.assert_allclose(found.standard_error, hits.std() / np.sqrt(len(hits)), rtol=0.08)
    low, high = found.interval
    np.testing.assert_allclose(high - low, 2 * 1.96 * found.standard_error, rtol=0.08)


def test_paired_turned_round_changes_only_signs(table):
    probs, labels, groups = table
    other = np.roll(probs, 1, axis=0)
    there = metrics.paired_test(probs, other, labels, groups)
    back = metrics.paired_test(other, probs, labels, groups)
    for name in ('log_loss', 'accuracy'):
        assert back[name].difference == pytest.approx(-there[name].difference)
        assert back[name].standard_error == pytest.approx(there[name].standard_error)
        assert back[name].interval == pytest.approx(
            (-there[name].interval[1], -there[name].interval[0])
        )
        assert back[name].p_value == there[name].p_value


def test_a_system_beside_itself_or_in_one_location_shows_nothing(table):
    probs, labels, groups = table
    same = metrics.paired_test(probs, probs, labels, groups)['accuracy']
    assert same == (0, 0, (0, 0), 1, 20)
    alone = metrics.paired_test(probs, np.roll(probs, 1, axis=0), labels, np.zeros(1000))[
        'log_loss'
    ]
    assert np.isnan([alone.standard_error, *alone.interval]).all() and alone.p_value == 1


def test_drawn_sign_flips_agree_with_all_of_them(monkeypatch):
    sums = np.random.default_rng(0).normal(0.4, 1, size=12)
    exact = metrics._sign_flips(sums, seed=0)
    monkeypatch.setattr(metrics, 'FLIPS', 4000)
    drawn = metrics._sign_flips(sums, seed=0)
    assert drawn != exact
    # four standard errors of a share
    assert abs(drawn - exact) < 4 * np.sqrt(exact * (1 - exact) / 4000)
    assert metrics._sign_flips(np.ones(40), seed=0) == 1 / 4001


def test_float32_softmax_rows_raise_no_warning():
    logits = np.random.default_rng(0).normal(0, 5, size=(5000, 10)).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs = powers / powers.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        metrics.log_loss(probs, np.zeros(5000, int))


def test_rows_that_do_not_sum_to_one_are_counted_in_a_warning():
    probs = np.array([[0.5, 0.5], [0.5, 0.501], [0.7, 0.1]])
    with pytest.warns(UserWarning, match=r'2 of 3 rows do not sum to 1, first row 1 \(sum 1.001\)'):
        metrics.log_loss(probs, np.array([0, 0, 0]))


@pytest.mark.parametrize(
    ('probs', 'labels', 'message'),
    [
        ([[0.5, 0.5], [1.5, -0.5]], [0, 0], r'1 of 2 rows .* first row 1 \(1.5\)'),
        ([[0.9, -0.1]], [0], r'1 of 1 rows .* \(-0.1\)'),
        ([[np.nan, 0.5]], [0], '1 of 1 rows hold NaN'),
        ([0.5, 0.5], [0], r'shape \(2,\)'),
        ([[1.0]], [0], r'two classes'),
        (np.zeros((0, 2)), np.zeros(0, int), 'no rows'),
        ([[0.5, 0.5]] * 3, [0, -1, -1], r'2 of 3 labels are outside \[0, 2\), first row 1 \(-1\)'),
        ([[0.5, 0.5]], [2], r'1 of 1 labels are outside'),
        ([[0.5, 0.5]], [0, 1], r'labels have shape \(2,\)'),
        ([[0.5, 0.5]], [0.0], 'float64; give 1 integers'),
    ],
)
def test_wrong_tables_are_refused_with_what_was_seen(probs, labels, message):
    with pytest.raises(ValueError, match=message):
        metrics.check(np.array(probs), np.array(labels))


def test_every_score_refuses_unknown_labels():
    unknown = np.array([0, 1, 0, -1])
    for score in (
        metrics.log_loss,
        metrics.accuracy,
        metrics.confusion,
        metrics.per_class,
        metrics.reliability,
        metrics.calibration_error,
    ):
        with pytest.raises(ValueError, match='-1 means unknown'):
            score(PROBS, unknown)
    with pytest.raises(ValueError, match='-1 means unknown'):
        metrics.bootstrap_interval('accuracy', PROBS, unknown, np.arange(4))


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="average is 'mean'"):
        metrics.log_loss(PROBS, LABELS, average='mean')
    with pytest.raises(ValueError, match="metric is 'f1'"):
        metrics.bootstrap_interval('f1', PROBS, LABELS, np.arange(4))
    with pytest.raises(ValueError, match='3 groups for 4 rows'):
        metrics.bootstrap_interval('accuracy', PROBS, LABELS, np.arange(3))
    with pytest.raises(ValueError, match="average is 'mean'"):
        metrics.paired_test(PROBS, PROBS, LABELS, np.arange(4), average='mean')
    with pytest.raises(ValueError, match='3 groups for 4 rows'):
        metrics.paired_test(PROBS, PROBS, LABELS, np.arange(3))
