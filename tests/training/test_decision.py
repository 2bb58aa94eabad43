"""The fitted decision stage of an ensemble, on the made-up runs of test_ensemble."""

import numpy as np
import pytest

from avsc_jax import ensemble, metrics, tables
from avsc_jax.predict import predictor
from avsc_jax.report import scores
from avsc_jax.training import decision, logistic
from tests.training.test_ensemble import LABELS, config, run, runs  # noqa: F401

STEPS = ('temperature', 'vector', 'stacking', 'clamp')


def decided(*steps, mean=True):
    """The config of E02 with a decision, on a mean of two roles or on its own recipe."""
    made = config('E02,tau')
    with made.unlocked():
        made.decision = steps
        if mean:
            made.roles, made.recipe, made.lines = ('visual', 'clip'), {'name': 'mean'}, ()
    return made


@pytest.fixture
def folder(runs):  # noqa: F811
    return run(decided(*STEPS))


def test_the_report_shows_what_each_step_is_worth_on_other_places(folder, capsys):
    told = folder.read_json('report.json')
    assert [row['name'] for row in told['decision']] == ['the mix', *(f'+ {s}' for s in STEPS)]
    assert 'tests' not in told['decision'][0]
    first, second = told['decision'][:2]
    gap = second['tests']['log_loss']['difference']
    assert gap == pytest.approx(second['log_loss'] - first['log_loss'])
    headline = told['scores']['clip']['log_loss_micro']
    assert headline == pytest.approx(told['decision'][-1]['log_loss'])
    assert 'no row is scored by a fit that saw its place' in told['about']['protocol']
    assert [line['name'] for line in told['members']][-2:] == ['E02, + stacking', 'E02']


def test_its_table_is_cross_fitted_and_its_file_is_fitted_to_all_rows(folder):
    made = decided(*STEPS)
    table = tables.read(folder.predictions_file('test'))
    fitted = decision.read(folder, made, classes=10)
    roles = {}
    for role in ('visual', 'clip'):
        names = made.groups[role]
        probs = [
            tables.pool(tables.read(f'{_folder(made, n)}/predictions/test.npz')).probs
            for n in names
        ]
        roles[role] = np.mean(probs, axis=0)
    stacked = np.stack([*roles.values()])
    mixed = stacked.mean(axis=0)
    groups, _ = scores.groups(table)
    cuts = logistic.cut(LABELS, groups, decision.MOST_FOLDS)
    expected = ensemble.cross_fit(STEPS, mixed, stacked, LABELS, cuts)[-1]
    np.testing.assert_allclose(table.probs, expected, atol=1e-9)
    on_all = ensemble.apply_steps(fitted, mixed, stacked)[-1]
    assert metrics.log_loss(on_all, LABELS) < metrics.log_loss(table.probs, LABELS)


def _folder(made, name):
    from avsc_jax.runs.run_folder import default_path

    return default_path(made.members[name].config)


def test_new_clips_pass_the_steps_and_a_missing_role_leaves_them_out(folder):
    made = decided(*STEPS)
    facts = [
        {'name': name, 'fold': None} for role in ('visual', 'clip') for name in made.groups[role]
    ]
    fitted = decision.read(folder, made, classes=10)
    rng = np.random.default_rng(0)
    probs = {fact['name']: rng.dirichlet(np.ones(10), 4) for fact in facts}
    classes = tuple(map(str, range(10)))
    answered = predictor._decided(made, facts, {}, classes, fitted, probs)
    visual = np.mean([probs[name] for name in made.groups['visual']], axis=0)
    stacked = np.stack([visual, probs['C04']])
    expected = ensemble.apply_steps(fitted, stacked.mean(axis=0), stacked)[-1]
    np.testing.assert_allclose(answered, expected, atol=1e-12)
    alone = predictor._decided(made, facts, {}, classes, fitted, {'C04': probs['C04']})
    np.testing.assert_allclose(alone, probs['C04'], atol=1e-12)


@pytest.mark.parametrize(
    ('made', 'sentence'),
    [
        (lambda: decided('temperature', 'temperature'), 'give each step once'),
        (lambda: decided('temperatur'), 'did you mean temperature'),
        (lambda: decided('vector', mean=False), 'clamps'),
    ],
)
def test_a_decision_that_cannot_be_is_one_sentence(made, sentence, runs):  # noqa: F811
    with pytest.raises(ValueError, match=sentence):
        run(made())


def test_too_few_places_are_one_sentence():
    table = tables.Predictions(
        clip_id=np.array(['bus-oslo-1-1', 'bus-oslo-1-2', 'tram-oslo-2-1']),
        segment=np.full(3, -1),
        label=np.array([0, 0, 1]),
        probs=np.full((3, 2), 0.5),
        meta={'classes': ['bus', 'tram'], 'granularity': 'clip'},
    )
    with pytest.raises(ValueError, match='2 locations are too few'):
        decision.decide(table, {'a': table}, ['temperature'], 'S')
