"""Whole jobs with every field that changes the steps of training."""

import jax
import numpy as np
import pytest

from avsc_jax.models.build import checkpoint_shapes
from avsc_jax.report import console
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import initial_weights, load_run, train

pytestmark = pytest.mark.slow
FIELDS = dict(
    precision='bfloat16',
    accumulate=2,
    ema=0.5,
    clip_norm=1.0,
    layer_decay=0.7,
    label_smoothing=0.1,
    class_weights='balanced',
    mixup_alpha=0.2,
)


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('hitachi_image', dict(cutmix_alpha=1.0, train_part='last_stage')),
        ('ioacas_audio', dict(select='loss', learning_rate=1e-9, patience=1, epochs=5)),
        ('feng_fusion', dict(epochs=4)),
        ('ioacas_fusion', dict(train_part='head')),  # whose pictures are encoded in each step
    ],
)
def test_a_job_with_every_field_tells_of_them_and_keeps_the_average(
    name, changes, demo_config, data_dir, finished_run, tmp_path
):
    config = demo_config(name, **FIELDS | changes)
    for part, member in config.get('members', {}).items():
        member.run = str(finished_run(f'ioacas_{part}'))
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path / 'none'}
    train.run(config, workdir=tmp_path / 'run', **folders)
    told = RunFolder(tmp_path / 'run').read_json('report.json')
    how = told['about']['training']
    assert 'arithmetic in bfloat16, gradients of 2 parts' in how and 'balanced' in how
    assert ('cutmix in 50% of the batches' in how) == ('cutmix_alpha' in changes)
    assert ('last stage and the head' in how) == (changes.get('train_part') == 'last_stage')
    if changes.get('patience'):  # nothing is learned at such a rate
        assert 'ends after 1 epochs without gain' in how and 'stopped early, after' in how
        assert len(told['history']) < 5
    assert f'training: {how[:40]}' in console.text(told)
    assert 'gradients of 2 parts' in (tmp_path / 'run/report.html').read_text()
    model, variables, _, _ = load_run(tmp_path / 'run')
    kept, _ = Checkpoints(tmp_path / 'run/checkpoints').restore_best(checkpoint_shapes(model))
    jax.tree.map(np.testing.assert_array_equal, kept, variables)


def test_an_average_begins_where_training_does(demo_config, data_dir, tmp_path, monkeypatch):
    begun = initial_weights.started

    def published(*given):
        state = begun(*given)
        return state.replace(params=jax.tree.map(lambda x: x + 10, state.params))

    monkeypatch.setattr(initial_weights, 'started', published)
    config = demo_config('ioacas_audio', ema=0.9, epochs=1, learning_rate=1e-9)
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path / 'none'}
    train.run(config, workdir=tmp_path / 'run', **folders)
    kept = load_run(tmp_path / 'run')[1]['params']
    assert min(x.min() for x in jax.tree.leaves(kept)) > 8
