"""Decision fusions by name: one function and one row, for score, ensembles and predict."""

import numpy as np
import pytest

from avsc_jax import ensemble, tables
from avsc_jax.configs import hitachi_ensemble
from avsc_jax.ensemble import recipes
from avsc_jax.score import __main__ as score
from avsc_jax.tables import mix
from avsc_jax.training import ensemble as ensembles

CLASSES = ('airport', 'bus', 'metro')


def largest(probs, *, weights=None, **_):
    """The surest member of each clip."""
    members = np.stack([*probs.values()])
    surest = members.max(axis=-1).argmax(axis=0)
    return members[surest, np.arange(members.shape[1])]


@pytest.fixture
def new_recipe(monkeypatch):
    row = recipes.Recipe('surest member', largest, weighs=False)
    monkeypatch.setitem(recipes.RECIPES, 'largest', row)


def members(names=('audio', 'visual')):
    draw = np.random.default_rng(0)
    clips = [f'{CLASSES[k % 3]}-oslo-{k}-{k}' for k in range(9)]
    return {
        name: tables.Predictions(
            clips, np.full(9, -1), np.arange(9) % 3, draw.dirichlet(np.ones(3), 9),
            {'classes': list(CLASSES)},
        )
        for name in names
    }  # fmt: skip


def test_a_decision_fusion_is_one_function_and_one_row(new_recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = members()
    for name, table in made.items():
        tables.write(table, f'{name}.npz')
    arguments = ['audio=audio.npz', 'visual=visual.npz', '--recipe=largest', '--out=out']
    assert score.main(arguments) == 0
    assert capsys.readouterr().out.startswith('surest member of audio, visual\n')
    expected = largest({name: table.probs for name, table in made.items()})
    np.testing.assert_array_equal(tables.read('out/predictions.npz').probs, expected)
    with pytest.raises(
        ValueError, match='--weights go with a mean, and --recipe=largest has its own'
    ):
        score.main([*arguments, '--weights=.5,.5'])

    config = hitachi_ensemble.get_config('A04V04')
    config.groups = {'audio': ('audio',), 'visual': ('visual',)}
    config.recipe, config.lines = {'name': 'largest'}, ()
    fused = ensembles.fuse_refit(made, config)['A04V04']
    np.testing.assert_array_equal(fused.probs, expected)
    assert 'surest member of audio, visual' in fused.meta['about']['protocol']


def test_roles_of_a_recipe_are_checked_by_its_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, table in members(('audio', 'other')).items():
        tables.write(table, f'{name}.npz')
    sentence = '--recipe=hitachi takes audio=table visual=table and perhaps clip=table, not audio, '
    with pytest.raises(ValueError, match=sentence):
        score.main(['audio=audio.npz', 'other=other.npz', '--recipe=hitachi'])


@pytest.mark.parametrize(('name', 'function'), [('mean', 'mean'), ('geometric', 'geometric_mean')])
def test_means_are_those_of_the_ensemble_and_clamped_before_or_after(name, function):
    probs = {name: table.probs for name, table in members().items()}
    stacked, average = np.stack([*probs.values()]), getattr(ensemble, function)
    weights = np.array([0.25, 0.75])
    found = mix.fuse(probs, {'name': name}, classes=CLASSES, weights=weights)
    np.testing.assert_array_equal(found, average(stacked, weights))
    found = mix.fuse(probs, {'name': name, 'clamp': 'fused'}, classes=CLASSES)
    np.testing.assert_array_equal(found, ensemble.clamp(average(stacked, None)))
    found = mix.fuse(probs, {'name': name}, classes=CLASSES, clamp='per_model')
    np.testing.assert_array_equal(found, average(ensemble.clamp(stacked), None))
