"""The training loop of all systems: epochs are scored and saved; it resumes, and stops on NaN."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import jax
import numpy as np
from tqdm import tqdm

from avsc_jax import ensemble, label_metrics, metrics, tables
from avsc_jax.data.batches import Rows, Stream, epoch_order
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.history import History
from avsc_jax.runs.state import TrainState
from avsc_jax.runtime import multihost, nearest
from avsc_jax.training.optimizer import Schedule, with_rate
from avsc_jax.training.steps import Steps
from avsc_jax.types import Kind

SAVE_EVERY_S = 600.0  # within an epoch
SAVE_EVERY_STEPS = 1000  # with several processes, which must save together and share no clock
SELECT = {
    'accuracy': ('valid_accuracy', 1),
    'log_loss': ('valid_log_loss', -1),  # of pooled clips
    'loss': ('valid_loss', -1),  # of rows
    'last': ('epoch', 1),
    'mean_average_precision': ('valid_mean_average_precision', 1),  # of pooled clips, over labels
    'batch_loss': ('valid_batch_loss', -1),  # mean of the batches' means, as papers' code has it
}

# Scores that need exclusive classes, or independent ones.
OF_KIND: dict[str, Kind] = {
    'accuracy': 'exclusive',
    'log_loss': 'exclusive',
    'mean_average_precision': 'independent',
}


def fit(
    steps: Steps,
    state: TrainState,
    train: Rows,
    valid: Rows | None,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    select: str,
    schedule: Schedule,
    checkpoints: Checkpoints,
    history: History,
    patience: int = 0,
    drop_remainder: bool = False,
    one_of: np.ndarray | None = None,
) -> None:
    """Trains to the end of the last epoch; resumes from the last checkpoint if one exists.

    Epochs of a Stream are also saved on the way, and resume at the exact step. Afterwards
    `checkpoints` holds the best epoch (by `select` on `valid`, the first of equals) and the last,
    and `history` a line per epoch.

    Args:
      valid: rows that score each epoch; None: the last epoch is the best.
      patience: number of epochs without a new best one that ends the training; 0: no limit.
      drop_remainder: whether to leave out the rows that do not fill the last batch.
      one_of: the group of each training row `[N]`; an epoch takes one random row of each group.

    Raises:
      FloatingPointError: the loss is NaN or infinite, or an output for `valid`; names step and
        learning rate, or the clip.
    """
    column, sign = selection(select, scored=valid is not None)
    if column == 'valid_mean_average_precision' and not (valid and valid.label.any()):
        raise ValueError(
            'no label is true of any validation clip, so no average precision can select the '
            "epoch; give other splits, or select 'loss'"
        )
    restored, losses = checkpoints.restore_last(state), []
    if restored is not None:
        state, lines, losses = restored
        history.restart(lines)
    state, train_rows = steps.place(state), _place(steps, train)
    valid_rows = None if valid is None else _place(steps, valid)
    layout = dict(multiple=steps.num_parts, drop_remainder=drop_remainder, one_of=one_of)
    for number in _epochs(history.lines, epochs, patience):
        order, mask = epoch_order(len(train), batch_size, shuffle_by=(seed, number), **layout)
        selecting = [-sign * line[column] for line in history.lines]
        rate = partial(schedule, losses=selecting)
        epoch = _Epoch(number, int(state.step) - len(losses), rate, checkpoints, history.lines)
        state, losses = _run_epoch(steps, state, train_rows, order, mask, losses, epoch)
        line = epoch.line(state, losses, mask)
        if valid is not None:
            logits = _logits(steps, state.scored, valid, valid_rows, batch_size)
            line |= _scores(steps, logits, valid, batch_size, column)
        line['best'] = -sign * line[column] < min(selecting, default=np.inf)
        history.append(line)
        checkpoints.save(state, history.lines, is_best=line['best'])
        losses = []


def stopped(lines: Sequence[dict], patience: int) -> bool:
    """Returns whether the last `patience` epochs brought no new best one; with 0, never."""
    return 0 < patience <= len(lines) and not any(line['best'] for line in lines[-patience:])


def selection(name: str, *, scored: bool = True, kind: Kind | None = None) -> tuple[str, int]:
    """Returns the history's column that selects the best epoch, and +1 if higher is better, or -1.

    Args:
      name: one of SELECT.
      scored: whether the job has a split to score the epochs on.
      kind: of the classes, which scores of the other kind cannot be of; None: not checked.
    """
    nearest.check('select', name, SELECT)
    if kind is not None and name in OF_KIND and OF_KIND[name] != kind:
        allowed = [other for other in SELECT if OF_KIND.get(other, kind) == kind]
        raise ValueError(
            f'select is {name!r}, and the classes are {kind} (config.data.labels); it must be one '
            f'of {", ".join(allowed)}'
        )
    if not scored and name != 'last':
        raise ValueError(
            f'select is {name!r}, and a final run has no validation split to select on; it must '
            "be 'last'"
        )
    return SELECT[name]


def predict(steps: Steps, variables: dict, rows: Rows, *, batch_size: int) -> np.ndarray:
    """Returns the probabilities `[N, C]` float64 of all rows, in order."""
    logits = _logits(steps, variables, rows, _place(steps, rows), batch_size)
    return ensemble.probabilities(logits, rows.kind)


def embeddings(
    steps: Steps, variables: dict, rows: Rows, *, batch_size: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each clip's embedding `[N, D]`, the mean over its rows, and its label `[N]`.

    Args:
      most: the largest number of clips; of more a part is drawn, the same each time.
    """
    _, first, clip = np.unique(rows.clip_id, return_index=True, return_inverse=True)
    chosen = np.random.default_rng(0).permutation(len(first))[:most]
    places = np.flatnonzero(np.isin(clip, chosen))
    order, mask = epoch_order(len(places), batch_size, multiple=steps.num_devices)
    batches = _batches(rows, steps.local(places[order]), steps.local(mask))
    parts = [steps.embeddings(variables, batch) for batch in batches]
    of_rows = np.concatenate(parts)[mask.ravel()]
    _, place, member = np.unique(clip[places], return_index=True, return_inverse=True)
    return ensemble.pool(of_rows, member, len(place)), rows.label[places[place]]


