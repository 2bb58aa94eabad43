"""The whole job of a config: data, features, training, predictions, report."""

import copy
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from avsc_jax import (
    encoders,
    features,
    hosts,
    inputs,
    losses,
    members,
    models,
    plan,
    prompts,
    report,
    tables,
    weights,
)
from avsc_jax.augment.mix import mixup
from avsc_jax.data import folds, media, records
from avsc_jax.data.batches import Rows, num_batches
from avsc_jax.models import clip_zero_shot, openl3_baseline
from avsc_jax.scenes import SCENES
from avsc_jax.training import loop, optimizer, run_folder
from avsc_jax.training.checkpoint import Checkpoints
from avsc_jax.training.logging import History
from avsc_jax.training.state import TrainState
from avsc_jax.training.steps import Steps

LOSSES = {'cross_entropy': losses.cross_entropy, 'focal_loss': losses.focal_loss}
PREPROCESSING = (
    'frames', 'short_side', 'pictures', 'size', 'mean', 'std',
    'front_end', 'piece_s', 'inputs', 'pool', 'length', 'standardize',
)  # fmt: skip


def run(
    config: ConfigDict,
    *,
    workdir: Path,
    data_dir: Path,
    weights_dir: Path,
    media_dir: Path | None = None,
    download_weights: bool = False,
    dry_run: bool = False,
) -> None:
    """The whole job; goes on from whatever an earlier, killed run has left in `workdir`.

    Args:
      media_dir: see `media_files`.
    """
    folder = run_folder.RunFolder(workdir)
    folder.check(config.to_dict())
    if folder.is_done and not dry_run:
        print(report.text(folder.read_json('report.json')))
        print(f'this run was complete; its report is {workdir / "report.html"}')
        print('give another --workdir to run it again')
        return
    trained = 'train' in config.data  # else the classes are texts
    if trained:  # a wrong name fails now, not after the features
        loss = make_loss(config.loss)
        loop.selection(config.select)
        optimizer.make_optimizer(config, steps_per_epoch=1)
    else:
        prompts.prompts(SCENES, config.prompt_style)
    if download_weights and config.weights == 'pretrained':
        if hosts.is_first():
            weights.download_all(published(config), weights_dir)
        hosts.wait('weights')
    specs = encoder_specs(config, config.get('encoders', {}), weights_dir)
    texts = encoder_specs(config, config.get('text_encoder', {}), weights_dir)
    used = origins(config, [*specs, *texts], weights_dir)
    parts = earlier_runs(config, config.seed)
    if dry_run:
        lacking = [f'before: {members.line(command)}' for command in untrained(parts)]
        print('\n'.join([plan.text(config, [*specs, *texts], data_dir), *lacking]))
        return
    if todo := untrained(parts):
        first = '\n'.join(map(members.line, todo))
        raise FileNotFoundError(f'{len(todo)} runs that this one begins with come first:\n{first}')
    dataset = prepare_data(config, data_dir)  # nothing is written if the folds are wrong
    data = f'{dataset.name} {dataset.fingerprint}'
    if parts and members.data(parts) != data:
        raise ValueError(
            f'{parts[0].folder.path} was trained on {members.data(parts)}, this run has {data}; '
            'train it again on the same data'
        )
    used |= {part.name: f'run of config {part.folder.config_hash}' for part in parts}
    folder.begin(config.to_dict())
    model = run_folder.make_model(config.model.to_dict(), num_classes=len(dataset.classes))
    folder.record_environment(data, used)
    folder.write_json('classes.json', dataset.classes)
    folder.write_json('preprocessing.json', preprocessing(config, specs))
    if 'fold' in config.data and hosts.is_first():
        folds.write(workdir / 'folds.tsv', dataset.clip_ids, dataset.folds)
    if not trained:
        write_text_head(config, folder, model, *texts, dataset.classes, weights_dir)
    folders = {'data_dir': data_dir, 'weights_dir': weights_dir, 'media_dir': media_dir}
    rows, prepare = load_rows(config, folder, dataset, specs, **folders)
    if trained:
        start = partial(started, config, model, used, weights_dir, parts)
        probs, step, history = train(config, folder, model, loss, rows, prepare, start)
    else:
        probs, step, history = classify(config, folder, model, rows)
    if not hosts.is_first():
        return  # the first process writes for all
    items = 'clip' if (rows['test'].segment < 0).all() else config.data['items']
    meta = {
        'system': workdir.name,
        'about': plan.about(config, dataset, used),
        'split': config.data.test,
        'classes': list(dataset.classes),
        'granularity': items,
        'pooled': items == 'clip',
        'calibrated': False,
        'config_hash': run_folder.config_hash(config.to_dict()),
        'step': step,
        'versions': run_folder.versions(),
    }
    table = loop.predictions(rows['test'], probs, meta=meta)
    if 'frames_per_item' in config:
        table = tables.grouped(table, config.frames_per_item)
    tables.write(table, folder.predictions_file(config.data.test))
    also = VIEWS[config.views](table) if 'views' in config else {}
    for name, view in also.items():
        tables.write(view, folder.predictions_file(f'{config.data.test}_{name}'))
    result = report.make(
        table,
        title=workdir.name,
        about=meta['about'],
        paper=config.paper.to_dict(),
        history=history,
        also=also,
        learned=learned(model, folder, dataset.classes),
    )
    page = report.write(result, workdir)
    folder.finish()
    print(report.text(result))
    print(f'report: {page}')


