import dataclasses
import json
import shutil
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax import tree_utils

from avsc_jax import losses, metrics, models
from avsc_jax.data.batches import Stream
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.history import History
from avsc_jax.runs.state import TrainState
from avsc_jax.training import loop
from avsc_jax.training.optimizer import make_optimizer, plateau
from avsc_jax.training.steps import Steps

SETTINGS = {
    'learning_rate': 0.05,
    'drop_at': (2,),
    'factor': 0.1,
    'momentum': 0.9,
    'weight_decay': 1e-4,
}
OPTIONS = dict(num_classes=3, encoders={'clip_rn101': 8}, widths=(16, 8, 8), dropout=0.2)


def make_system(**settings):
    model = models.create_model('clip_late_fusion', **OPTIONS)
    optimizer, schedule = make_optimizer(SETTINGS | settings, steps_per_epoch=4)
    steps = Steps(model, optimizer, partial(losses.focal_loss, gamma=2.0))
    return TrainState.create(model, optimizer, seed=0), schedule, steps


@pytest.fixture(scope='module')
def system():
    return make_system()


def make_rows(seed, clips=10, frames=3):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(clips) % 3, frames).astype(np.int32)
    features = rng.normal(size=(len(label), 8)).astype(np.float32) + np.eye(8)[label]
    return loop.Rows(
        clip_id=[f'clip{i // frames}' for i in range(len(label))],
        segment=np.tile(np.arange(frames, dtype=np.int32), clips),
        label=label,
        inputs={'features/clip_rn101': features.astype(np.float32)},
    )


def mistaken_rows(seed):
    """Rows with labels that training leads away from: their loss rises."""
    rows = make_rows(seed)
    return dataclasses.replace(rows, label=(rows.label + 1) % 3)


VALID = make_rows(1)


def train(
    system,
    folder,
    *,
    epochs=4,
    train_rows=None,
    valid_rows=VALID,
    select='accuracy',
    **options,
):
    state, schedule, steps = system
    folder.mkdir(exist_ok=True)
    checkpoints, history = Checkpoints(folder / 'checkpoints'), History(folder)
    loop.fit(
        steps,
        jax.tree.map(jnp.copy, state),  # the first step takes its memory
        train_rows or make_rows(0),
        valid_rows,
        epochs=epochs,
        batch_size=8,
        seed=0,
        select=select,
        schedule=schedule,
        checkpoints=checkpoints,
        history=history,
        **options,
    )
    history.close()
    return checkpoints, history


def streamed_rows(kind=Stream):
    """Rows that the host reads one by one, with the values of `make_rows(0)`."""
    rows = make_rows(0)
    arrays = {**rows.inputs, 'label': rows.label}
    return dataclasses.replace(
        rows, inputs=kind(lambda i: {name: array[i] for name, array in arrays.items()})
    )


@pytest.fixture(scope='module')
def whole(system, tmp_path_factory):
    """The folder of a run over four epochs, which tests only read, and what it left."""
    folder = tmp_path_factory.mktemp('runs') / 'whole'
    return folder, *train(system, folder)


@pytest.fixture(scope='module')
def streamed(system, tmp_path_factory):
    """A run of three epochs over a stream of rows; the rate is lower in the last."""
    folder = tmp_path_factory.mktemp('runs') / 'streamed'
    return folder, *train(system, folder, epochs=3, train_rows=streamed_rows())


def test_training_learns_and_keeps_the_first_best_epoch(system, whole):
    _, checkpoints, history = whole
    assert [line['epoch'] for line in history.lines] == [0, 1, 2, 3]
    assert [line['learning_rate'] for line in history.lines] == pytest.approx(
        [0.05, 0.05, 0.005, 0.005]
    )
    assert history.lines[-1]['train_loss'] < history.lines[0]['train_loss']
    accuracy = [line['valid_accuracy'] for line in history.lines]
    best = int(np.argmax(accuracy))  # the first of equals
    assert [line['epoch'] for line in history.lines if line['best']][-1] == best
    _, step = checkpoints.restore_best(system[0].variables)
    assert step == history.lines[best]['step']


