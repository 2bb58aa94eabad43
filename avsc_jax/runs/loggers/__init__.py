"""Loggers of a training: TensorBoard always, Weights & Biases and MLflow if they are named."""

import functools
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from avsc_jax.runs.loggers.background import Background
from avsc_jax.runtime import nearest

SERVICES = {'wandb': 'Weights & Biases', 'mlflow': 'MLflow'}  # name, module and extra -> title


class Logger(Protocol):
    """Follows the history of a run; the same logger may follow several runs, one after another."""

    def begin(self, folder: Path, config: Mapping) -> None:
        """Begins a run, or goes on with the one that was begun for this folder."""

    def resume(self, lines: Sequence[dict]) -> None:
        """Takes the history of the checkpoint from which the run goes on."""

    def log(self, line: dict) -> None:
        """Takes the line of an epoch."""

    def end(self, *, failed: bool) -> None:
        """Ends the run; `failed`: before its last epoch."""


def chosen(names: Sequence[str], group: str | None = None) -> list[Background]:
    """Makes the loggers of these names, once their packages and accounts are known to be there.

    Args:
      names: some of SERVICES.
      group: what runs of one sweep, or of several seeds, have in common.

    Raises:
      ValueError: a name is unknown, a package is not installed, or W&B knows no account.
    """
    loggers = []
    for name in dict.fromkeys(names):
        nearest.check('--loggers', name, SERVICES)
        try:
            module = importlib.import_module(f'avsc_jax.runs.loggers.{name}')
        except ImportError as error:
            raise ValueError(
                f"--loggers={name} needs {error.name}: pip install 'avsc_jax[{name}]'"
            ) from error
        module.check()
        loggers.append(Background(name, functools.partial(module.Service, group)))
    return loggers
