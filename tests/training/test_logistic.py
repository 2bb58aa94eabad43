"""The fit of a probe against scikit-learn used plainly, and an independent minimiser."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from avsc_jax import models
from avsc_jax.models import probe
from avsc_jax.training import logistic

GRID = (1e-3, 1e-2, 0.1)


def drawn(rows: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels that are hard to tell apart; one feature is constant."""
    draw = np.random.default_rng(rows)
    labels = np.arange(rows) % classes
    x = draw.normal(size=(rows, width)) * 3 + 0.6 * draw.normal(size=(classes, width))[labels]
    x[:, 0] = 5
    return x.astype(np.float32), labels


@pytest.mark.parametrize(('rows', 'width', 'classes'), [(60, 8, 3), (30, 90, 3), (40, 12, 2)])
def test_the_stored_network_has_the_probabilities_of_scikit_learn(rows, width, classes):
    """Also with more features than rows, where the fit is made in the space of the rows."""
    x, labels = drawn(rows, width, classes)
    cut = logistic.cut(labels, [f'clip {k}' for k in range(rows)], 5)
    fit = logistic.fit(x, labels, cut, GRID)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=fit.c, max_iter=9999, tol=1e-9))
    plain.fit(x.astype(np.float64), labels)
    made = probe.fitted(fit.mean, fit.deviation, fit.kernel, fit.bias, 1.0)
    network = models.create_model('probe', num_classes=classes, encoders={'e': width})
    logits, _ = network.apply(made, {'features/e': x})
    theirs = plain.predict_proba(x.astype(np.float64))
    ours = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_c_and_temperature_are_those_of_the_folds():
    x, labels = drawn(60, 8, 3)
    cut = logistic.cut(labels, [f'clip {k}' for k in range(60)], 5)
    fit = logistic.fit(x, labels, cut, GRID)
    z = (x - x.mean(axis=0, dtype=np.float64)) / fit.deviation
    scores = {}
    for c in GRID:
        scores[c] = np.zeros((60, 3))
        for fitted, scored in cut:
            model = LogisticRegression(C=c, max_iter=9999, tol=1e-9).fit(z[fitted], labels[fitted])
            scores[c][scored] = model.decision_function(z[scored])

    def loss(logits: np.ndarray, temperature: float = 1.0) -> float:
        each = scipy.special.logsumexp(logits / temperature, axis=1)
        return float((each - logits[np.arange(60), labels] / temperature).mean())

    assert fit.losses == pytest.approx({c: loss(scores[c]) for c in GRID}, abs=1e-7)
    assert fit.c == min(GRID, key=lambda c: loss(scores[c]))
    minimum = scipy.optimize.minimize_scalar(
        lambda log: loss(scores[fit.c], np.exp(log)), bracket=(-1, 0, 1), tol=1e-10
    )
    assert fit.temperature == pytest.approx(np.exp(minimum.x), rel=1e-5)
    assert fit.log_loss == pytest.approx(minimum.fun, abs=1e-7) and fit.num_folds == 5
    assert fit.accuracy == (scores[fit.c].argmax(axis=1) == labels).mean()


def test_folds_share_no_group_and_each_class_is_in_all_fitted_parts():
    labels = np.arange(60) % 3
    groups = np.array([f'place {k // 4}' for k in range(60)])
    folds = logistic.cut(labels, groups, 5)
    assert len(folds) == 5
    assert np.sort(np.concatenate([scored for _, scored in folds])).tolist() == [*range(60)]
    for fitted, scored in folds:
        assert {*groups[fitted]}.isdisjoint(groups[scored])
        assert {*labels[fitted]} == {0, 1, 2}


@pytest.mark.parametrize(
    ('of_class', 'num_folds'),
    [
        (['abcde', 'fghij'], 5),
        (['abcdefg', 'hijk'], 4),  # by the class with the fewest groups
        (['abcdefg', 'hi'], 2),
        (['aaaabc', 'defg'], 3),
        (['abcd', 'e'], 0),
        (['abcd', 'eeee'], 0),
    ],
)
def test_few_groups_of_a_class_make_fewer_folds_and_one_makes_none(of_class, num_folds):
    labels = np.repeat(np.arange(len(of_class)), [len(groups) for groups in of_class])
    assert len(logistic.cut(labels, [*''.join(of_class)], 5)) == num_folds


def test_the_temperature_is_one_where_all_folds_are_right():
    """There the loss has no minimum: it falls as far as the temperature does."""
    labels = np.arange(20) % 2
    x = labels[:, None] + np.linspace(0, 0.1, 20)[:, None]
    fit = logistic.fit(x, labels, logistic.cut(labels, [*map(str, range(20))], 5), (0.1, 1.0))
    assert (fit.temperature, fit.accuracy, fit.c) == (1.0, 1.0, 1.0)
