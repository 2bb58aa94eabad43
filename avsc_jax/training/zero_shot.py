"""Zero-shot systems, whose head is made of the classes' texts; nothing is trained."""

from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from avsc_jax import losses, models, weights
from avsc_jax.data.batches import Rows
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.models import build, clip_tokens, clip_zero_shot
from avsc_jax.runs import run_folder
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.state import TrainState
from avsc_jax.training import loop
from avsc_jax.training.steps import Steps


def write_text_head(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    model: nn.Module,
    spec: EncoderSpec,
    classes: Sequence[str],
    weights_dir: Path,
) -> None:
    """Writes the checkpoint of a zero-shot network, with its head from a text tower, if missing."""
    checkpoints = Checkpoints(folder.path / 'checkpoints')
    if checkpoints.last_step() is not None:
        return
    token_ids = clip_tokens.token_ids(clip_tokens.prompts(classes, config.prompt_style))
    tower = models.create_model(spec.name, **spec.options)
    variables = weights.load(tower, spec.name, spec.weights, weights_dir)
    embedding, _ = jax.jit(tower.apply)(variables, token_ids)
    state = TrainState.create(model, optax.identity(), seed=config.seed)
    head = clip_zero_shot.text_head(embedding)['params']
    checkpoints.save(state.replace(params=head), [], is_best=True)


def classify(
    config: ConfigDict, folder: run_folder.RunFolder, model: nn.Module, test: Rows
) -> tuple[np.ndarray, int, list[dict]]:
    """Returns test probabilities `[N, C]`, step and (empty) history, like `train.train`."""
    checkpoints = Checkpoints(folder.path / 'checkpoints')
    variables, step = checkpoints.restore_best(build.checkpoint_shapes(model))
    steps = Steps(model, optax.identity(), losses.cross_entropy)
    return loop.predict(steps, variables, test, batch_size=config.batch_size), step, []
