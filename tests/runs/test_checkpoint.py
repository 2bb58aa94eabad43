import resource
import shutil
import sys

import jax
import numpy as np
import optax
import pytest

from avsc_jax import models
from avsc_jax.runs import checkpoint
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.state import TrainState
from avsc_jax.runtime import cli, disk

OPTIONS = {'num_classes': 3, 'encoders': {'clip_rn101': 8}, 'widths': (4, 4, 4)}


def test_an_epoch_killed_after_its_best_was_saved_can_be_saved_again(tmp_path):
    model = models.create_model('clip_late_fusion', **OPTIONS)
    state = TrainState.create(model, optax.sgd(0.1), seed=0)
    first, second = (state.replace(step=state.step + step) for step in (4, 8))
    Checkpoints(tmp_path / 'run').save(first, [{'epoch': 0}], is_best=True)
    shutil.copytree(tmp_path / 'run/last', tmp_path / 'kept')
    Checkpoints(tmp_path / 'run').save(second, [{'epoch': 0}, {'epoch': 1}], is_best=True)
    shutil.rmtree(tmp_path / 'run/last')  # as if the kill had come between best and last
    shutil.copytree(tmp_path / 'kept', tmp_path / 'run/last')

    again = Checkpoints(tmp_path / 'run')
    restored, history, _ = again.restore_last(state)
    assert (int(restored.step), len(history)) == (4, 1)
    again.save(second, [{'epoch': 0}, {'epoch': 1}], is_best=True)
    restored, history, _ = again.restore_last(state)
    assert (int(restored.step), len(history)) == (8, 2)
    variables, step = again.restore_best(state.variables)
    assert step == 8
    jax.tree.map(np.testing.assert_array_equal, variables, second.variables)


def test_orbax_s_words_about_a_full_disk_are_in_a_log_where_there_is_room(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    for folder in (tmp_path, tmp_path / 'absent'):
        with (
            pytest.raises(disk.Unwritable, match=rf'^full; Orbax.* {tmp_path / "orbax.log"}$'),
            checkpoint._quiet(folder),
        ):
            print('Traceback', file=sys.stderr)
            raise disk.Unwritable('full')
        assert (tmp_path / 'orbax.log').read_text() == 'Traceback\n'
        (tmp_path / 'orbax.log').unlink()
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'absent'))
    with pytest.raises(disk.Unwritable, match=r'^full$'), checkpoint._quiet(tmp_path / 'absent'):
        print('Traceback', file=sys.stderr)
        raise disk.Unwritable('full')


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # Orbax's threads
def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(tmp_path, capfd, caplog):
    model = models.create_model('clip_late_fusion', **OPTIONS)
    state = TrainState.create(model, optax.sgd(0.1), seed=0)
    checkpoints = Checkpoints(tmp_path / 'run')
    checkpoints.save(state.replace(step=state.step + 1), [{'epoch': 0}], is_best=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(disk.Unwritable, match=r'/run cannot be written: File too large \('):
            checkpoints.save(state.replace(step=state.step + 2), [{'epoch': 0}], is_best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr().err == '' and not caplog.records
    assert {path.name for path in tmp_path.glob('run/*/*')} == {'1'}
    restored, *_ = Checkpoints(tmp_path / 'run').restore_last(state)
    assert int(restored.step) == 1
    assert cli._said().endswith(f'goes on after step 1, from {tmp_path / "run/last/1"}')
