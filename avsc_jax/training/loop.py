"""The one training loop: epochs of steps, scored, checkpointed, resumable, stopped on NaN."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import jax
import numpy as np
import optax
from scipy.special import softmax
from tqdm import tqdm

from avsc_jax import ensemble, hosts, metrics, tables
from avsc_jax.data.batches import Rows, Stream, epoch_order
from avsc_jax.training.checkpoint import Checkpoints
from avsc_jax.training.logging import History
from avsc_jax.training.state import TrainState
from avsc_jax.training.steps import Steps

SAVE_EVERY_S = 600.0  # within an epoch
SAVE_EVERY_STEPS = 1000  # of several processes, which must save together and share no clock
SELECT = {'accuracy': ('valid_accuracy', 1), 'log_loss': ('valid_log_loss', -1)}


def fit(
    steps: Steps,
    state: TrainState,
    train: Rows,
    valid: Rows,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    select: str,
    schedule: optax.Schedule,
    checkpoints: Checkpoints,
    history: History,
) -> None:
    """Trains to the end of the last epoch, going on from the last checkpoint if there is one.

    Epochs of a Stream are saved on the way too, and go on from the very step. Afterwards
    `checkpoints` holds the best epoch (the first of equals by `select` on `valid`) and the last,
    and `history` a line per epoch.

    Raises:
      FloatingPointError: the loss is NaN or infinite; names step and learning rate.
    """
    column, sign = selection(select)
    restored, losses = checkpoints.restore_last(state), []
    if restored is not None:
        state, lines, losses = restored
        history.restart(lines)
    state = steps.place(state)
    train_rows, valid_rows = _place(steps, train), _place(steps, valid)
    _, first, group = np.unique(valid.clip_id, return_index=True, return_inverse=True)
    done = len(history.lines)
    for epoch in _progress(
        range(done, epochs), desc='training', unit='epoch', initial=done, total=epochs
    ):
        order, mask = epoch_order(
            len(train), batch_size, multiple=steps.num_devices, shuffle_by=(seed, epoch)
        )
        first_step = int(state.step) - len(losses)

        check = partial(
            _check_finite,
            first_step=first_step,
            epoch=epoch,
            schedule=schedule,
            checkpoints=checkpoints,
        )
        save = partial(_save_within, check, checkpoints, history.lines)
        state, losses = _run_epoch(steps, state, train_rows, order, mask, losses, save)
        check(losses)
        weights = mask.sum(1) / mask.sum()
        probs, valid_loss = _evaluate(steps, state.variables, valid, valid_rows, batch_size)
        pooled = ensemble.pool(probs, group, len(first))
        line = {
            'epoch': epoch,
            'step': int(state.step),
            'learning_rate': float(schedule(first_step)),
            'train_loss': float(np.dot(losses, weights)),
            'valid_loss': valid_loss,
            'valid_log_loss': metrics.log_loss(pooled, valid.label[first]),
            'valid_accuracy': metrics.accuracy(pooled, valid.label[first]),
        }
        best = max((sign * old[column] for old in history.lines), default=-np.inf)
        line['best'] = bool(sign * line[column] > best)
        history.append(line)
        checkpoints.save(state, history.lines, is_best=line['best'])
        losses = []


def selection(name: str) -> tuple[str, int]:
    """The column of the history that chooses the best epoch, and +1 where higher is better."""
    if name not in SELECT:
        raise ValueError(f'select is {name!r}; it must be one of {", ".join(SELECT)}')
    return SELECT[name]


def predict(steps: Steps, variables: dict, rows: Rows, *, batch_size: int) -> np.ndarray:
    """Probabilities `[N, C]` float64 of every row, in order."""
    return _evaluate(steps, variables, rows, _place(steps, rows), batch_size)[0]


def predictions(rows: Rows, probs: np.ndarray, *, meta: dict) -> tables.Predictions:
    """The table of these rows."""
    return tables.Predictions(
        clip_id=np.asarray(rows.clip_id),
        segment=rows.segment,
        label=rows.label,
        probs=probs,
        meta=meta,
    )


def _place(steps: Steps, rows: Rows):
    """The arrays, on the devices; a stream stays where it is."""
    if isinstance(rows.inputs, Stream):
        return rows.inputs
    return steps.place({**rows.inputs, 'label': rows.label})


def _run_epoch(
    steps: Steps,
    state: TrainState,
    rows,
    order: np.ndarray,
    mask: np.ndarray,
    losses: Sequence[float],
    save: Callable[[TrainState, Sequence[float]], None],
) -> tuple[TrainState, np.ndarray]:
    """One pass over the rows; returns the state and the loss of every step `[K]`.

    Args:
      losses: of the steps that are done already; only a stream's epoch can be cut.
      save: called with the state and the losses so far, now and then.
    """
    order, mask = steps.local(order), steps.local(mask)
    if not isinstance(rows, Stream):
        state, losses = steps.train_rows(state, rows, order, mask)
        return state, np.asarray(losses)
    losses, done, saved = list(losses), len(losses), time.monotonic()
    batches = rows.batches(order[done:], mask[done:])
    for batch in _progress(batches, desc='steps', leave=False, initial=done, total=len(order)):
        state, loss = steps.train(state, batch)
        losses.append(loss)
        # While the device works on this step the host makes the next batch, and no third waits.
        losses[-2:-1] = jax.device_get(losses[-2:-1])
        if len(losses) < len(order) and _is_time_to_save(len(losses), saved):
            losses[-1:] = jax.device_get(losses[-1:])
            save(state, losses)
            saved = time.monotonic()
    return state, np.asarray(jax.device_get(losses), np.float32)


def _save_within(check, checkpoints, lines, state: TrainState, losses: Sequence[float]) -> None:
    check(losses)  # the last good checkpoint stays where the loss is not finite
    checkpoints.save(state, lines, losses, is_best=False)


def _is_time_to_save(step: int, saved: float) -> bool:
    if jax.process_count() > 1:
        return step % SAVE_EVERY_STEPS == 0
    return time.monotonic() - saved >= SAVE_EVERY_S


def _evaluate(
    steps: Steps, variables: dict, rows: Rows, placed, batch_size: int
) -> tuple[np.ndarray, float]:
    """Probabilities `[N, C]` in float64 and the mean training loss."""
    order, mask = epoch_order(len(rows), batch_size, multiple=steps.num_devices)
    logits = np.concatenate(list(_logits(steps, variables, placed, order, mask)))[mask.ravel()]
    loss = float(np.mean(steps.loss(logits, rows.label))) if (rows.label >= 0).all() else np.nan
    return softmax(logits.astype(np.float64), axis=1), loss


def _logits(steps: Steps, variables: dict, placed, order, mask) -> Iterator[np.ndarray]:
    order, mask = steps.local(order), steps.local(mask)
    if not isinstance(placed, Stream):
        logits = steps.logits_rows(variables, placed, order)
        yield logits.reshape(-1, logits.shape[-1])
        return
    for batch in _progress(
        placed.batches(order, mask), total=len(order), desc='scoring', leave=False
    ):
        yield steps.logits(variables, batch)


def _progress(items: Iterable, **settings) -> tqdm:
    """A bar of the first process."""
    return tqdm(items, disable=not hosts.is_first(), **settings)


def _check_finite(losses, first_step, epoch, schedule, checkpoints) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if not len(bad):
        return
    step = first_step + int(bad[0])
    last = checkpoints.last_step()
    kept = (
        'there is no checkpoint yet'
        if last is None
        else (f'the last good checkpoint is {checkpoints.folder / "last" / str(last)}')
    )
    raise FloatingPointError(
        f'the loss is {losses[bad[0]]} at step {step} of epoch {epoch}, learning rate '
        f'{float(schedule(step)):g}; {kept}; lower --config.learning_rate and start anew in '
        'another --workdir'
    )