def test_a_clip_s_embedding_is_the_mean_of_its_rows(system):
    state, _, steps = system
    rows = make_rows(0)
    out = steps._model.apply(state.variables, rows.inputs)[1]['embedding']
    expected = np.asarray(out).reshape(10, 3, -1).mean(axis=1)
    for each in (rows, streamed_rows()):
        found, labels = loop.embeddings(steps, state.variables, each, batch_size=8, most=99)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert labels.tolist() == rows.label[::3].tolist()
    some, _ = loop.embeddings(steps, state.variables, rows, batch_size=8, most=4)
    distance = np.abs(np.asarray(some)[:, None] - expected).max(axis=2).min(axis=1)
    assert len(some) == 4 and distance.max() < 1e-5


def test_best_variables_give_the_scores_that_the_history_tells(system, whole):
    _, checkpoints, history = whole
    variables, _ = checkpoints.restore_best(system[0].variables)
    rows = make_rows(1)
    probs = loop.predict(system[2], variables, rows, batch_size=7)
    assert probs.shape == (30, 3)
    pooled = probs.reshape(10, 3, 3).mean(axis=1)
    best = [line for line in history.lines if line['best']][-1]
    assert (pooled.argmax(1) == rows.label[::3]).mean() == pytest.approx(best['valid_accuracy'])


def test_a_run_cut_after_two_epochs_goes_on_to_the_same_numbers(system, whole, tmp_path):
    folder, *_ = whole
    train(system, tmp_path / 'cut', epochs=2)
    # A kill between writing a line and saving its checkpoint leaves a line too many.
    file = tmp_path / 'cut' / 'metrics.jsonl'
    file.write_text(file.read_text() + json.dumps({'epoch': 2, 'valid_accuracy': 2.0}) + '\n')
    train(system, tmp_path / 'cut')
    assert file.read_bytes() == (folder / 'metrics.jsonl').read_bytes()
    ends = []
    for run in (folder, tmp_path / 'cut'):
        variables, _ = Checkpoints(run / 'checkpoints').restore_best(system[0].variables)
        ends.append(loop.predict(system[2], variables, make_rows(1), batch_size=8))
    assert ends[0].tobytes() == ends[1].tobytes()


def test_a_stream_of_rows_trains_to_the_same_numbers(streamed, whole):
    (*_, stream), (*_, resident) = streamed, whole
    assert len(stream.lines) == 3
    for a, b in zip(stream.lines, resident.lines[:3], strict=True):
        assert a['train_loss'] == pytest.approx(b['train_loss'], rel=1e-5)


@pytest.mark.slow
def test_an_average_is_scored_kept_and_goes_on_after_a_cut(tmp_path):
    system = make_system(ema=0.8, clip_norm=0.5)
    checkpoints, history = train(system, tmp_path / 'whole', select='last')
    train(system, tmp_path / 'cut', epochs=2, select='last')
    train(system, tmp_path / 'cut', select='last')
    whole, cut = (tmp_path / name for name in ('whole', 'cut'))
    assert (whole / 'metrics.jsonl').read_bytes() == (cut / 'metrics.jsonl').read_bytes()
    ends = [Checkpoints(run / 'checkpoints').restore_last(system[0])[0] for run in (whole, cut)]
    for kind in ('params', 'batch_stats', 'opt_state'):
        jax.tree.map(np.testing.assert_array_equal, *(getattr(end, kind) for end in ends))
    best, _ = checkpoints.restore_best(system[0].variables)
    jax.tree.map(np.testing.assert_array_equal, best, ends[0].scored)
    apart = jax.tree.map(lambda a, b: np.abs(a - b).max(), best['params'], ends[0].params)
    assert min(jax.tree.leaves(apart)) > 0
    rows = make_rows(1)
    probs = loop.predict(system[2], best, rows, batch_size=7).reshape(10, 3, 3).mean(axis=1)
    found = metrics.log_loss(probs, rows.label[::3])
    assert found == pytest.approx(history.lines[-1]['valid_log_loss'], rel=1e-6)


