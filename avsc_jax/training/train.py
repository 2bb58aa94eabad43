"""The job of a config, from data through features, training and predictions to the report."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from avsc_jax import losses, report, tables, weights
from avsc_jax.data import folds, label_kinds, records, sources, stored_pictures
from avsc_jax.data.batches import Rows, num_batches
from avsc_jax.input_pipeline import examples, media_inputs
from avsc_jax.input_pipeline.encoders import EncoderSpec, FrozenSpec
from avsc_jax.models import build, clip_tokens
from avsc_jax.runs import familiarity, run_folder, summary
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.history import History
from avsc_jax.runs.loggers import Logger
from avsc_jax.runs.state import TrainState
from avsc_jax.runtime import compiling, multihost
from avsc_jax.scenes import SCENES
from avsc_jax.training import config as fields
from avsc_jax.training import (
    dependencies,
    ensemble,
    initial_weights,
    loop,
    optimizer,
    probe,
    recipe,
    several,
    window_check,
    zero_shot,
)
from avsc_jax.training import dry_run as plan
from avsc_jax.training.steps import Steps


@dataclasses.dataclass
class Job:
    """A config with everything about its run that is known before data is read.

    Attributes:
      stored: the config as the run folder keeps it, without the defaults of absent fields.
      folder: the run folder.
      folders: flag -> folder of data, weights and media.
      parts: the earlier runs that it is made of, or begins with.
      specs, texts: frozen encoders of clips, and of the texts of classes.
      used: network -> origin of its weights.
      loggers: what follows the history of its training.
    """

    config: ConfigDict
    stored: Mapping[str, Any]
    folder: run_folder.RunFolder
    folders: dict[str, Path | None]
    parts: list[dependencies.Member]
    specs: list[FrozenSpec]
    texts: list[EncoderSpec]
    used: dict[str, str]
    loggers: Sequence[Logger] = ()

    @property
    def is_zero_shot(self) -> bool:
        """Whether the network's head is made of the classes' names."""
        return self.config.kind == 'zero_shot'

    @property
    def weights_dir(self) -> Path:
        """The folder of published weights."""
        return self.folders['weights_dir']


def run(
    config: ConfigDict,
    *,
    workdir: Path,
    data_dir: Path,
    weights_dir: Path,
    media_dir: Path | None = None,
    download_weights: bool = False,
    fresh: bool = False,
    dry_run: bool = False,
    loggers: Sequence[Logger] = (),
) -> None:
    """Runs a job of any kind; resumes a killed run from what it left in `workdir`.

    Args:
      media_dir: the folder of the original media files; see `examples.media_files`.
      fresh: whether to compute cached features anew.
      dry_run: whether to print only what would be done.
      loggers: what follows the history of a training, besides TensorBoard.
    """
    fields.check_kind(config)
    fields.check_complete(config)
    folder, stored = run_folder.RunFolder(workdir), config.to_dict()
    folder.check(stored)
    config = fields.filled(config)
    is_ensemble = config.kind == 'ensemble'  # always repeated: a member may be trained again
    if not (dry_run or is_ensemble):
        check_data(config, folder, data_dir)
    if folder.is_done and not (dry_run or is_ensemble):
        shown(folder)
        return
    folders = {'data_dir': data_dir, 'weights_dir': weights_dir, 'media_dir': media_dir}
    with contextlib.nullcontext() if dry_run else folder.alone():
        if is_ensemble:
            flags = dependencies.flags(folders, download_weights)
            ensemble.run(config, folder, folders, flags, stored=stored, dry_run=dry_run)
            return
        check(config)
        check_clips(config, data_dir)
        if download_weights and config.weights == 'pretrained':
            download(config, weights_dir)
        job = prepared(config, folder, folders, stored)
        job.loggers = loggers
        run_network(job, fresh=fresh, dry_run=dry_run)


def shown(folder: run_folder.RunFolder) -> None:
    """Prints the report of a finished run."""
    with run_folder.opening(folder.path):
        text = report.text(folder.read_json('report.json'))
    print(text)
    print(f'this run was complete; its report is {folder.path / "report.html"}')
    print('give another --workdir to run it again')


def check_data(config: ConfigDict, folder: run_folder.RunFolder, data_dir: Path) -> None:
    """Raises ValueError if the folder holds a run on other data than there is now.

    Data that is not there any more, or is built from files that are not, is no other data.
    """
    if folder.identities:
        now = sources.find(config.data.name).identities(config, data_dir)
        if now is not None:
            folder.check_data(now)


def check_clips(config: ConfigDict, data_dir: Path) -> None:
    """Raises for clips of one's own that cannot be trained on, before weights are asked for."""
    source = sources.find(config.data.name)
    source.check(config.data, data_dir)
    if config.kind == 'probe' and source.is_prepared(config.data, data_dir):
        probe.check_clips(config, source.open(config.data, data_dir))


