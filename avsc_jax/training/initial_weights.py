"""The weights that a run takes: those of frozen encoders, and those that training begins with."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from avsc_jax import weights
from avsc_jax.input_pipeline import encoders, sound
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.models import openl3_baseline
from avsc_jax.runs import run_folder, summary
from avsc_jax.runs.state import TrainState
from avsc_jax.training import dependencies


def encoder_specs(config: ConfigDict, named: ConfigDict, weights_dir: Path) -> list[EncoderSpec]:
    """Returns encoders with the origin of their weights: a file's SHA-256, or random:0.

    Args:
      named: encoder -> its options, a section of the config.
    """
    return [
        EncoderSpec(
            name,
            options.to_dict(),
            _origin(config, name, options, weights_dir),
        )
        for name, options in named.items()
    ]


def _origin(config: ConfigDict, name: str, options: ConfigDict, weights_dir: Path) -> str:
    """Returns the origin of an encoder's weights."""
    if name in sound.FRONT_ENDS:
        return encoders.NO_WEIGHTS
    if config.weights == 'random':
        return 'random:0'
    return _identified(name, weights_dir, options=[*options])


def published(config: ConfigDict) -> list[str]:
    """Lists the networks whose published weights a config takes."""
    return [
        *(name for name in config.get('encoders', ()) if name not in sound.FRONT_ENDS),
        *config.get('text_encoder', ()),
        *([config.pretrained] if summary.begins_published(config) else ()),
    ]


def origins(config: ConfigDict, specs: list[EncoderSpec], weights_dir: Path) -> dict[str, str]:
    """Returns network -> origin of its weights, for encoders and for what training begins with."""
    used = {spec.name: spec.weights for spec in specs if spec.weights != encoders.NO_WEIGHTS}
    if not summary.begins_published(config):
        return used
    if config.weights == 'random':
        return used | {config.model.name: f'random:{config.seed}'}
    return used | {config.pretrained: _identified(config.pretrained, weights_dir)}


def _identified(name: str, folder: Path, **options: Sequence[str]) -> str:
    """Returns `weights.identify`; of missing weights, the error says how to train without."""
    try:
        return weights.identify(name, folder, **options)
    except weights.MissingWeights as error:
        raise weights.MissingWeights(f'{error}, or train with --weights=random') from error


def started(
    config: ConfigDict,
    model: nn.Module,
    used: Mapping[str, str],
    weights_dir: Path,
    parts: Sequence[dependencies.Member],
    state: TrainState,
) -> TrainState:
    """Returns the state that training begins with: published variables, or trained members'.

    Args:
      used: network -> origin of its weights; see `origins`.
      parts: the runs that this one is made of, or begins with.
      state: the freshly drawn state.
    """
    if stage := config.get('begins_with'):
        (part,) = (part for part in parts if part.name == stage)
        return with_network(state, part.folder)
    if stems := {
        part.name: run_folder.best_variables(part.folder)[1]
        for part in parts
        if not dependencies.is_encoder(config, part)
    }:
        return state.replace(**openl3_baseline.with_stems(state.variables, stems))
    if 'pretrained' not in config or config.weights == 'random':
        return state
    name = config.pretrained
    load = partial(weights.load, name=name, origin=used[name], folder=weights_dir, head='drop')
    if 'pretrained_part' not in config:
        return state.replace(**load(model, key=config.seed))
    loaded = load(model.part(config.pretrained_part))
    return state.replace(
        **{
            kind: {**variables, config.pretrained_part: loaded[kind]}
            for kind, variables in state.variables.items()
        }
    )


def with_network(state: TrainState, folder: run_folder.RunFolder) -> TrainState:
    """Returns the state with a finished run's network; the head stays freshly drawn."""
    _, trained = run_folder.best_variables(folder)
    taken = {
        'params': {**trained['params'], 'head': state.params['head']},
        'batch_stats': trained['batch_stats'],
    }
    shapes = [jax.tree.map(np.shape, variables) for variables in (taken, state.variables)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f'{folder.path} holds another network than config.model names; train it again with '
            'the same model options'
        )
    return state.replace(**taken)
