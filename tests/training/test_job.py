"""The job of a system that is not trained: its classes are texts."""

import json
import shutil
from functools import cache
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from avsc_jax import models, tables, weights
from avsc_jax.data import records
from avsc_jax.models import build, clip_tokens
from avsc_jax.runs import summary
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import dry_run, initial_weights, load_run, train, zero_shot

TEXT = {'width': 16, 'layers': 1}  # as finished_run has it


@cache
def text_features(classes, style) -> np.ndarray:
    tower = models.create_model('clip_vit_b32_text', **TEXT)
    ids = clip_tokens.token_ids(clip_tokens.prompts(classes, style))
    features = np.asarray(jax.jit(tower.apply)(weights.random_variables(tower, 0), ids)[0])
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.fixture(scope='module')
def finished(finished_run):
    workdir = finished_run('clip_zero_shot')
    return workdir, tables.read(workdir / 'predictions/test.npz')


def test_the_head_is_the_texts_of_the_classes(finished):
    workdir, table = finished
    _, variables, _, classes = load_run(workdir)
    expected = text_features(classes, 'photo')
    np.testing.assert_allclose(variables['params']['head']['kernel'].T, expected, atol=1e-5)
    assert table.meta['step'] == 0


def test_rows_are_scaled_cosines_of_each_frame(finished, data_dir):
    workdir, table = finished
    _, _, preprocess, classes = load_run(workdir)
    record = records.open_dataset('tfds_tau', 'demo', data_dir).records('test')[3]
    (features,) = preprocess(record).values()
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = jax.nn.softmax(100 * features @ text_features(classes, 'photo').T)
    rows = table.clip_id == record['clip_id']
    np.testing.assert_allclose(table.probs[rows], expected, atol=1e-4)
    assert table.segment[rows].tolist() == list(range(12))


def test_the_run_folder_names_the_text_tower_beside_the_encoder(finished):
    workdir, _ = finished
    used = {'clip_vit_b32': 'random:0', 'clip_vit_b32_text': 'random:0'}
    assert json.loads((workdir / 'environment.json').read_text())['weights'] == used
    assert json.loads((workdir / 'report.json').read_text())['about']['weights'] == used
    (encoder,) = json.loads((workdir / 'preprocessing.json').read_text())['encoders']
    assert encoder['name'] == 'clip_vit_b32'
    assert not (workdir / 'metrics.jsonl').exists()


@pytest.mark.parametrize('lost', [(), ('last',)])
def test_a_killed_run_goes_on_to_the_same_table(finished, demo_config, data_dir, tmp_path, lost):
    workdir, table = finished
    shutil.copytree(workdir, tmp_path / 'cut')
    for name in ('DONE', 'report.json', 'predictions/test.npz'):
        (tmp_path / 'cut' / name).unlink()
    for name in lost:
        shutil.rmtree(tmp_path / 'cut/checkpoints' / name)
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    train.run(demo_config('clip_zero_shot'), workdir=tmp_path / 'cut', **folders)
    rows = tables.read(tmp_path / 'cut/predictions/test.npz')
    assert rows.probs.tobytes() == table.probs.tobytes()
    assert RunFolder(tmp_path / 'cut').is_done


def test_classes_of_other_data_are_the_texts(demo_config, tmp_path):
    classes = ('harbour', 'night_market')
    made = demo_config('clip_zero_shot', prompt_style='spaces')
    model = models.create_model('clip_zero_shot', width=512, num_classes=2)
    (spec,) = initial_weights.encoder_specs(made, made.text_encoder, tmp_path)
    folder = SimpleNamespace(path=tmp_path)
    zero_shot.write_text_head(made, folder, model, spec, classes, tmp_path)
    checkpoints = Checkpoints(tmp_path / 'checkpoints')
    variables, _ = checkpoints.restore_best(build.checkpoint_shapes(model))
    expected = text_features(('harbour', 'night market'), 'literal')
    np.testing.assert_allclose(variables['params']['head']['kernel'].T, expected, atol=1e-5)


def test_a_dry_run_tells_both_towers_and_the_prompts(demo_config, data_dir, tmp_path):
    made = demo_config('clip_zero_shot')
    specs = [
        *initial_weights.encoder_specs(made, made.encoders, tmp_path),
        *initial_weights.encoder_specs(made, made.text_encoder, tmp_path),
    ]
    told = dry_run.text(made, specs, data_dir)
    assert 'encoder clip_vit_b32_text: ' in told and 'input (77,), random:0' in told
    assert "prompts: 'a photo of a airport', 'a photo of a bus'" in told
    assert 'split test: 10 clips, 120 rows' in told
    assert 'training' not in told and 'split train' not in told
    # where nothing is prepared yet, the demo's classes are known all the same
    elsewhere = dry_run.text(made, specs, tmp_path)
    assert told.count('a photo of') == elsewhere.count('a photo of') == 10


def test_a_wrong_prompt_style_fails_before_anything_is_made(demo_config, tmp_path):
    made = demo_config('clip_zero_shot', prompt_style='poem')
    with pytest.raises(ValueError, match="prompt_style is 'poem'; it must be one of literal"):
        train.run(made, workdir=tmp_path / 'run', data_dir=tmp_path, weights_dir=tmp_path)
    assert not (tmp_path / 'run').exists()


def test_the_report_warns_of_clips_that_the_build_left_out(demo_config, data_dir, tmp_path):
    made = demo_config('clip_zero_shot')
    shutil.copytree(data_dir / 'tfds_tau', tmp_path / 'tfds_tau', symlinks=True)
    dataset = records.open_dataset('tfds_tau', 'demo', tmp_path)
    assert not [w for w in summary.about(made, dataset, {})['warnings'] if 'left out' in w]
    (file,) = tmp_path.glob('tfds_tau/demo/*/metadata.json')
    file.write_text(json.dumps({'left_out': ['bus-lyon-1-2', 'tram-lyon-3-4']}))
    dataset = records.open_dataset('tfds_tau', 'demo', tmp_path)
    (warning,) = [w for w in summary.about(made, dataset, {})['warnings'] if 'left out' in w]
    assert warning.startswith('2 clips are left out')
