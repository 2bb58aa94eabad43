"""The job of networks that train on media, from data to a run folder that predicts."""

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from avsc_jax import models, tables, weights
from avsc_jax.models import build
from avsc_jax.predict import __main__ as predict
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.state import TrainState
from avsc_jax.training import initial_weights, train


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


def test_a_wrong_augmentation_is_one_sentence(demo_config, data_dir, tmp_path):
    made = demo_config('hitachi_image', augment={'rotate': {}})
    with pytest.raises(ValueError, match="no augmentation here is called 'rotate'; there are"):
        train.run(made, workdir=tmp_path / 'run', data_dir=data_dir, weights_dir=tmp_path)
    assert Checkpoints(tmp_path / 'run/checkpoints').last_step() is None


@pytest.mark.parametrize('arguments', [['clip.mp4', '--dataset=demo'], []])
def test_predict_takes_files_or_a_dataset(arguments):
    with pytest.raises(ValueError, match='files, --dataset or --follow'):
        predict.main([*arguments, '--model=run'])