def _batches(rows: Rows, order: np.ndarray, mask: np.ndarray) -> Iterator[dict]:
    """Yields the rows of each line of `order [K, B]` as a batch, whether streamed or in memory."""
    if isinstance(rows.inputs, Stream):
        yield from rows.inputs.batches(order, mask)
        return
    for line, kept in zip(order, mask, strict=True):
        batch = {name: array[line] for name, array in rows.inputs.items()}
        yield batch | {'label': rows.label[line], 'mask': kept}


def pooled_clips(rows: Rows, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns each clip's probabilities `[N, C]`, the mean over its rows, and its label."""
    _, first, group = np.unique(rows.clip_id, return_index=True, return_inverse=True)
    return ensemble.pool(probs, group, len(first)), rows.label[first]


def predictions(
    rows: Rows, probs: np.ndarray, *, meta: dict, group: np.ndarray | None = None
) -> tables.Predictions:
    """Makes a table of predictions from rows and their probabilities.

    Args:
      group: the location of each row, or another group that clips share.
    """
    return tables.Predictions(
        clip_id=np.asarray(rows.clip_id),
        segment=rows.segment,
        label=rows.label if rows.kind == 'exclusive' else rows.label > 0,
        probs=probs,
        meta=meta if rows.kind == 'exclusive' else {**meta, 'kind': rows.kind},
        group=group,
    )


def _place(steps: Steps, rows: Rows):
    """Copies the rows' arrays to the devices; a stream stays on the host."""
    if isinstance(rows.inputs, Stream):
        return rows.inputs
    return steps.place({**rows.inputs, 'label': rows.label})


@dataclasses.dataclass(frozen=True)
class _Epoch:
    """One pass over the training rows: its learning rate, checkpoints, and check of the loss.

    Attributes:
      first_step: the number of its first step.
      rate: the learning rate of a step.
      lines: the history of the epochs before.
    """

    number: int
    first_step: int
    rate: Callable[[int], float | jax.Array]
    checkpoints: Checkpoints
    lines: Sequence[dict]

    def line(self, state: TrainState, losses: np.ndarray, mask: np.ndarray) -> dict:
        """Returns the history's line about its training."""
        return {
            'epoch': self.number,
            'step': int(state.step),
            'learning_rate': float(self.rate(self.first_step)),
            'train_loss': float(np.dot(losses, mask.sum(1) / mask.sum())),
        }

    def save(self, state: TrainState, losses: Sequence[float]) -> None:
        """Saves a state within the epoch; if the loss is not finite, the last good one stays."""
        self.check(losses)
        self.checkpoints.save(state, self.lines, losses, is_best=False)

    def check(self, losses: Sequence[float] | np.ndarray) -> None:
        """Raises FloatingPointError if a loss is NaN or infinite."""
        bad = np.flatnonzero(~np.isfinite(losses))
        if not len(bad):
            return
        step, last = self.first_step + int(bad[0]), self.checkpoints.last_step()
        kept = 'no checkpoint was saved yet'
        if last is not None:
            kept = f'the last good checkpoint is {self.checkpoints.folder / "last" / str(last)}'
        raise FloatingPointError(
            f'the loss is {losses[bad[0]]} at step {step} of epoch {self.number}, learning rate '
            f'{float(self.rate(step)):g}; {kept}; lower --config.learning_rate and start again in '
            'another --workdir'
        )


def _run_epoch(
    steps: Steps,
    state: TrainState,
    rows,
    order: np.ndarray,
    mask: np.ndarray,
    losses: Sequence[float],
    epoch: _Epoch,
) -> tuple[TrainState, np.ndarray]:
    """Trains on all rows once; returns the state and the loss of every step `[K]`.

    Args:
      losses: the losses of the steps done already; only a stream's epoch resumes within.
    """
    first_rate = steps.place(np.float32(epoch.rate(epoch.first_step)))
    state = state.replace(opt_state=with_rate(state.opt_state, first_rate))
    order, mask = steps.local(order), steps.local(mask)
    if isinstance(rows, Stream):
        state, losses = _run_stream(steps, state, rows, order, mask, losses, epoch)
    else:
        state, losses = steps.train_rows(state, rows, order, mask)
    losses = np.asarray(losses)
    epoch.check(losses)
    return state, losses


def _run_stream(
    steps: Steps,
    state: TrainState,
    rows: Stream,
    order: np.ndarray,
    mask: np.ndarray,
    losses: Sequence[float],
    epoch: _Epoch,
) -> tuple[TrainState, np.ndarray]:
    """Trains on all rows of a stream once; saves the state at intervals."""
    losses, done, saved = list(losses), len(losses), time.monotonic()
    batches = rows.batches(order[done:], mask[done:], steps.put)
    with contextlib.closing(batches):  # its threads end with the epoch, also by an error
        for batch in _progress(batches, desc='steps', leave=False, initial=done, total=len(order)):
            state, loss = steps.train(state, batch)
            losses.append(loss)
            # While the device computes this step the next batch is made and put, and no more.
            losses[-2:-1] = jax.device_get(losses[-2:-1])
            if len(losses) < len(order) and _is_time_to_save(len(losses), saved):
                losses[-1:] = jax.device_get(losses[-1:])
                epoch.save(state, losses)
                saved = time.monotonic()
    return state, np.asarray(jax.device_get(losses), np.float32)


def _is_time_to_save(step: int, saved: float) -> bool:
    if jax.process_count() > 1:
        return step % SAVE_EVERY_STEPS == 0
    return time.monotonic() - saved >= SAVE_EVERY_S


def _logits(steps: Steps, variables: dict, rows: Rows, placed, batch_size: int) -> np.ndarray:
    """Returns the logits `[N, C]` float32 of all rows, in order."""
    order, mask = epoch_order(len(rows), batch_size, multiple=steps.num_devices)
    parts = _logits_of_batches(steps, variables, placed, steps.local(order), steps.local(mask))
    logits = np.concatenate(list(parts))[mask.ravel()]
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise FloatingPointError(
            f'the network gives outputs that are not finite for {len(bad):,} of {len(rows):,} '
            f'rows, the first of {rows.clip_id[bad[0]]}: training has diverged, or their data are '
            'broken; lower --config.learning_rate and start again in another --workdir'
        )
    return logits


def _logits_of_batches(steps: Steps, variables: dict, placed, order, mask) -> Iterator[np.ndarray]:
    if not isinstance(placed, Stream):
        logits = steps.logits_rows(variables, placed, order)
        yield logits.reshape(-1, logits.shape[-1])
        return
    for batch in _progress(
        placed.batches(order, mask, steps.put), total=len(order), desc='scoring', leave=False
    ):
        yield steps.logits(variables, batch)


def _scores(steps: Steps, logits: np.ndarray, rows: Rows, batch_size: int, column: str) -> dict:
    """Scores the validation rows, one by one and pooled to clips, for a line of the history."""
    losses = np.asarray(steps.loss(logits, rows.label))
    pooled, labels = pooled_clips(rows, ensemble.probabilities(logits, rows.kind))
    scores = {'valid_loss': float(losses.mean())}
    if rows.kind == 'exclusive':
        scores['valid_log_loss'] = metrics.log_loss(pooled, labels)
        scores['valid_accuracy'] = metrics.accuracy(pooled, labels)
    else:
        precisions = label_metrics.average_precision(pooled, labels)
        scores['valid_mean_average_precision'] = label_metrics.macro(precisions)
    if column == 'valid_batch_loss':  # no mean over items, so it is kept only if it selects
        batches = np.split(losses, range(batch_size, len(losses), batch_size))
        scores[column] = float(np.mean([batch.mean() for batch in batches]))
    return scores


def _epochs(lines: Sequence[dict], epochs: int, patience: int) -> tqdm:
    """Numbers of the epochs to come, with a bar, while `lines` grows by one each."""

    def numbers() -> Iterator[int]:
        while len(lines) < epochs and not stopped(lines, patience):
            yield len(lines)

    begun = len(lines)
    return _progress(numbers(), desc='training', unit='epoch', initial=begun, total=epochs)


def _progress(items: Iterable, **settings) -> tqdm:
    """Shows a progress bar, in the first process only."""
    return tqdm(items, disable=not multihost.is_first(), **settings)