def run_network(job: Job, *, fresh: bool = False, dry_run: bool) -> None:
    """Runs a job with a network: opens the data, trains and reports."""
    if dry_run:
        print(dry_run_of(job))
        return
    dataset, model = begun(job)
    probs, step, history, test = fitted(job, dataset, model, fresh=fresh)
    if multihost.is_first():  # writes for all processes
        reported(job, dataset, model, test, probs, step, history)


def check(config: ConfigDict) -> None:
    """Raises ValueError for wrong names and options in a config, before anything is computed."""
    kind = label_kinds.kind_of(config.data)
    if config.kind == 'train':
        losses.make_loss(config.loss)
        several.check(config)
        loop.selection(config.select, scored='test' in config.data, kind=kind)
        optimizer.make_optimizer(config, steps_per_epoch=1)
        if 'size' in config:
            augmentation = config.to_dict().get('augment')
            media_inputs.make(examples.preprocessing(config, ()), None, augmentation)
    elif config.kind == 'probe':
        probe.check(config)
    else:
        several.check_none(
            config, 'zero-shot classification, which compares a clip with the classes'
        )
        clip_tokens.prompts(SCENES, config.prompt_style)


def download(config: ConfigDict, weights_dir: Path) -> None:
    """Fetches the published weights that a config needs, in the first process only."""
    if multihost.is_first():
        weights.download_all(initial_weights.published(config), weights_dir)
    multihost.wait('weights')


def prepared(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    folders: dict[str, Path | None],
    stored: Mapping[str, Any],
) -> Job:
    """Finds the encoders, the origins of all weights, and the runs that come first."""
    weights_dir = folders['weights_dir']
    specs = initial_weights.encoder_specs(config, config.get('encoders', {}), weights_dir)
    texts = initial_weights.encoder_specs(config, config.get('text_encoder', {}), weights_dir)
    for spec in (*specs, *texts):
        spec.check()
    used = initial_weights.origins(config, [*specs, *texts], weights_dir)
    parts = dependencies.earlier_runs(config, config.seed)
    window_s = sources.find(config.data.name).window_s(config.data)
    window_check.check(config, [*specs, *dependencies.run_specs(config, parts)], window_s)
    return Job(config, stored, folder, folders, parts, specs, texts, used)


def dry_run_of(job: Job) -> str:
    """Describes what a run would do, and the commands that must run before it."""
    known = [*job.specs, *job.texts, *dependencies.run_specs(job.config, job.parts)]
    todo = dependencies.untrained(job.parts)
    flags = dependencies.flags(job.folders, download_weights=False)
    before = [f'before: {dependencies.line(command, flags)}' for command in todo]
    return '\n'.join([plan.text(job.config, known, job.folders['data_dir']), *before])


def begun(job: Job) -> tuple[records.Dataset, nn.Module]:
    """Opens the data, makes the network and, once both have worked, the run folder."""
    config, folder = job.config, job.folder
    if todo := dependencies.untrained(job.parts):
        flags = dependencies.flags(job.folders, download_weights=False)
        first = '\n'.join(dependencies.line(command, flags) for command in todo)
        raise FileNotFoundError(f'{len(todo)} runs must be trained before this one:\n{first}')
    dataset = prepare_data(config, job.folders['data_dir'])
    several.check_data(config, dataset)
    data = dataset.identities
    if not config.get('begins_with'):
        dependencies.check_data(job.parts, data)
    model = build.make_model(config.model.to_dict(), num_classes=len(dataset.classes))
    check_channels(config, model)
    if config.kind == 'train':
        recipe.check(config, model)
    window_s = sources.find(config.data.name).window_s(config.data, dataset)
    specs = [*job.specs, *dependencies.run_specs(config, job.parts)]
    window_check.check(config, specs, window_s)
    folder.begin(job.stored)
    runs = dependencies.kept_encoders(config, folder, job.parts)
    job.specs += runs
    job.used |= {part.name: f'run of config {part.folder.config_hash}' for part in job.parts}
    for spec in runs:
        job.used[spec.name] += f', {spec.weights}'
    folder.record_environment(data, job.used)
    folder.write_json('classes.json', dataset.classes)
    settings = examples.preprocessing(config, job.specs)
    settings['window_s'] = window_s
    if 'frames' in settings:
        settings['jpeg_quality'] = stored_pictures.measured_quality(dataset)
    folder.write_json('preprocessing.json', settings)
    if 'fold' in config.data and multihost.is_first():
        folds.write(folder.path / 'folds.tsv', dataset.clip_ids, dataset.folds)
    return dataset, model