class Unsteady(Stream):
    """Counts the batches it gives, and fails in place of one of them."""

    given, last = 0, None

    def batches(self, *order):
        for batch in super().batches(*order):
            if self.given == self.last:
                raise OSError('the power failed')
            self.given += 1
            yield batch


def test_a_run_cut_within_an_epoch_goes_on_from_the_very_step(
    system, streamed, tmp_path, monkeypatch
):
    rows, cut = streamed_rows(Unsteady), tmp_path / 'cut'
    stream = rows.inputs
    train(system, cut, epochs=2, train_rows=rows)
    monkeypatch.setattr(loop, 'SAVE_EVERY_S', 0)
    stream.last = 10
    again = partial(train, system, cut, epochs=3, train_rows=rows)
    with pytest.raises(OSError, match='the power failed'):  # after two batches of the last epoch
        again()
    assert Checkpoints(cut / 'checkpoints').last_step() == 10
    load, stream.last = stream.load, None
    stream.load = lambda i: load(i) | {'features/clip_rn101': np.full(8, np.nan, np.float32)}
    with pytest.raises(FloatingPointError, match=r'nan at step 10 of epoch 2.*last/10;'):
        again()
    stream.load, stream.given = load, 10
    again()
    assert stream.given == 12
    whole, *_ = streamed
    assert (whole / 'metrics.jsonl').read_bytes() == (cut / 'metrics.jsonl').read_bytes()
    ends = (Checkpoints(run / 'checkpoints').restore_last(system[0])[0] for run in (whole, cut))
    jax.tree.map(np.testing.assert_array_equal, *(end.variables for end in ends))


@pytest.mark.slow
def test_plateaus_and_whole_batches_survive_a_cut_within_an_epoch(tmp_path, monkeypatch):
    rows = streamed_rows(Unsteady)  # 30, of which an epoch takes three batches of 8
    stream = rows.inputs
    system = make_system(schedule='plateau', plateau_patience=0)
    again = partial(
        train,
        system,
        train_rows=rows,
        valid_rows=mistaken_rows(1),
        select='loss',
        drop_remainder=True,
    )
    _, history = again(tmp_path / 'whole')
    assert [line['step'] for line in history.lines] == [3, 6, 9, 12] and stream.given == 12
    found = [line['valid_loss'] for line in history.lines]
    rates = [plateau(found[:n], learning_rate=0.05, factor=0.1, patience=0) for n in range(4)]
    assert [line['learning_rate'] for line in history.lines] == rates and rates[3] < 0.01
    stream.given = 0
    again(tmp_path / 'cut', epochs=3)
    monkeypatch.setattr(loop, 'SAVE_EVERY_S', 0)
    stream.last = 11
    with pytest.raises(OSError, match='the power failed'):  # after two batches of the last epoch
        again(tmp_path / 'cut')
    stream.last = None
    again(tmp_path / 'cut')
    assert stream.given == 12
    whole, cut = (tmp_path / name for name in ('whole', 'cut'))
    assert (whole / 'metrics.jsonl').read_bytes() == (cut / 'metrics.jsonl').read_bytes()
    whole, cut = (
        Checkpoints(run / 'checkpoints').restore_last(system[0])[0] for run in (whole, cut)
    )
    jax.tree.map(np.testing.assert_array_equal, whole.variables, cut.variables)
    used = tree_utils.tree_get(cut.opt_state, 'learning_rate')
    assert float(used) == pytest.approx(rates[3])


def test_epochs_without_a_new_best_end_the_training_for_good(system, tmp_path):
    stop = partial(train, system, tmp_path, epochs=9, valid_rows=mistaken_rows(1), select='loss')
    _, history = stop(patience=2)
    best = [line['best'] for line in history.lines]
    assert best[-3:] == [True, False, False] and len(best) < 9
    assert not any(loop.stopped(history.lines[:n], 2) for n in range(len(best)))
    before = (tmp_path / 'metrics.jsonl').read_bytes()
    rows = make_rows(0)
    rows.inputs['features/clip_rn101'][:] = np.nan  # training on would fail
    stop(patience=2, train_rows=rows)
    assert (tmp_path / 'metrics.jsonl').read_bytes() == before
    with pytest.raises(FloatingPointError):
        stop(patience=0, train_rows=rows)


