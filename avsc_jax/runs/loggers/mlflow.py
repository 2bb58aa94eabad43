"""MLflow: a run of the experiment MLFLOW_EXPERIMENT_NAME, or avsc_jax.

MLFLOW_TRACKING_URI names the server or the database; without it, it is MLflow's own `mlflow.db` in
the working directory.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy  # noqa: F401 - the database is opened with it, and mlflow-skinny comes without
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from avsc_jax.runs.loggers.background import Opened

EXPERIMENT = 'avsc_jax'
MOST_PARAMS = 100  # in one call
MOST_LETTERS = 6000  # of a value
ALWAYS_THERE = 'train_loss'  # in each line


class Service:
    """Logs the config as parameters, and each epoch's scores as metrics by step."""

    def __init__(self, group: str | None):
        self._group = group
        self._client: Any = None
        self._id = ''

    def open(self, folder: Path, config: Mapping, id_: str | None) -> Opened:
        self._client = mlflow.MlflowClient()  # in the thread that uses it
        if id_ and self._is_there(id_):
            self._id = id_
            self._client.update_run(id_, 'RUNNING')
            values = self._client.get_metric_history(id_, ALWAYS_THERE)
            return Opened(id_, max((value.step for value in values), default=-1))
        tags = {'mlflow.runName': folder.name} | ({'group': self._group} if self._group else {})
        self._id = self._client.create_run(self._experiment(), tags=tags).info.run_id
        params = [Param(name, repr(value)[:MOST_LETTERS]) for name, value in flat(config)]
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + MOST_PARAMS])
        return Opened(self._id, -1)

    def log(self, scores: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in scores.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self._id, 'KILLED' if failed else 'FINISHED')

    def _is_there(self, id_: str) -> bool:
        """Whether the store has this run: another one may have been named since."""
        try:
            return bool(self._client.get_run(id_))
        except MlflowException:
            return False

    def _experiment(self) -> str:
        name = os.environ.get('MLFLOW_EXPERIMENT_NAME', EXPERIMENT)
        known = self._client.get_experiment_by_name(name)
        return known.experiment_id if known else self._client.create_experiment(name)


def check() -> None:
    """Makes MLflow and its parts print errors only, such as not how it makes a database."""
    for name in ('mlflow', 'mlflow.store.db.utils', 'alembic', 'urllib3.connectionpool'):
        logging.getLogger(name).setLevel(logging.ERROR)


def flat(section: Mapping, place: str = '') -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and the value of each field of nested sections."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from flat(value, f'{place}{name}.')
        else:
            yield f'{place}{name}', value