def fitted(
    job: Job, dataset: records.Dataset, model: nn.Module, *, fresh: bool = False
) -> tuple[np.ndarray | None, int, list[dict], Rows | None]:
    """Trains or fits the network, or makes its text head.

    Returns probabilities, step, history and rows.

    Rows and probabilities are those of the test split; both are None for a final run.
    """
    config, folder = job.config, job.folder
    if config.kind == 'probe':
        given = job.folders
        return probe.run(config, folder, model, dataset, job.specs, **given, fresh=fresh)
    if job.is_zero_shot:
        texts, classes = job.texts, dataset.classes
        zero_shot.write_text_head(config, folder, model, *texts, classes, job.weights_dir)
    loaded = examples.load(config, folder, dataset, job.specs, **job.folders, fresh=fresh)
    test = loaded.splits.get('test')
    if job.is_zero_shot:
        return *zero_shot.classify(config, folder, model, test), test
    start = partial(initial_weights.started, config, model, job.used, job.weights_dir, job.parts)
    loss = losses.make_loss(config.loss)
    with History(folder.path, job.loggers, job.stored) as history:
        return *train(config, folder, model, loss, loaded, start, history), test


def reported(
    job: Job,
    dataset: records.Dataset,
    model: nn.Module,
    test: Rows | None,
    probs: np.ndarray | None,
    step: int,
    history: list[dict],
) -> None:
    """Writes the tables and the report, and marks the run as complete."""
    config, folder = job.config, job.folder
    num_folds = folder.read_json(probe.FILE)['folds'] if config.kind == 'probe' else None
    about = summary.about(config, dataset, job.used, num_folds)
    if how := summary.training(config, history):
        about['training'] = how
    about['warnings'] += [line for part in job.parts for line in warnings_of(part)]
    meta = {
        'system': folder.path.name,
        'about': about,
        'classes': list(dataset.classes),
        'calibrated': False,
        'config_hash': run_folder.config_hash(job.stored),
        'step': step,
        'versions': run_folder.versions(),
    }
    if probs is None:
        title = folder.path.name
        result = report.trained(title=title, about=about, meta=meta, history=history)
    else:
        if (fitted := folder.thresholds) is not None:
            meta['thresholds'] = fitted
        group = folds.locations(dataset, config.data.test, test.clip_id)
        result = scored(config, folder, model, test, probs, meta, history, group)
    page = report.write(result, folder.path)
    folder.finish()
    print(report.text(result))
    print(f'report: {page}')


def check_channels(config: ConfigDict, model: nn.Module) -> None:
    """Raises ValueError if a network takes pictures of other channels than it gets."""
    if 'size' not in config:
        return
    reader = media_inputs.make(examples.preprocessing(config, ()))
    made = jax.eval_shape(partial(reader.prepare_batch, None), reader.batch_of_one)
    given, spec = made['image'].shape[-1], model.input_spec
    wanted = (spec['image'] if isinstance(spec, dict) else spec).shape[-1]
    if 'sound' in made and made['sound'].shape != spec['sound'].shape:
        heard, takes = ([*shape.shape[1:]] for shape in (made['sound'], spec['sound']))
        raise ValueError(
            f'{config.model.name} takes sound of {takes}, but the front end gives {heard}; set '
            f'config.model.sound_shape="{tuple(heard)}"'
        )
    if given != wanted:
        raise ValueError(
            f'{config.model.name} takes pictures of {wanted} channels, but the front end or '
            f'transform gives {given}; set config.model.in_chans={given}'
        )


def scored(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    model: nn.Module,
    test: Rows,
    probs: np.ndarray,
    meta: Mapping,
    history: list[dict],
    group: np.ndarray | None = None,
) -> dict:
    """Writes the tables of a run, and returns its report.

    Args:
      meta: facts about the run for the tables' headers.
      group: the location of each row, or another group that clips share.
    """
    items = 'clip' if (test.segment < 0).all() else config.data['items']
    of_rows = {'split': config.data.test, 'granularity': items, 'pooled': items == 'clip'}
    table = loop.predictions(test, probs, meta={**meta, **of_rows}, group=group)
    if 'frames_per_item' in config:
        table = tables.grouped(table, config.frames_per_item)
    tables.write(table, folder.predictions_file(config.data.test))
    also = tables.VIEWS[config.views](table) if 'views' in config else {}
    for name, view in also.items():
        tables.write(view, folder.predictions_file(f'{config.data.test}_{name}'))
    return report.make(
        table,
        title=meta['system'],
        about=meta['about'],
        paper=config.paper.to_dict(),
        history=history,
        also=also,
        learned=learned(model, folder, meta['classes']),
    )