def earlier_runs(config: ConfigDict, seed: int) -> list[members.Member]:
    """The runs that a system of several stages begins with."""
    return members.named(config, config.get('members', ()), config.data.get('fold'), seed)


def train_members(
    config: ConfigDict,
    seeds: Iterable[int],
    folders: Mapping[str, Path | None],
    download_weights: bool,
) -> None:
    """Trains those runs which lack, for each seed, in processes that take and free the devices."""
    for seed in seeds:
        seeded = copy.deepcopy(config)
        seeded.seed = seed
        todo = untrained(earlier_runs(config, seed))
        members.complete(todo, seeded, members.flags(folders, download_weights))


def untrained(parts: Iterable[members.Member]) -> list[list[str]]:
    """The commands that train those which are not finished."""
    return [part.training for part in parts if not part.folder.is_done]


def preprocessing(config: ConfigDict, specs: list[features.EncoderSpec]) -> dict:
    """What a record goes through before the network, for others who open the run."""
    settings = {'items': config.data['items']}
    settings |= {name: value for name, value in config.to_dict().items() if name in PREPROCESSING}
    if specs:
        settings['encoders'] = [spec.to_json() for spec in specs]
    elif 'frames' in config:
        source = weights.source_of(config.pretrained)
        settings |= {'mean': source.mean, 'std': source.std}
    return settings


def load_rows(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    dataset: records.Dataset,
    specs: list[features.EncoderSpec],
    *,
    data_dir: Path,
    weights_dir: Path,
    media_dir: Path | None = None,
) -> tuple[dict[str, Rows], Callable | None]:
    """The rows of the splits in use, and what makes the network's inputs of them (see Steps)."""
    splits = plan.splits_used(config)
    names = list(dict.fromkeys(splits.values()))
    settings = preprocessing(config, specs)
    arrays = dict.fromkeys(names)
    if specs:
        media = media_files(dataset, data_dir, media_dir)
        folders = {'cache_dir': data_dir / 'features', 'weights_dir': weights_dir, 'media': media}
        piece_s = config.get('training_piece_s')  # sound is cut otherwise where it is scored
        apart = [config.data.train] if piece_s else []
        alike = [name for name in names if name not in apart]
        encoded = extract(config, dataset, alike, specs, **folders)
        if apart:
            longer = [spec.replace(piece_s=piece_s) for spec in specs]
            encoded |= extract(config, dataset, apart, longer, **folders)
        stats = None
        if config.get('standardize'):
            train = encoded[config.data.train].arrays
            stats = folder.stats(lambda: features.measure(settings, train))
        arrays = {
            name: features.network_inputs(settings, found.arrays, stats)
            for name, found in encoded.items()
        }
    if specs and 'size' not in config:
        rows, prepare = {name: feature_rows(encoded[name], arrays[name]) for name in names}, None
    else:
        augmentation = config.augment.to_dict()
        reader = inputs.make(settings, None, augmentation)
        rows = {name: inputs.rows(dataset, name, reader, arrays[name]) for name in names}
        stats = None
        if reader.takes_stats:
            train, batch_size = rows[config.data.train], config.batch_size
            stats = folder.stats(lambda: inputs.measure(reader, train, batch_size=batch_size))
        prepare = inputs.make(settings, stats, augmentation).prepare
    return {part: rows[name] for part, name in splits.items()}, prepare


def extract(
    config: ConfigDict,
    dataset: records.Dataset,
    names: Sequence[str],
    specs: list[features.EncoderSpec],
    **folders: object,
) -> dict[str, features.Features]:
    """The encoders' features of each of these splits; those of folds are in the stored splits'."""
    if 'fold' not in config.data:
        return features.extract(dataset, names, specs, **folders)
    stored = features.extract(dataset.whole, folds.STORED, specs, **folders)
    return {name: picked(stored.values(), dataset.outlines(name)) for name in names}


