"""Trainings on clips of several labels: checks of the config, and a threshold for each label."""

from ml_collections import ConfigDict

from avsc_jax import losses
from avsc_jax.data import label_kinds, records
from avsc_jax.data.batches import Rows
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.tables import thresholds
from avsc_jax.training import loop
from avsc_jax.training.steps import Steps


def check(config: ConfigDict) -> None:
    """Raises ValueError if loss or network are not for the kind of labels of the data."""
    kind, name = label_kinds.kind_of(config.data), config.loss.name
    if (name in losses.INDEPENDENT) != (kind == 'independent'):
        allowed = [
            each
            for each in losses.LOSSES
            if (each in losses.INDEPENDENT) == (kind == 'independent')
        ]
        raise ValueError(
            f'config.loss.name is {name!r}, and config.data.labels is '
            f'{config.data.get("labels", "one")!r}, which takes {" or ".join(allowed)}; '
            f'configs/own_data.py sets both by the token {label_kinds.TOKEN}'
        )
    if kind == 'independent' and config.model.get('of_probabilities'):
        raise ValueError(
            'config.model.of_probabilities adds a softmax to each input, which is of exclusive '
            'classes; leave it out where clips have several labels'
        )


def check_none(config: ConfigDict, what: str) -> None:
    """Raises ValueError where clips have several labels, which `what` cannot have."""
    if label_kinds.kind_of(config.data) == 'independent':
        raise ValueError(
            f'config.data.labels is {config.data.labels!r}, and {what}, takes one class a clip; '
            f'choose a trained system, or leave out the token {label_kinds.TOKEN}'
        )


def check_data(config: ConfigDict, dataset: records.Dataset) -> None:
    """Raises ValueError if the records have another kind of labels than the config says."""
    wanted = label_kinds.kind_of(config.data)
    if dataset.kind != wanted:
        known = next(name for name, kind in label_kinds.KINDS.items() if kind == dataset.kind)
        raise ValueError(
            f'{dataset.name} has {known} label{"s" * (known != "one")} a clip, and '
            f'config.data.labels says {config.data.get("labels", "one")!r}; set it to {known!r}, '
            'or name other data'
        )


def fit_thresholds(
    config: ConfigDict, folder: RunFolder, steps: Steps, variables: dict, valid: Rows | None
) -> None:
    """Fits the threshold of each label on the validation clips, and keeps them with the run.

    Without a validation split they are 0.5.
    """
    classes = folder.read_json('classes.json')
    if valid is None:
        folder.write_json(thresholds.FILE, thresholds.default(classes))
        return
    probs = loop.predict(steps, variables, valid, batch_size=config.batch_size)
    pooled, labels = loop.pooled_clips(valid, probs)
    fitted = thresholds.fit(
        pooled,
        labels,
        classes,
        beta=float(config.get('threshold_beta', 1.0)),
        fitted_on=config.data.valid,
    )
    folder.write_json(thresholds.FILE, fitted)
