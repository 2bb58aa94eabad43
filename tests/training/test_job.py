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
from avsc_jax.training import initial_weights, load_run, zero_shot

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


def test_nothing_is_trained_and_only_pictures_are_encoded(finished):
    workdir, _ = finished
    settings = json.loads((workdir / 'preprocessing.json').read_text())
    assert settings['window_s'] == 10.0
    (encoder,) = settings['encoders']
    assert encoder['name'] == 'clip_vit_b32'
    assert not (workdir / 'metrics.jsonl').exists()


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