def media_files(
    dataset: records.Dataset, data_dir: Path, media_dir: Path | None
) -> Callable[[str], media.Source]:
    """Clip id -> its video file, among those that the data set was built from.

    Args:
      media_dir: holds them, zipped or not; None: where the builder looks for them by itself.
    """
    from tfds_tau import demo, files  # one finder of files for the builder and for this

    is_demo = dataset.builder.builder_config.name == 'demo'
    downloads = data_dir / 'downloads'
    folder = downloads / (f'tfds_tau_demo-{dataset.builder.version}' if is_demo else 'manual')
    folder, lock = media_dir or folder, threading.Lock()

    @cache
    def found() -> files.MediaFiles:
        if is_demo and not media_dir and not folder.is_dir():
            demo.render(folder)
        if not folder.is_dir():
            raise FileNotFoundError(
                f'pictures are read from the video files, and there is no folder {folder}; name '
                'the one that holds them, or their zips, by --media_dir'
            )
        return files.MediaFiles(folder)

    def video(clip_id: str) -> media.Source:
        with lock:  # many threads ask, one looks
            place = found()
        return place.source(f'video/{clip_id}.mp4')

    return video


def train(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    model: nn.Module,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    rows: dict[str, Rows],
    prepare: Callable | None,
    start: Callable[[TrainState], TrainState],
) -> tuple[np.ndarray, int, list[dict]]:
    """Test probabilities `[N, C]` by the best epoch, its step, and the history of all epochs.

    Args:
      start: puts other variables in the place of freshly drawn ones, see `started`.
    """
    drop_remainder = config.get('drop_remainder', False)
    steps_per_epoch = num_batches(len(rows['train']), config.batch_size, drop_remainder)
    transformation, schedule = optimizer.make_optimizer(config, steps_per_epoch)
    alpha = config.get('mixup_alpha', 0.0)
    mix = partial(mixup, alpha=alpha) if alpha else None
    steps = Steps(model, transformation, loss, prepare=prepare, mix=mix)
    checkpoints, history = Checkpoints(folder.path / 'checkpoints'), History(folder.path)
    loop.fit(
        steps,
        start(TrainState.create(model, transformation, seed=config.seed)),
        rows['train'],
        rows['valid'],
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        select=config.select,
        schedule=schedule,
        patience=config.get('patience', 0),
        drop_remainder=drop_remainder,
        checkpoints=checkpoints,
        history=history,
    )
    history.close()
    variables, step = checkpoints.restore_best(run_folder.variable_shapes(model))
    probs = loop.predict(steps, variables, rows['test'], batch_size=config.batch_size)
    return probs, step, history.lines


def write_text_head(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    model: nn.Module,
    spec: features.EncoderSpec,
    classes: Sequence[str],
    weights_dir: Path,
) -> None:
    """Makes the checkpoint of a network whose classes are texts, unless it is there."""
    checkpoints = Checkpoints(folder.path / 'checkpoints')
    if checkpoints.last_step() is not None:
        return
    token_ids = prompts.token_ids(prompts.prompts(classes, config.prompt_style))
    tower = models.create_model(spec.name, **spec.options)
    variables = weights.load(tower, spec.name, spec.weights, weights_dir)
    embedding, _ = jax.jit(tower.apply)(variables, token_ids)
    state = TrainState.create(model, optax.identity(), seed=config.seed)
    head = clip_zero_shot.text_head(embedding)['params']
    checkpoints.save(state.replace(params=head), [], is_best=True)


def classify(
    config: ConfigDict, folder: run_folder.RunFolder, model: nn.Module, rows: dict[str, Rows]
) -> tuple[np.ndarray, int, list[dict]]:
    """As `train`, for a network whose checkpoint is there and which is not trained."""
    checkpoints = Checkpoints(folder.path / 'checkpoints')
    variables, step = checkpoints.restore_best(run_folder.variable_shapes(model))
    steps = Steps(model, optax.identity(), losses.cross_entropy)
    return loop.predict(steps, variables, rows['test'], batch_size=config.batch_size), step, []


def prepare_data(config: ConfigDict, data_dir: Path) -> records.Dataset:
    """Opens the data; the demo is rendered and built first where it is missing."""
    data = config.data
    missing = data.source == 'demo' and not records.is_prepared(data.name, 'demo', data_dir)
    if missing and hosts.is_first():
        from tfds_tau.tfds_tau_dataset_builder import Builder  # only the demo is built from here

        print(f'building the demo data in {data_dir}', file=sys.stderr)
        tfds.disable_progress_bar()  # the builder shows its own
        Builder(config='demo', data_dir=data_dir).download_and_prepare()
    hosts.wait('data')
    return folds.open_dataset(data, data_dir)


