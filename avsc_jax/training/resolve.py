"""Settles what a config leaves open: which clips are read, with which weights, in which folds."""

import ast
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from avsc_jax.data import sources
from avsc_jax.runtime import cli
from avsc_jax.training import config as fields
from avsc_jax.training import dependencies, encoder_sizes


def resolve(
    config: ConfigDict,
    data_dir: Path,
    *,
    named: bool,
    weights: str = 'auto',
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    fold: int | None = None,
    fold_file: str | None = None,
    download_weights: bool = False,
) -> ConfigDict:
    """Decides which clips are read, such as TAU or the demo, and what that changes.

    Args:
      config: as its file gives it; it is changed and then locked.
      data_dir: where prepared data sets lie.
      named: the user named `data_dir`, so that the demo is never chosen in place of TAU.
      weights: 'pretrained', 'random', or 'auto': random on the demo, else pretrained.
      overrides: the values of fields that flags have set, which win over the section `demo`.
      seed: replaces the config's.
      fold: the one of the five folds to report on; None: the official split.
      fold_file: the file of the folds; None: they are computed.
      download_weights: published weights will be fetched.

    Raises:
      UsageError: published weights are asked for, and there are only made-up clips to use them on,
        which were not asked for.
    """
    source = sources.find(config.data.name)
    if source.has_demo and (download_weights or weights == 'pretrained'):
        _check_prepared(config, source, data_dir, named=named)
    with config.unlocked():
        source.choose(config, data_dir, named=named)
        _settle_weights(config, weights)
        config.update_from_flattened_dict(dict(overrides or {}))
        config.lock().unlock()  # sections that flags have set are locked; unlock alone skips them
        if seed is not None:
            config.seed = seed
        if config.get('begins_with') and not dependencies.has_stage(config, data_dir):
            config.begins_with = ''
        source.settle(config)
        if 'model' in config and config.model.get('name') in encoder_sizes.NETWORKS:
            encoder_sizes.settle(config)
        for name, value in (('fold', fold), ('fold_file', fold_file)):
            if value is not None:
                config.data[name] = value
    return config.lock()


def adds(config: ConfigDict, override: str) -> bool:
    """Whether a flag sets a field of the steps of training that the config does not set.

    Args:
      override: as on the command line, such as --config.ema=0.999.
    """
    name = override.lstrip('-').partition('=')[0].removeprefix('config.')
    return name in fields.OF_STEPS and name not in config


def add(config: ConfigDict, override: str) -> None:
    """Sets the field of a flag in a config that does not set it, or only for the demo."""
    path, _, word = override.lstrip('-').partition('=')
    name, value = path.removeprefix('config.'), word
    if not word:
        raise ValueError(f'--{path} has no value; give --{path}=VALUE')
    with contextlib.suppress(ValueError, SyntaxError):  # the check of fields knows words
        value = ast.literal_eval(word)
    for section in (config, config.get('demo') or ConfigDict()):
        if section is config or name in section:
            with section.unlocked():
                section[name] = value


def _check_prepared(
    config: ConfigDict, source: sources.DataSource, data_dir: Path, *, named: bool
) -> None:
    """Raises UsageError for published weights where neither TAU nor the demo is asked for."""
    data = config.data
    reads_tables = config.kind == 'ensemble' and named  # these may be there without the data
    if data.source != 'auto' or reads_tables or source.is_prepared(data, data_dir):
        return
    raise cli.UsageError(
        f'published weights are asked for, but TAU is not prepared in {data_dir}: prepare it '
        f'({source.command(data, data_dir)}), or try them on the made-up clips of the demo '
        '(--config=FILE.py:demo), or tag your own clips without training (avsc-predict --zero_shot)'
    )


def _settle_weights(config: ConfigDict, weights: str) -> None:
    """Sets `config.weights`, and on the demo the small networks of its section unless pretrained.

    Raises:
      ValueError: the demo was chosen, and the config has no section for it.
    """
    is_demo = config.data.source == 'demo'
    if is_demo and weights != 'pretrained':
        if 'demo' not in config:
            raise ValueError(
                'the config has no section demo, which makes its networks small for made-up clips; '
                'add one, or name prepared data by --data_dir'
            )
        config.update(config.demo)
    if weights == 'auto':
        weights = 'random' if is_demo else 'pretrained'
    config.weights = weights
    if 'demo' in config:
        del config.demo
