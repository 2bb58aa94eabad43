"""An interval over few groups is shown with a caution, and over fewer than ten not at all."""

import math

import numpy as np
import pytest

from avsc_jax import metrics, report, tables
from avsc_jax.report import comparison, scores

META = {'classes': ['park', 'tram']}


def table(groups, seed=0, each=2):
    """A table of clips of so many locations, half of them parks."""
    place = np.repeat(np.arange(groups), each)
    label = place % 2
    clips = [
        f'{META["classes"][of]}-oslo-{n}-{i}'
        for i, (n, of) in enumerate(zip(place, label, strict=True))
    ]
    probs = np.random.default_rng(seed).dirichlet([1, 1], len(clips))
    return tables.Predictions(clips, np.full(len(clips), -1), label, probs, META)


@pytest.mark.parametrize(
    ('groups', 'shown', 'sentence'),
    [
        (3, False, '3 locations are too few for an interval, which needs 10'),
        (9, False, '9 locations are too few for an interval, which needs 10'),
        (10, True, '10 locations are few: a bootstrap over fewer than 30 is too narrow'),
        (29, True, '29 locations are few: a bootstrap over fewer than 30 is too narrow'),
        (30, True, None),
    ],
)
def test_report_console_page_and_comparison_say_where_groups_are_few(
    groups, shown, sentence, tmp_path
):
    told = report.make(table(groups), title='a', about={})
    score = told['scores']['clip']
    assert (score['groups'], score['interval_caution']) == (groups, sentence)
    assert not math.isnan(score['accuracy_micro_interval'][0])  # the number itself is kept
    page = report.write(told, tmp_path).read_text()
    text = ' '.join(report.text(told).split())
    found = comparison.make({'a': table(groups), 'b': table(groups, seed=1)})
    compared = ' '.join(comparison.text(found).split())
    assert found['interval_caution'] == sentence
    for each in (text, page, compared):
        assert ('few' in each.replace('fewer', '')) == bool(sentence)
        assert sentence is None or sentence in each
    assert ('in brackets: 95 % intervals; ' in text) == shown
    assert ('[' in text) == ('[' in compared) == shown
    assert ('–' in compared.partition('95 % interval')[0]) == (not shown)


def test_a_class_of_three_locations_has_no_error_and_one_of_ten_a_caution():
    """A class that all its three locations get right had '+50.0 ± 0.0'."""
    label = np.repeat([0, 1], [3, 10])
    clips = [f'{META["classes"][of]}-oslo-{n}-1' for n, of in enumerate(label)]
    sure = np.eye(2)[label] * 0.8 + 0.1
    wrong = np.where(np.arange(13)[:, None] % 2 == 0, sure, 1 - sure)
    ours, theirs = (
        tables.Predictions(clips, np.full(13, -1), label, probs, META) for probs in (sure, wrong)
    )
    found = comparison.make({'ours': ours, 'theirs': theirs})
    assert found['class_groups'] == [3, 10]
    assert [test['accuracy'].groups for test in found['tests']['theirs']['per_class']] == [3, 10]
    rows = {line.split()[0]: line.split() for line in comparison.text(found).splitlines() if line}
    assert rows['park'][1:3] == ['3', '3'] and rows['park'][-3:] == ['+33.3', '±', '–']
    assert rows['tram'][1:3] == ['10', '10'] and rows['tram'][-1].endswith('!')


def test_the_limits_are_those_where_an_interval_covers_the_truth_as_said():
    """A simulation of skewed groups counts how many 95 % intervals hold the truth."""
    rng, covered = np.random.default_rng(0), {}
    for groups in (3, scores.FEWEST_GROUPS, scores.FEW_GROUPS):
        hits = []
        for _ in range(200):
            values = rng.exponential(size=groups)
            low, high = metrics.bootstrap_interval(
                lambda probs, labels, values=values: values,
                np.full((groups, 2), 0.5),
                np.zeros(groups, int),
                np.arange(groups),
                samples=200,
                seed=int(rng.integers(1 << 30)),
            )
            hits.append(low <= 1 <= high)
        covered[groups] = np.mean(hits)
    assert covered[3] < 0.8 < covered[10] < covered[30] < 0.97, covered
