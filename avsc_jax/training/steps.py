"""The pmapped training and evaluation steps: the only file that knows about devices.

`train` and `logits` work on one global batch; `train_rows` and `logits_rows` scan over many batches
taken from rows on the device, which saves a small network the dispatch of every step. All four
share two functions. State goes in and comes out without a device axis; batches gain one here. Each
process passes its `local` part of a global batch and gets all logits.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from avsc_jax import losses
from avsc_jax.layers.sync import global_batch
from avsc_jax.runs.state import TrainState
from avsc_jax.runtime import compiler, compiling
from avsc_jax.training import accumulation
from avsc_jax.training.recipe import PLAIN, Recipe

AXIS = 'batch'
Batch = dict[str, jax.Array]


class OnDevices(NamedTuple):
    """A batch that lies on this process's devices, as `Steps.put` makes it.

    Attributes:
      arrays: each `[devices, B / devices, ...]`.
    """

    arrays: Batch


def model_inputs(model: nn.Module, batch: Batch) -> jax.Array | dict[str, jax.Array]:
    """Selects the arrays that the model's `input_spec` names; a backbone takes 'image'."""
    spec = model.input_spec
    return {name: batch[name] for name in spec} if isinstance(spec, dict) else batch['image']


class Steps:
    """Compiled steps of one model.

    Args:
      model: a network of `avsc_jax.models`.
      optimizer: an optax transformation.
      loss: (logits [B, C], labels [B], or [B, C] of independent classes) -> [B].
      devices: the devices to use; None: all, of every process.
      prepare: (keys [B], batch) -> batch with the model's inputs, run inside each step: it applies
        front end and augmentation to what the host read. Each example's key comes from the step and
        from its index in the global batch; in evaluation the keys are None.
      embed: (function, variables) of frozen networks; function(variables, batch) -> batch runs
        inside each training step, after `prepare`. The variables are not part of the state.
      mix: (key, inputs, targets [B, C], mask, axis_name=) -> (inputs, targets), run inside each
        training step; see `augment.mix.mixup`.
      recipe: how steps train besides; evaluation does not heed it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optax.GradientTransformation,
        loss: Callable[[jax.Array, jax.Array], jax.Array],
        devices: list | None = None,
        prepare: Callable | None = None,
        embed: tuple[Callable, Mapping] | None = None,
        mix: Callable | None = None,
        recipe: Recipe = PLAIN,
    ):
        self._model, self._optimizer, self.loss = model, optimizer, loss
        self._prepare, self._mix, self._recipe = prepare, mix, recipe
        self._devices, local = devices, devices or jax.local_devices()
        self._num_local = len(local)
        self._mesh = Mesh(np.asarray(local), (AXIS,))
        self.num_devices = self._num_local * jax.process_count()  # batches divide by it
        self.num_parts = self.num_devices * recipe.accumulate  # training batches divide by it
        # A single device has nothing to sum; with an axis, XLA would still copy every gradient.
        self._axis = AXIS if self.num_devices > 1 else None
        self._embed, frozen = embed or (None, {})
        self._frozen = self.place(frozen)
        self._train = self._pmap(self._train_step, (None, 0, None), (None, None), training=True)
        self._outputs = self._pmap(self._output_step, (None, 0), 0)
        self._train_rows = self._pmap(
            self._train_scan, (None, None, 0), (None, None), training=True
        )
        self._logits_rows = self._pmap(self._eval_scan, (None, None, 0), 0)

    def _pmap(self, step: Callable, in_axes, out_axes, *, training: bool = False) -> Callable:
        """Compiles a step with pmap; a training step donates its state."""
        donated = 0 if training else ()
        pmapped = jax.pmap(
            step,
            AXIS,
            in_axes=in_axes,
            out_axes=out_axes,
            devices=self._devices,
            donate_argnums=donated,
        )
        options = compiler.options(training=training)
        if options and self.num_devices == 1:
            # pmap takes no options, but jit takes a pmapped function; with several devices, only
            # pmap itself copies an array on one of them to all
            pmapped = jax.jit(pmapped, donate_argnums=donated, compiler_options=options)
        what = f'{type(self._model).__name__} for {"training" if training else "scoring"}'
        return compiling.told(pmapped, what) if jax.process_index() == 0 else pmapped

    def local(self, order: np.ndarray) -> np.ndarray:
        """Returns this process's part `[K, B / processes]` of a global order or mask `[K, B]`."""
        return np.split(order, jax.process_count(), axis=1)[jax.process_index()]

    def put(self, batch: Batch) -> Batch | OnDevices:
        """Starts to copy a batch `[B, ...]` to the devices, so that a later step need not wait.

        With several processes the batch stays on the host until its step.
        """
        if jax.process_count() > 1:
            return batch
        arrays = self._shard(batch, axis=0)
        return OnDevices(jax.device_put(arrays, NamedSharding(self._mesh, PartitionSpec(AXIS))))

    def train(self, state: TrainState, batch: Batch | OnDevices) -> tuple[TrainState, jax.Array]:
        """Trains one step on a batch `[B, ...]` with `mask [B]`; returns (state, loss)."""
        return self._train(state, self._of_devices(batch), self._frozen)

    def train_rows(
        self, state: TrainState, rows: Batch, order: np.ndarray, mask: np.ndarray
    ) -> tuple[TrainState, jax.Array]:
        """Trains a step per line of `order [K, B]` (indices into `rows`); returns losses `[K]`."""
        steps = {'index': order, 'mask': mask}
        return self._train_rows(state, rows, self._shard(steps, axis=1))

    def logits(self, variables: dict, batch: Batch | OnDevices) -> np.ndarray:
        """Returns the logits `[B, C]` of a batch, padding included, from all processes."""
        logits = _gather(self._outputs(variables, self._of_devices(batch))[0])
        return logits.reshape(-1, logits.shape[-1])

    def logits_rows(self, variables: dict, rows: Batch, order: np.ndarray) -> np.ndarray:
        """Returns logits `[K, B, C]` for the lines of `order [K, B]`, from all processes."""
        steps = self._shard({'index': order}, axis=1)
        logits = _gather(self._logits_rows(variables, rows, steps))  # [devices, K, B / devices, C]
        logits = np.moveaxis(logits, 0, 1)
        return logits.reshape(*logits.shape[:1], -1, logits.shape[-1])

    def embeddings(self, variables: dict, batch: Batch | OnDevices) -> np.ndarray:
        """Returns `out['embedding']` `[B, D]` of a batch, padding included, from all processes."""
        embeddings = _gather(self._outputs(variables, self._of_devices(batch))[1])
        return embeddings.reshape(-1, embeddings.shape[-1])

    def place(self, tree):
        """Copies a state or rows to every device once, instead of at each call."""
        return jax.device_put(tree, NamedSharding(self._mesh, PartitionSpec()))

    def _train_step(
        self, state: TrainState, batch: Batch, frozen: Mapping
    ) -> tuple[TrainState, jax.Array]:
        key = jax.random.fold_in(state.key, state.step)
        place = jnp.arange(len(batch['mask']))  # in the global batch
        if self._axis is not None:
            place += jax.lax.axis_index(self._axis) * len(place)
        batch = self._prepared(key, batch | {'place': place}, frozen)
        count = self._total(self._shares(batch).sum())
        count = jnp.where(count > 0, count, 1)

        def local_loss(params, batch_stats, rows):
            variables = {'params': self._recipe.trained(params), 'batch_stats': batch_stats}
            with global_batch(
                rows['mask'], self._axis, place=rows['place'], **self._recipe.of_layers
            ):
                (logits, _), updates = self._model.apply(
                    variables,
                    model_inputs(self._model, rows),
                    train=True,
                    mutable=['batch_stats'],
                    rngs={'dropout': key},
                )
            each = jnp.where(rows['mask'], self._losses(logits, rows), 0.0)
            return each.sum() / count, updates.get('batch_stats', {})

        gradient = jax.value_and_grad(local_loss, has_aux=True)
        (loss, batch_stats), grads = accumulation.gradient_of_parts(
            gradient, state.params, state.batch_stats, batch, self._recipe.accumulate
        )
        loss, grads = self._total((loss, grads))
        updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
        return state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        ), loss

    def _total(self, tree):
        return tree if self._axis is None else jax.lax.psum(tree, self._axis)

    def _prepared(self, key: jax.Array, batch: Batch, frozen: Mapping) -> Batch:
        """Makes the model's inputs of a training batch: prepared, embedded and mixed."""
        if self._prepare is not None or self._embed is not None:
            made = partial(self._made, frozen, jax.random.fold_in(key, 1))
            batch = accumulation.by_parts(made, batch, self._recipe.accumulate)
        recipe = self._recipe
        if self._mix is None and recipe.class_weights is None and not recipe.label_smoothing:
            return batch
        labels = batch['label']
        classes = labels.shape[1] if labels.ndim > 1 else self._model.num_classes
        targets = losses.targets(labels, classes, smoothing=recipe.label_smoothing)
        if self._mix is not None:
            key, inputs = jax.random.fold_in(key, 2), model_inputs(self._model, batch)
            inputs, targets = self._mix(key, inputs, targets, batch['mask'], axis_name=self._axis)
            batch |= inputs if isinstance(inputs, dict) else {'image': inputs}
        return batch | {'target': targets}

    def _made(self, frozen: Mapping, key: jax.Array, batch: Batch) -> Batch:
        """Makes the inputs of some rows, each by the key of its place."""
        if self._prepare is not None:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch['place'])
            batch = self._prepare(keys, batch)
        return batch if self._embed is None else self._embed(frozen, batch)

    def _shares(self, batch: Batch) -> jax.Array:
        """Returns how much each row counts in the mean of losses `[B]`, as PyTorch has it.

        With class weights that is the weight of its class, but 1 if it is mixed or has several.
        """
        weights, mask = self._recipe.class_weights, batch['mask']
        if weights is None or self._mix is not None or batch['label'].ndim > 1:
            return mask
        return jnp.where(mask, jnp.asarray(weights)[batch['label']], 0.0)

    def _losses(self, logits: jax.Array, batch: Batch) -> jax.Array:
        """Returns losses `[B]`; targets and class weights weight the losses of the classes."""
        if 'target' not in batch:
            return self.loss(logits, batch['label'])
        targets, weights = batch['target'], self._recipe.class_weights
        is_independent = batch['label'].ndim > 1
        return losses.of_targets(
            self.loss, logits, targets, weights=weights, is_independent=is_independent
        )

    def _output_step(self, variables: dict, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Returns the logits and the embeddings of a batch: one program for both."""
        if self._prepare is not None:
            batch = self._prepare(None, batch)
        logits, out = self._model.apply(variables, model_inputs(self._model, batch))
        return logits.astype(jnp.float32), out['embedding'].astype(jnp.float32)

    def _eval_step(self, variables: dict, batch: Batch) -> jax.Array:
        return self._output_step(variables, batch)[0]

    def _train_scan(self, state, rows, steps):
        def one(state, step):
            return self._train_step(state, _take(rows, step['index']) | {'mask': step['mask']}, {})

        # two steps in one: the update of one overlaps the next one's forward pass, 10 % on CPU
        return jax.lax.scan(one, state, steps, unroll=2)

    def _eval_scan(self, variables, rows, steps):
        return jax.lax.map(lambda s: self._eval_step(variables, _take(rows, s['index'])), steps)

    def _of_devices(self, batch: Batch | OnDevices) -> Batch:
        return batch.arrays if isinstance(batch, OnDevices) else self._shard(batch, axis=0)

    def _shard(self, arrays: Batch, *, axis: int) -> Batch:
        """Splits `axis` over this process's devices and brings theirs to the front."""

        def split(x):
            x = x.reshape(*x.shape[:axis], self._num_local, -1, *x.shape[axis + 1 :])
            return x.swapaxes(0, axis)

        return jax.tree.map(split, arrays)


def _gather(logits: jax.Array) -> np.ndarray:
    """Gathers the logits of all devices of all processes, in their order."""
    return multihost_utils.process_allgather(logits, tiled=True)


def _take(rows: Batch, index: jax.Array) -> Batch:
    # the host made the indices, so none is checked again
    return jax.tree.map(lambda x: x.at[index].get(mode='promise_in_bounds'), rows)