def test_selection_by_batch_loss_takes_the_mean_of_the_batches_means(system, tmp_path):
    checkpoints, history = train(system, tmp_path / 'a', select='batch_loss')
    found = [line['valid_batch_loss'] for line in history.lines]
    best = [line for line in history.lines if line['best']][-1]
    assert best['epoch'] == int(np.argmin(found))
    variables, _ = checkpoints.restore_best(system[0].variables)
    rows = make_rows(1)
    probs = loop.predict(system[2], variables, rows, batch_size=7)
    true = probs[np.arange(30), rows.label]
    each = -((1 - true) ** 2) * np.log(true)
    means = [each[:8].mean(), each[8:16].mean(), each[16:24].mean(), each[24:].mean()]
    assert best['valid_batch_loss'] == pytest.approx(np.mean(means), rel=1e-5)
    assert best['valid_loss'] == pytest.approx(each.mean(), rel=1e-5)
    assert abs(best['valid_batch_loss'] - best['valid_loss']) > 1e-3


def test_outputs_that_are_not_finite_are_one_sentence_and_no_table(system, tmp_path):
    rows = make_rows(1)
    rows.inputs['features/clip_rn101'][4] = np.nan
    sentence = r'not finite for 1 of 30 rows, the first of clip1: .*--config.learning_rate'
    with pytest.raises(FloatingPointError, match=sentence):
        loop.predict(system[2], system[0].variables, rows, batch_size=7)
    with pytest.raises(FloatingPointError, match=sentence):
        train(system, tmp_path / 'a', epochs=1, valid_rows=rows)
    assert not (tmp_path / 'a' / 'metrics.jsonl').exists()


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(system, whole, tmp_path):
    run = shutil.copytree(whole[0], tmp_path / 'run')
    rows = make_rows(0)
    rows.inputs['features/clip_rn101'][:] = np.inf
    with pytest.raises(
        FloatingPointError, match=r'nan at step 16 of epoch 4, learning rate 0\.005'
    ):
        train(system, run, epochs=5, train_rows=rows)
    with pytest.raises(FloatingPointError, match=r'checkpoint is .*last/16;'):
        train(system, run, epochs=5, train_rows=rows)


def test_selection_by_log_loss_takes_the_lowest(system, tmp_path):
    _, history = train(system, tmp_path, select='log_loss')
    assert all('valid_batch_loss' not in line for line in history.lines)
    losses_ = [line['valid_log_loss'] for line in history.lines]
    best = [line['epoch'] for line in history.lines if line['best']][-1]
    assert best == int(np.argmin(losses_))


def test_without_validation_the_last_epoch_is_kept_and_nothing_is_scored(system, tmp_path):
    _, scored = train(system, tmp_path / 'scored', epochs=2, select='last')
    checkpoints, history = train(
        system, tmp_path / 'final', epochs=2, select='last', valid_rows=None
    )
    without = [
        {name: value for name, value in line.items() if not name.startswith('valid_')}
        for line in scored.lines
    ]
    assert history.lines == without and len(without[0]) < len(scored.lines[0])
    _, step = checkpoints.restore_best(system[0].variables)
    assert step == history.lines[-1]['step'] and history.lines[-1]['best']
    with pytest.raises(ValueError, match=r"select is 'accuracy', and a final run .* be 'last'"):
        train(system, tmp_path / 'other', valid_rows=None)


def test_an_unknown_selection_names_those_there_are(system, tmp_path):
    with pytest.raises(ValueError, match=r"select is 'f1'; it must be one of accuracy, log_loss"):
        train(system, tmp_path, select='f1')


def test_a_corrupt_checkpoint_is_one_sentence_that_names_it(system, whole, tmp_path):
    run = shutil.copytree(whole[0], tmp_path / 'run')
    for file in (run / 'checkpoints' / 'last').rglob('*'):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=r'checkpoint .*last/16 cannot be read'):
        train(system, run, epochs=5)
