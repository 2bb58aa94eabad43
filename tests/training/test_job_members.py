"""The job of networks that train on media, from data to a run folder that predicts."""

import json
import shutil

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from avsc_jax import models, tables, weights
from avsc_jax.data import records
from avsc_jax.input_pipeline import examples
from avsc_jax.models import build
from avsc_jax.predict import __main__ as predict
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.state import TrainState
from avsc_jax.training import dry_run, initial_weights, load_run, train

MEMBERS = ('hitachi_audio', 'hitachi_image')


@pytest.fixture(scope='module', params=MEMBERS, ids=['audio', 'image'])
def finished(request, finished_run, demo_config):
    workdir = finished_run(request.param)
    return demo_config(request.param), workdir, tables.read(workdir / 'predictions/test.npz')


def test_a_member_writes_a_row_for_each_part_of_a_clip_and_its_report(finished):
    made, workdir, table = finished
    items = made.data['items']
    parts = {'second': 2, 'frame': 12}[items]
    assert len(table.clip_id) == 10 * parts and table.meta['granularity'] == items
    assert table.segment[: parts + 1].tolist() == [*range(parts), 0]
    assert len((workdir / 'metrics.jsonl').read_text().splitlines()) == 2
    told = json.loads((workdir / 'report.json').read_text())
    assert told['paper']['row'] == made.paper.row
    assert any('trained from random initial weights' in w for w in told['about']['warnings'])
    used = {'regnetx_002': 'random:0'}
    assert json.loads((workdir / 'environment.json').read_text())['weights'] == used
    assert (workdir / 'stats.npz').exists() == (items == 'second')


def test_the_run_folder_alone_gives_what_the_table_was_made_of(finished, data_dir):
    _, workdir, table = finished
    model, variables, preprocess, classes = load_run(workdir)
    record = records.open_dataset('tfds_tau', 'demo', data_dir).records('test')[3]
    logits, _ = jax.jit(model.apply)(variables, preprocess(record))
    expected = table.probs[table.clip_id == record['clip_id']]
    np.testing.assert_allclose(jax.nn.softmax(logits), expected, atol=1e-4)
    assert list(classes) == table.meta['classes']


def test_predict_names_the_scene_of_a_file_with_picture_or_sound(finished, data_dir, tmp_path):
    made, workdir, table = finished
    kind = {'second': 'audio/*.wav', 'frame': 'video/*.mp4'}[made.data['items']]
    clip_id = table.clip_id[0]
    (file,) = (f for f in data_dir.rglob(f'tfds_tau_demo*/{kind}') if f.stem == clip_id)
    out = tmp_path / 'out.csv'
    assert predict.main([str(file), f'--model={workdir}', f'--csv={out}']) == 0
    pooled = tables.pool(table)
    expected = pooled.probs[pooled.clip_id.tolist().index(clip_id)]
    # JPEG stands between the frames of the two, and 24 bits between the samples
    assert np.abs(tables.read(out).probs[0] - expected).max() < 0.1


def test_predict_takes_the_records_of_a_dataset_too(finished, data_dir, tmp_path):
    _, workdir, table = finished
    out = tmp_path / 'out.npz'
    arguments = ['--dataset=demo', f'--data_dir={data_dir}', f'--model={workdir}', f'--csv={out}']
    assert predict.main(arguments) == 0
    found, expected = tables.read(out), tables.pool(table)
    assert found.clip_id.tolist() == expected.clip_id.tolist()
    np.testing.assert_allclose(found.probs, expected.probs, atol=1e-4)
    assert found.label.tolist() == expected.label.tolist()


@pytest.mark.slow
def test_a_killed_run_measures_nothing_twice_and_ends_with_the_same_table(
    finished, data_dir, tmp_path, monkeypatch
):
    made, workdir, table = finished
    shutil.copytree(workdir, tmp_path / 'cut')
    for name in ('DONE', 'report.json', 'predictions/test.npz'):
        (tmp_path / 'cut' / name).unlink()
    monkeypatch.setattr(examples.inputs, 'measure', None)
    train.run(made, workdir=tmp_path / 'cut', data_dir=data_dir, weights_dir=tmp_path)
    again = tables.read(tmp_path / 'cut/predictions/test.npz')
    assert again.probs.tobytes() == table.probs.tobytes()