def train(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    model: nn.Module,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    loaded: examples.Loaded,
    start: Callable[[TrainState], TrainState],
    history: History,
) -> tuple[np.ndarray | None, int, list[dict]]:
    """Trains; returns the best epoch's test probabilities `[N, C]`, its step, and the history.

    Args:
      start: replaces freshly drawn variables by published or trained ones; see `started`.
    """
    splits, drop_remainder = loaded.splits, config.get('drop_remainder', False)
    clips = clip_of_row(splits['train']) if config.get('one_row_a_clip') else None
    num_rows = len(splits['train']) if clips is None else int(clips.max()) + 1
    steps_per_epoch = num_batches(num_rows, config.batch_size, drop_remainder)
    factors = recipe.rate_factors(config, model)
    transformation, schedule = optimizer.make_optimizer(config, steps_per_epoch, factors)
    labels = splits['train'].label
    if clips is not None:  # an epoch sees each clip once
        labels = labels[np.unique(clips, return_index=True)[1]]
    steps = Steps(
        model,
        transformation,
        loss,
        prepare=loaded.prepare,
        embed=loaded.embed,
        mix=recipe.mixing(config),
        recipe=recipe.make(config, model, labels),
    )
    checkpoints = Checkpoints(folder.path / 'checkpoints')
    with compiling.said(f'the initial values of {config.model.name}'):
        state = start(TrainState.create(model, transformation, seed=config.seed)).begun()
    loop.fit(
        steps,
        state,
        splits['train'],
        splits.get('valid'),
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        select=config.select,
        schedule=schedule,
        patience=config.get('patience', 0),
        drop_remainder=drop_remainder,
        one_of=clips,
        checkpoints=checkpoints,
        history=history,
    )
    variables, step = checkpoints.restore_best(build.checkpoint_shapes(model))
    fit_familiarity(config, folder, steps, variables, loaded)
    if splits['train'].kind == 'independent':
        several.fit_thresholds(config, folder, steps, variables, splits.get('valid'))
    probs = None
    if 'test' in splits:
        probs = loop.predict(steps, variables, splits['test'], batch_size=config.batch_size)
    return probs, step, history.lines


def fit_familiarity(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    steps: Steps,
    variables: dict,
    loaded: examples.Loaded,
) -> None:
    """Fits the familiarity of clips and keeps it in the run folder.

    Without a validation split nothing is held out to state a rate of false alarms by, and none is
    kept. Of systems that encode pictures in training only, the validation clips take turns.
    """
    if 'valid' not in loaded.splits:
        return
    embedded = partial(
        loop.embeddings,
        steps,
        variables,
        batch_size=config.batch_size,
        most=familiarity.MOST_CLIPS,
    )
    held_out, labels = embedded(loaded.splits['valid'])
    if loaded.embed is not None:
        fitted = familiarity.fit(held_out, labels)
    else:
        fitted = familiarity.fit(*embedded(loaded.splits['train']), held_out)
    folder.write_familiarity(fitted)


def clip_of_row(rows: Rows) -> np.ndarray:
    """Numbers the clips from 0; returns the number of each row's clip `[N]`."""
    return np.unique(rows.clip_id, return_inverse=True)[1]


def prepare_data(config: ConfigDict, data_dir: Path) -> records.Dataset:
    """Opens the data; builds it first if it is missing and a run can build it."""
    source = sources.find(config.data.name)
    if multihost.is_first():
        source.prepare(config, data_dir)
    multihost.wait('data')
    return source.open(config.data, data_dir)


def warnings_of(part: dependencies.Member) -> list[str]:
    """Returns the warnings in the report of an earlier run."""
    shape = {'about': {'warnings': [str]}}
    return part.folder.read_json('report.json', shape)['about']['warnings']


def learned(
    model: nn.Module, folder: run_folder.RunFolder, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Returns the numbers that a network shows in its report, such as weights of classes."""
    if not hasattr(model, 'learned'):
        return {}
    values = model.learned(run_folder.best_variables(folder)[1]['params'])
    return {
        name: dict(zip(classes if len(value) > 1 else ['every class'], value.tolist(), strict=True))
        for name, value in values.items()
    }
