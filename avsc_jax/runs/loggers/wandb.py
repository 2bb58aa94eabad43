"""Weights & Biases: a run of the project WANDB_PROJECT, or avsc_jax.

Its own variables decide the rest: WANDB_MODE=offline keeps all on this machine, in `wandb/` of the
run folder, for `wandb sync`.
"""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from avsc_jax.runs.loggers.background import PATIENCE_S, Opened

PROJECT = 'avsc_jax'


class Service:
    """Sends to W&B what the config and the scores are; nothing about the machine or the code."""

    def __init__(self, group: str | None):
        self._group = group
        self._run: Any = None

    def open(self, folder: Path, config: Mapping, id_: str | None) -> Opened:
        self._run = wandb.init(
            project=os.environ.get('WANDB_PROJECT', PROJECT),
            id=id_ or uuid.uuid4().hex[:12],
            name=folder.name,
            group=self._group,
            config=dict(config),
            dir=str(folder),
            resume='allow',
            reinit='create_new',
            settings=wandb.Settings(
                silent=True,
                console='off',
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
                finish_timeout=PATIENCE_S,
                finish_timeout_raises=False,
            ),
        )
        return Opened(self._run.id, self._run.step - 1)  # its step is that of the next line

    def log(self, scores: Mapping[str, float], step: int) -> None:
        self._run.log(dict(scores), step=step, commit=True)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def check() -> None:
    """Raises ValueError if W&B would ask for a key; asks nobody, and sends nothing."""
    mode = wandb.setup().settings.mode
    if mode not in ('offline', 'disabled') and not wandb.login(prompt=False, verify=False):
        raise ValueError(
            '--loggers=wandb: W&B knows no account on this machine; run `wandb login`, or set '
            'WANDB_MODE=offline to keep the history in the run folder'
        )