def encoder_specs(
    config: ConfigDict, named: ConfigDict, weights_dir: Path
) -> list[features.EncoderSpec]:
    """Encoders with the origin of their weights: a file's SHA-256, or random:0."""
    return [
        features.EncoderSpec(
            name,
            options.to_dict(),
            _origin(config, name, weights_dir),
        )
        for name, options in named.items()
    ]


def _origin(config: ConfigDict, name: str, weights_dir: Path) -> str:
    """Of an encoder's weights."""
    if name in encoders.FRONT_ENDS:
        return encoders.NO_WEIGHTS
    return 'random:0' if config.weights == 'random' else weights.identify(name, weights_dir)


def published(config: ConfigDict) -> list[str]:
    """Networks whose published weights the config takes."""
    return [
        *(name for name in config.get('encoders', ()) if name not in encoders.FRONT_ENDS),
        *config.get('text_encoder', ()),
        *([config.pretrained] if 'pretrained' in config else ()),
    ]


def origins(
    config: ConfigDict, specs: list[features.EncoderSpec], weights_dir: Path
) -> dict[str, str]:
    """Network -> where its weights come from: those of encoders, and those training begins with."""
    used = {spec.name: spec.weights for spec in specs if spec.weights != encoders.NO_WEIGHTS}
    if 'pretrained' not in config:
        return used
    if config.weights == 'random':
        return used | {config.model.name: f'random:{config.seed}'}
    return used | {config.pretrained: weights.identify(config.pretrained, weights_dir)}


def started(
    config: ConfigDict,
    model: nn.Module,
    used: Mapping[str, str],
    weights_dir: Path,
    parts: Sequence[members.Member],
    state: TrainState,
) -> TrainState:
    """The state that training begins with: published variables, or those of trained members."""
    if parts:
        stems = {part.name: run_folder.best_variables(part.folder)[1] for part in parts}
        return state.replace(**openl3_baseline.with_stems(state.variables, stems))
    if 'pretrained' not in config or config.weights == 'random':
        return state
    name = config.pretrained
    load = partial(weights.load, name=name, origin=used[name], folder=weights_dir, head='drop')
    if 'pretrained_part' not in config:
        return state.replace(**load(model, key=config.seed))
    found = load(model.part(config.pretrained_part))
    return state.replace(
        **{
            kind: {**variables, config.pretrained_part: found[kind]}
            for kind, variables in state.variables.items()
        }
    )


def picked(stored: Iterable[features.Features], outlines: Iterable[Mapping]) -> features.Features:
    """The features of the clips that the outlines are of, out of several splits."""
    wanted = [outline['clip_id'] for outline in outlines]
    parts = [(part, np.isin(part.clip_id, wanted)) for part in stored]
    return features.Features(
        clip_id=[name for part, keep in parts for name in np.array(part.clip_id)[keep].tolist()],
        label=np.concatenate([part.label[keep] for part, keep in parts]),
        arrays={
            name: np.concatenate([part.arrays[name][keep] for part, keep in parts])
            for name in parts[0][0].arrays
        },
    )


def feature_rows(found: features.Features, inputs: dict[str, np.ndarray]) -> Rows:
    """The network's inputs as rows: one for each frame of each clip, or one a clip."""
    num_rows, num_clips = len(next(iter(inputs.values()))), len(found.clip_id)
    frames = num_rows // num_clips
    segment = np.arange(frames, dtype=np.int32) if frames > 1 else np.int32([-1])
    return Rows(
        clip_id=np.repeat(found.clip_id, frames).tolist(),
        segment=np.tile(segment, num_clips),
        label=np.repeat(found.label, frames),
        inputs=inputs,
    )


def learned(
    model: nn.Module, folder: run_folder.RunFolder, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The few numbers of a trained network that say something by themselves."""
    if not hasattr(model, 'learned'):
        return {}
    values = model.learned(run_folder.best_variables(folder)[1]['params'])
    return {
        name: dict(zip(classes if len(found) > 1 else ['every class'], found.tolist(), strict=True))
        for name, found in values.items()
    }


def baseline_views(table: tables.Predictions) -> dict[str, tables.Predictions]:
    """What the challenge's baseline was scored on: its seconds, and its decisions on clips."""
    return {'second': tables.seconds(table), 'product': tables.pool(table, rule='product')}


VIEWS = {'openl3_baseline': baseline_views}


def make_loss(settings: ConfigDict) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The loss that the config names, with its settings."""
    settings = settings.to_dict()
    name = settings.pop('name')
    if name not in LOSSES:
        raise ValueError(f'no loss is called {name!r}; there are {", ".join(LOSSES)}')
    return partial(LOSSES[name], **settings)
