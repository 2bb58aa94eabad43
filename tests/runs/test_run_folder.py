"""Run folders of older versions, whose configs did not say what kind of job they are."""

import json
import shutil

import pytest

from avsc_jax.configs import clip_fusion, clip_zero_shot, hitachi_ensemble
from avsc_jax.runs.run_folder import RunFolder, config_hash
from avsc_jax.training import load_run, train


def made_before(folder):
    """Takes its kind out of a run's config, and its checksums away."""
    (folder / 'checksums.json').unlink(missing_ok=True)
    config = json.loads((folder / 'config.json').read_text())
    del config['kind']
    (folder / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize('made', [clip_fusion, clip_zero_shot, hitachi_ensemble])
def test_the_kind_of_an_older_run_follows_from_its_sections(made, tmp_path):
    config = made.get_config('demo').to_dict()
    run = RunFolder(tmp_path)
    run.begin(config)
    before = run.config_hash
    made_before(tmp_path)
    assert run.config['kind'] == config['kind']
    run.check(config)  # the same config goes on with it
    with pytest.raises(ValueError, match=r'config\.seed was 0 and is now 1'):
        run.check(config | {'seed': 1})
    assert run.config_hash == before == config_hash(run.read_json('config.json'))


def test_a_finished_run_on_data_that_has_changed_is_a_sentence_and_stays(
    finished_run, demo_config, data_dir, tmp_path, capsys
):
    run = RunFolder(shutil.copytree(finished_run('clip_zero_shot'), tmp_path / 'run'))
    shutil.copytree(data_dir / 'tfds_tau/demo', tmp_path / 'data/tfds_tau/demo', symlinks=True)
    (names,) = tmp_path.rglob('label.labels.txt')
    names.write_text(names.read_text().replace('airport', 'station'))
    made, before = demo_config('clip_zero_shot'), sorted(tmp_path.rglob('*'))
    with pytest.raises(ValueError, match=r'demo/1.0.0 content:\w+ now: .* another --workdir'):
        train.run(made, workdir=run.path, data_dir=tmp_path / 'data', weights_dir=tmp_path)
    assert run.is_done and sorted(tmp_path.rglob('*')) == before
    # data that is gone is no other data, and a run of before knew it by its sizes
    train.run(made, workdir=run.path, data_dir=tmp_path / 'none', weights_dir=tmp_path)
    environment = run.read_json('environment.json')
    run.write_json('environment.json', {'data': environment['data_by_size']})
    run.finish()
    train.run(made, workdir=run.path, data_dir=data_dir, weights_dir=tmp_path)
    assert capsys.readouterr().out.count('this run was complete') == 2
    run.write_json('environment.json', {'data': 'tfds_tau/demo/1.0.0 0123456789abcdef'})
    run.finish()
    with pytest.raises(ValueError, match=r'holds a run on tfds_tau/demo/1.0.0 0123456789abcdef'):
        train.run(made, workdir=run.path, data_dir=data_dir, weights_dir=tmp_path)


def test_an_older_run_is_complete_or_goes_on_and_can_be_opened(
    finished_run, demo_config, data_dir, tmp_path, capsys
):
    whole = finished_run('clip_zero_shot')
    shutil.copytree(whole, tmp_path / 'run')
    made_before(tmp_path / 'run')
    run = RunFolder(tmp_path / 'run')
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    train.run(demo_config('clip_zero_shot'), workdir=run.path, **folders)
    assert 'this run was complete' in capsys.readouterr().out
    assert 'kind' not in run.read_json('config.json')
    assert len(load_run(run.path)[3]) == 10
    (run.path / 'DONE').unlink()
    train.run(demo_config('clip_zero_shot'), workdir=run.path, **folders)
    assert 'this run was complete' not in capsys.readouterr().out and run.is_done
    hashes = [RunFolder(path).read_json('report.json')['config_hash'] for path in (whole, run.path)]
    assert hashes[0] == hashes[1] == run.config_hash
