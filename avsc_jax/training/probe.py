"""Probes: logistic regression on the mean features of frozen encoders, fitted by scikit-learn.

The fit becomes the parameters of a network of `models/probe.py`, so that a finished probe is a run
like any other. It is the one kind of training without pmapped steps: a convex fit of seconds.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import flax.linen as nn
import numpy as np
import optax
from ml_collections import ConfigDict

from avsc_jax import ensemble
from avsc_jax.data import folds, label_kinds, records
from avsc_jax.data.batches import Rows
from avsc_jax.data.sources import media_files
from avsc_jax.input_pipeline import examples
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.input_pipeline.kept_features import Features
from avsc_jax.models import probe
from avsc_jax.runs import familiarity, run_folder
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.state import TrainState
from avsc_jax.runtime import multihost
from avsc_jax.tables import thresholds
from avsc_jax.training import logistic, zero_shot
from avsc_jax.types import Kind

FILE = 'probe.json'  # in the run folder: what cross-validation gave


def check(config: ConfigDict) -> None:
    """Raises ValueError for a grid or a number of folds that cannot be."""
    grid, folds_ = config.grid, config.cross_validation
    if not grid or not all(isinstance(c, int | float) and c > 0 for c in grid):
        raise ValueError(f'config.grid is {list(grid)}; it must be numbers above 0, such as 0.01')
    if folds_ < 2:
        raise ValueError(f'config.cross_validation is {folds_}; it must be 2 or more')


def check_clips(config: ConfigDict, dataset: records.Dataset) -> int:
    """Returns the number of folds by which C is chosen; decodes nothing.

    Raises:
      ValueError: a class has too few groups to choose C by.
    """
    listed = dataset.outlines(config.data.train)
    ids, labels = ([outline[key] for outline in listed] for key in ('clip_id', 'label'))
    stacked = label_kinds.stacked(labels, len(dataset.classes), dataset.kind)
    return len(_cut(config, dataset, stacked, ids))


def run(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    model: nn.Module,
    dataset: records.Dataset,
    specs: Sequence[EncoderSpec],
    *,
    data_dir: Path,
    weights_dir: Path,
    media_dir: Path | None = None,
    fresh: bool = False,
) -> tuple[np.ndarray | None, int, list[dict], Rows | None]:
    """Fits the probe; returns test probabilities `[N, C]`, step, (empty) history and test rows.

    Probabilities and rows are None for a run that trains on all clips. See `train.fitted`.
    """
    check_clips(config, dataset)  # before anything is decoded
    names = [*dict.fromkeys(config.data[part] for part in ('train', 'test') if part in config.data)]
    encoded = examples.extract(
        config,
        dataset,
        names,
        specs,
        cache_dir=data_dir / 'features',
        weights_dir=weights_dir,
        media=media_files(dataset, data_dir, media_dir),
        fresh=fresh,
    )
    features = {name: _readable(dataset, of_split) for name, of_split in encoded.items()}
    train = features[config.data.train]
    means = {f'features/{name}': _mean(train, name) for name in train.arrays}
    folder.means(lambda: means)
    inputs = {name: _inputs(of_split, means) for name, of_split in features.items()}
    checkpoints = Checkpoints(folder.path / 'checkpoints')
    if checkpoints.last_step() is None:
        cut = _cut(config, dataset, train.label, train.clip_id)
        x = np.concatenate([*inputs[config.data.train].values()], axis=1)
        fit = logistic.fit(x, train.label, cut, config.grid)
        _told(folder, fit, config.cross_validation, dataset.kind)
        if dataset.kind == 'independent':
            probs = ensemble.probabilities(fit.logits, dataset.kind)
            beta, folds_ = float(config.get('threshold_beta', 1.0)), fit.num_folds
            where = f'{folds_} folds of {config.data.train}'
            limits = thresholds.fit(probs, train.label, dataset.classes, beta=beta, fitted_on=where)
            folder.write_json(thresholds.FILE, limits)
        most = probe.MOST_DEVIATIONS
        embedding = np.clip((x - fit.mean) / fit.deviation, -most, most)  # as the network gives it
        folder.write_familiarity(familiarity.fit(embedding.astype(np.float32), train.label))
        state = TrainState.create(model, optax.identity(), seed=config.seed)
        made = probe.fitted(fit.mean, fit.deviation, fit.kernel, fit.bias, fit.temperature)
        checkpoints.save(state.replace(params=made['params']), [], is_best=True)
    if 'test' not in config.data:
        return None, 0, [], None
    test = features[config.data.test]
    counts = np.ones(len(test.clip_id), int)
    rows = examples.feature_rows(test, inputs[config.data.test], counts)
    return *zero_shot.classify(config, folder, model, rows), rows


def _cut(
    config: ConfigDict, dataset: records.Dataset, labels: np.ndarray, clip_ids: Sequence[str]
) -> list[logistic.Fold]:
    """Cuts training clips into folds by their places or groups; a clip without is its own.

    Raises:
      ValueError: a class has no clips, or those of one group alone.
    """
    known = folds.locations(dataset, config.data.train, clip_ids).tolist()
    groups = np.array([of or clip_id for of, clip_id in zip(known, clip_ids, strict=True)])
    is_of = labels == np.arange(len(dataset.classes))[:, None] if labels.ndim == 1 else labels.T > 0
    few = [len({*groups[of]}) for of in is_of]
    count, scene = min(zip(few, dataset.classes, strict=True))
    if not count and dataset.kind == 'exclusive':  # of several labels one may be true of no clip
        raise ValueError(
            f'no clip of the class {scene!r} can be trained on; give it files that can be read'
        )
    if not (cut := logistic.cut(labels, groups, config.cross_validation)):
        raise ValueError(
            f'the class {scene!r} has {count} groups to train on, or shares them with other '
            'classes, and C is chosen by cross-validation; give each class files of two groups or '
            'more (a file is a group of its own where none is named)'
        )
    return cut


def _told(folder: run_folder.RunFolder, fit: logistic.Fit, wanted: int, kind: Kind) -> None:
    """Prints what cross-validation gave, and keeps it in the run folder."""
    facts = {
        'C': fit.c,
        'folds': fit.num_folds,
        'temperature': fit.temperature,
        'log_loss': fit.log_loss,
        'accuracy': fit.accuracy,
        'log_loss_by_C': {str(c): loss for c, loss in fit.losses.items()},
    }
    folder.write_json(FILE, facts)
    if not multihost.is_first():
        return
    if fit.num_folds < wanted:
        print(
            f'note: C is chosen by {fit.num_folds} folds, not {wanted}: a class has no more groups',
            file=sys.stderr,
        )
    print(
        f'cross-validation, {fit.num_folds} folds of the training clips: log loss '
        f'{fit.log_loss:.3f}, accuracy {100 * fit.accuracy:.1f} % with C = {fit.c:g} and '
        f'temperature {fit.temperature:.3f}' + ', of each label' * (kind == 'independent'),
        file=sys.stderr,
    )


def _readable(dataset: records.Dataset, features: Features) -> Features:
    """Leaves out clips without any features, whose files cannot be read."""
    has = np.any([features.num_rows(name) > 0 for name in features.arrays], axis=0)
    left_out = [clip for clip, there in zip(features.clip_id, has, strict=True) if not there]
    dataset.left_out.extend(left_out)
    return features.kept(has)


def _mean(features: Features, name: str) -> np.ndarray:
    """Returns the mean features `[D]` of the clips that have some, float32."""
    pooled = _pooled(features, name)
    has = ~np.isnan(pooled[:, 0])
    if not has.any():
        raise ValueError(
            f'no training clip gives features of {name}; leave it out of the encoders, or give '
            'clips that have what it takes'
        )
    return pooled[has].mean(axis=0, dtype=np.float64).astype(np.float32)


def _inputs(features: Features, means: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the network's inputs `[N, D]`; the mean stands where a clip has no features."""
    inputs = {}
    for name, mean in means.items():
        pooled = _pooled(features, name.removeprefix('features/'))
        missing = np.isnan(pooled[:, 0])
        inputs[name] = np.where(missing[:, None], mean[None], pooled)
        if missing.any():
            print(
                f'note: {missing.sum():,} of {len(missing):,} clips give no {name}, and the mean '
                'of the others stands for it',
                file=sys.stderr,
            )
    return inputs


def _pooled(features: Features, name: str) -> np.ndarray:
    """Returns the mean of each clip's features of an encoder `[N, D]`; NaN of a clip with none."""
    array, counts = features.arrays[name], features.num_rows(name)
    own = np.arange(array.shape[1])[None] < counts[:, None]
    total = np.where(own[..., None], array, 0).sum(axis=1, dtype=np.float64)
    with np.errstate(invalid='ignore'):
        return (total / counts[:, None]).astype(np.float32)