@pytest.mark.slow
def test_whole_clips_of_sound_are_rows_of_their_own(demo_config, data_dir, tmp_path):
    changes = dict(piece_s=10.0, epochs=1, batch_size=20, mixup_alpha=0.2)
    made = demo_config('hitachi_audio', **changes)
    train.run(made, workdir=tmp_path / 'run', data_dir=data_dir, weights_dir=tmp_path)
    table = tables.read(tmp_path / 'run/predictions/test.npz')
    assert len(table.clip_id) == 10 and table.meta['granularity'] == 'clip'
    assert table.meta['pooled'] and (table.segment == -1).all()


def test_training_begins_with_published_weights_and_a_head_of_its_own(demo_config, tmp_path):
    made = demo_config('hitachi_image', weights='pretrained', pretrained='regnetx_002')
    published = models.create_model(**made.model.to_dict())
    state = weights.random_variables(published, 7)
    weights.write(state, tmp_path / 'regnetx_002.safetensors', {})
    model = build.make_model(made.model.to_dict(), num_classes=10)
    used = initial_weights.origins(made, [], tmp_path)
    assert used == {'regnetx_002': weights.identify('regnetx_002', tmp_path)}
    fresh = TrainState.create(model, optax.identity(), seed=0)
    begun = initial_weights.started(made, model, used, tmp_path, [], fresh)
    kernel = begun.params['stem']['conv']['kernel']
    np.testing.assert_array_equal(kernel, state['params']['stem']['conv']['kernel'])
    assert begun.params['head']['kernel'].shape == (8, 10)
    assert (
        initial_weights.started(demo_config('hitachi_image'), model, {}, tmp_path, [], fresh)
        is fresh
    )


def test_a_part_of_a_system_begins_with_published_weights(tmp_path):
    options = dict(layers=(1, 1, 1, 1), width=8)
    made = ConfigDict(
        dict(weights='pretrained', pretrained='tv_resnet50', pretrained_part='resnet', seed=0)
    )
    made.model = dict(name='hou_final', image_size=64, **options)
    published = weights.random_variables(models.create_model('tv_resnet50', **options), 7)
    weights.write(published, tmp_path / 'tv_resnet50.safetensors', {})
    used = {'tv_resnet50': weights.identify('tv_resnet50', tmp_path)}
    model = build.make_model(made.model.to_dict(), num_classes=10)
    drawn = weights.random_variables(model, 0)
    fresh = TrainState(step=0, **drawn, opt_state=(), key=jax.random.key(0))
    begun = initial_weights.started(made, model, used, tmp_path, [], fresh)
    for kind in ('params', 'batch_stats'):
        expected = {k: v for k, v in published[kind].items() if k != 'head'}
        ours, others = (getattr(state, kind) for state in (begun, fresh))
        jax.tree.map(np.testing.assert_array_equal, dict(ours['resnet']), expected)
        assert {*ours} == {*others}
    ours, others = (state.params['image_fc']['kernel'] for state in (begun, fresh))
    np.testing.assert_array_equal(ours, others)


def test_pretrained_weights_that_lack_are_one_sentence_before_anything_is_made(
    demo_config, data_dir, tmp_path
):
    made = demo_config('hitachi_audio', weights='pretrained')
    with pytest.raises(FileNotFoundError, match='no weights of regnetx_064 in'):
        train.run(made, workdir=tmp_path / 'run', data_dir=data_dir, weights_dir=tmp_path)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('name', 'count'), [(MEMBERS[0], 200), (MEMBERS[1], 240)])
def test_a_dry_run_tells_rows_and_steps(demo_config, data_dir, name, count):
    made = demo_config(name)
    told = dry_run.text(made, [], data_dir)
    assert f'split train: 20 clips, {count} rows' in told
    assert 'network regnetx_002' in told and f'input image ({made.size[0]}, ' in told
    assert f'2 epochs of {-(-count // made.batch_size)} steps of' in told


def test_a_wrong_augmentation_is_one_sentence(demo_config, data_dir, tmp_path):
    made = demo_config('hitachi_image', augment={'rotate': {}})
    with pytest.raises(ValueError, match="no augmentation here is called 'rotate'; there are"):
        train.run(made, workdir=tmp_path / 'run', data_dir=data_dir, weights_dir=tmp_path)
    assert Checkpoints(tmp_path / 'run/checkpoints').last_step() is None


@pytest.mark.parametrize('arguments', [['clip.mp4', '--dataset=demo'], []])
def test_predict_takes_files_or_a_dataset(arguments):
    with pytest.raises(ValueError, match='files, --dataset or --follow'):
        predict.main([*arguments, '--model=run'])
