"""A finished run of a member's own config, data and weights is that member, whatever its folder."""

import json

import pytest

from avsc_jax.data import sources
from avsc_jax.runs import run_folder
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import dependencies, reuse
from avsc_jax.training import ensemble as ensemble_job

CONFIG = '--config=configs/hitachi_ensemble.py:S01,demo'  # of V01 and C04


@pytest.fixture
def job(main, data_dir, tmp_path, monkeypatch):
    """The ensemble's config, its member C04, and the folders, in a place without runs."""
    config = main.resolve(main.parse([CONFIG]), data_dir, named=True)
    monkeypatch.chdir(tmp_path)
    (member,) = dependencies.named(config, ['C04'], None)
    return config, member, {'data_dir': data_dir, 'weights_dir': tmp_path / 'none'}


@pytest.fixture
def same(main, job, data_dir):
    """Writes what a finished run of clip_fusion leaves, with changes of it; returns its folder."""

    def write(
        name='clip_fusion', *, done=True, weights='random:0', data=None, versions=None, **changes
    ):
        config = main.resolve(
            main.parse(['--config=configs/clip_fusion.py']), data_dir, named=False
        )
        assert config.data.source == 'demo'  # for want of TAU, without a token
        folder = RunFolder(job[1].folder.path.with_name(name))
        folder.begin({**config.to_dict(), **changes})
        known = sources.find('tfds_tau').identities(config, data_dir)
        content = dict(zip(('data', 'data_by_size'), data or known, strict=True))
        content['weights'] = dict.fromkeys(config.encoders, weights)
        content['versions'] = run_folder.versions() | (versions or {})
        folder.write_json('environment.json', content)
        if done:
            folder.finish()
        return folder

    return write


def found(job):
    config, member, folders = job
    (one,) = reuse.found([member], config, folders)
    return one.folder.path


def test_the_finished_run_of_the_first_command_is_the_member_and_is_named(
    job, same, capsys, monkeypatch
):
    folder = same()
    assert found(job) == folder.path
    told = capsys.readouterr().err
    assert told.startswith('C04 is the finished run runs/clip_fusion: ')
    assert job[1].config in told
    config, _, folders = job
    ensemble_job.run(config, RunFolder(folder.path / 'x'), folders, [], stored={}, dry_run=True)
    out = capsys.readouterr().out
    assert 'C04   runs/clip_fusion  trained' in out and 'clip_fusion.py' not in out


@pytest.mark.parametrize(
    'change',
    [
        {'done': False},
        {'seed': 1},
        {'batch_size': 47},
        {'weights': 'random:1'},
        {'versions': {'avsc_jax': '0.0.9'}},
        {'data': ('tfds_tau/demo/1.0.0 content:0', 'tfds_tau/demo/1.0.0 0')},
    ],
    ids=str,
)
def test_a_run_that_differs_in_anything_is_another_one(job, same, change, capsys):
    same(**change)
    assert found(job) == job[1].folder.path
    assert not capsys.readouterr().err


def test_the_members_own_finished_folder_comes_first(job, same, capsys):
    same('a_first_by_name')
    own = same(job[1].folder.path.name)
    assert found(job) == own.path and not capsys.readouterr().err


def test_a_damaged_folder_beside_is_passed_over(job, same):
    same('broken').path.joinpath('config.json').write_text('{')
    (same('odd').path / 'environment.json').write_text(json.dumps([]))
    assert found(job) == job[1].folder.path
    good = same('z_last')
    assert found(job) == good.path


def test_a_config_file_of_ones_own_in_its_place_is_another_config(job, same, tmp_path):
    folder = same()
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/clip_fusion.py').write_text('# changed')
    assert found(job) == job[1].folder.path != folder.path
