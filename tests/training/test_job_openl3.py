"""Jobs on OpenL3's embeddings: whole clips, several stages, pictures of files and of records."""

import jax
import numpy as np
import pytest

from avsc_jax import tables
from avsc_jax.data import records
from avsc_jax.data.sources import media_files
from avsc_jax.predict import __main__ as predict
from avsc_jax.runs import run_folder
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import dependencies, load_run, train


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
    """Runs a job in its own folder of a working directory where the members' folders are too."""
    place = tmp_path_factory.mktemp('jobs')

    def run(made, name):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(place)
            folders = {'data_dir': data_dir, 'weights_dir': place / 'none'}
            train.run(made, workdir=place / 'runs' / name, **folders)
        return RunFolder(place / 'runs' / name)

    return run


def predicted(folder, data_dir, out, split='test'):
    """The table that predict makes of the records."""
    flags = ['--dataset=demo', f'--split={split}', f'--data_dir={data_dir}']
    assert predict.main([*flags, f'--model={folder.path}', f'--csv={out}']) == 0
    return tables.read(out)


@pytest.fixture(scope='module')
def weighted(finished_run):
    return RunFolder(finished_run('feng_fusion'))


def test_the_means_of_what_is_standardised_are_zeros(weighted):
    means = weighted.means()
    assert {*means} == {'audio_embedding', 'image_embedding'}
    for mean in means.values():
        np.testing.assert_allclose(mean, 0, atol=1e-4)


def test_embeddings_are_standardised_by_the_training_frames(weighted, data_dir):
    stats = weighted.stats()
    dataset = records.open_dataset('tfds_tau', 'demo', data_dir)
    _, _, preprocess, _ = load_run(weighted.path)
    media = media_files(dataset, data_dir, None)
    rows = []
    for record in dataset.records('train_inner'):
        record |= preprocess.pictures(media(record['clip_id']))
        arrays = {e.spec.name: e(e.items(record)) for e in preprocess.encoders}
        rows.append(arrays['openl3_audio'])
    rows = np.concatenate(rows)
    np.testing.assert_allclose(stats['mean_audio_embedding'], rows.mean(0), atol=1e-4)
    np.testing.assert_allclose(stats['std_audio_embedding'], rows.std(0), atol=1e-4)


def test_the_report_tells_the_learned_weights(weighted):
    ((title, told),) = weighted.read_json('report.json')['learned'].items()
    _, variables = run_folder.best_variables(weighted)
    assert 'image_embedding' in title
    np.testing.assert_allclose(list(told.values()), variables['params']['head']['weight'])
    history = (weighted.path / 'metrics.jsonl').read_text()
    assert '"valid_batch_loss"' in history


@pytest.fixture(scope='module')
def stages(run, demo_config):
    """The two members of B03 and B03."""
    return {
        name: run(demo_config('openl3_baseline', name), f'openl3_baseline-{name}-demo')
        for name in ('audio', 'video', 'audio_video')
    }


@pytest.mark.slow
def test_b03_keeps_the_stems_of_its_members_bit_for_bit(stages):
    stems = run_folder.best_variables(stages['audio_video'])[1]['batch_stats']
    for sense, name in (('audio', 'audio_embedding'), ('video', 'image_embedding')):
        _, variables = run_folder.best_variables(stages[sense])
        for kind in ('params', 'batch_stats'):
            kept = jax.tree.leaves(stems[name][kind])
            expected = jax.tree.leaves(variables[kind]['stem'])
            for ours, theirs in zip(kept, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    used = stages['audio_video'].read_json('environment.json')['weights']
    assert used['audio_embedding'] == f'run of config {stages["audio"].config_hash}'


@pytest.mark.slow
def test_the_baseline_is_scored_at_frames_seconds_and_clips(stages, data_dir, tmp_path):
    folder = stages['audio_video']
    table = tables.read(folder.predictions_file('test'))
    assert table.segment.tolist() == [0, 1] * 10
    scores = folder.read_json('report.json')['scores']
    assert [scores[name]['items'] for name in ('clip', 'frame', 'second', 'product')] == [
        10, 20, 100, 10,
    ]  # fmt: skip
    seconds = tables.read(folder.predictions_file('test_second'))
    np.testing.assert_array_equal(seconds.probs[:10:5], table.probs[:2])
    found = predicted(folder, data_dir, tmp_path / 'out.npz')
    np.testing.assert_allclose(found.probs, tables.pool(table).probs, atol=1e-4)


def test_members_are_trained_in_their_own_folders_with_each_seed(
    demo_config, data_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    made = demo_config('openl3_baseline')
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    ran = []
    monkeypatch.setattr(dependencies, 'ended', lambda c: ran.append(c[1:]) or 0)
    dependencies.train_members(made, [0, 3], {**folders, 'media_dir': None}, False)
    folder = [next(w for w in command if w.startswith('--workdir')) for command in ran]
    expected = 'runs/openl3_baseline-{}-demo{}'
    assert folder == [
        f'--workdir={expected.format(*names)}'
        for names in (('audio', ''), ('video', ''), ('audio', '-seed3'), ('video', '-seed3'))
    ]
    for seed, command in zip((0, 0, 3, 3), ran, strict=True):
        assert f'--seed={seed}' in command


@pytest.mark.slow
def test_hou_s_network_sees_features_and_pictures_of_a_clip(run, demo_config, data_dir, tmp_path):
    folder = run(demo_config('hou_dual_stream'), 'hou_dual_stream-final-demo')
    table = tables.read(folder.predictions_file('validation'))
    assert table.meta['granularity'] == 'clip' and len(table.clip_id) == len(set(table.clip_id))
    found = predicted(folder, data_dir, tmp_path / 'out.npz', 'validation')
    assert found.clip_id.tolist() == table.clip_id.tolist()
    np.testing.assert_allclose(found.probs, table.probs, atol=1e-4)
    told = folder.read_json('report.json')['about']['protocol']
    assert 'selected on the reported split' in told


def test_the_media_folder_that_lacks_is_named(data_dir, tmp_path):
    dataset = records.open_dataset('tfds_tau', 'demo', data_dir)
    with pytest.raises(FileNotFoundError, match=r'nowhere is missing; name .*--media_dir'):
        media_files(dataset, data_dir, tmp_path / 'nowhere')('some-clip')
