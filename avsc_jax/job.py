"""The whole job of a config: data, features, training, predictions, report."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from avsc_jax import features, hosts, losses, models, prompts, report, tables, weights
from avsc_jax.data import media, records
from avsc_jax.models import clip_zero_shot
from avsc_jax.scenes import SCENES
from avsc_jax.training import loop, optimizer, run_folder
from avsc_jax.training.checkpoint import Checkpoints
from avsc_jax.training.logging import History
from avsc_jax.training.state import TrainState
from avsc_jax.training.steps import Steps

LOSSES = {'cross_entropy': losses.cross_entropy, 'focal_loss': losses.focal_loss}


def run(
    config: ConfigDict,
    *,
    workdir: Path,
    data_dir: Path,
    weights_dir: Path,
    download_weights: bool = False,
    dry_run: bool = False,
) -> None:
    """The whole job; goes on from whatever an earlier, killed run has left in `workdir`."""
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
    else:
        prompts.prompts(SCENES, config.prompt_style)
    if download_weights and config.weights == 'pretrained':
        if hosts.is_first():
            weights.download_all([*config.encoders, *config.get('text_encoder', ())], weights_dir)
        hosts.wait('weights')
    specs = encoder_specs(config, config.encoders, weights_dir)
    texts = [] if trained else encoder_specs(config, config.text_encoder, weights_dir)
    if dry_run:
        print(plan(config, [*specs, *texts], data_dir))
        return
    folder.begin(config.to_dict())
    dataset = prepare(config, data_dir)
    model = run_folder.make_model(config.model, num_classes=len(dataset.classes))
    describe(folder, config, dataset, specs, texts)
    if not trained:
        write_text_head(config, folder, model, *texts, dataset.classes, weights_dir)
    rows = load_rows(config, dataset, specs, data_dir=data_dir, weights_dir=weights_dir)
    if trained:
        probs, step, history = train(config, folder, model, loss, rows)
    else:
        probs, step, history = classify(config, folder, model, rows)
    if not hosts.is_first():
        return  # the first process writes for all
    meta = {
        'system': workdir.name,
        'about': about(config, dataset, [*specs, *texts]),
        'split': config.data.test,
        'classes': list(dataset.classes),
        'granularity': config.data['items'],
        'pooled': config.data['items'] == 'clip',
        'calibrated': False,
        'config_hash': run_folder.config_hash(config.to_dict()),
        'step': step,
        'versions': run_folder.versions(),
    }
    table = loop.predictions(rows['test'], probs, meta=meta)
    tables.write(table, folder.predictions_file(config.data.test))
    result = report.make(
        table,
        title=workdir.name,
        about=meta['about'],
        paper=config.paper.to_dict(),
        history=history,
    )
    page = report.write(result, workdir)
    folder.finish()
    print(report.text(result))
    print(f'report: {page}')


def describe(
    folder: run_folder.RunFolder,
    config: ConfigDict,
    dataset: records.Dataset,
    specs: list[features.EncoderSpec],
    texts: list[features.EncoderSpec],
) -> None:
    """Writes what the run is made of, so that others can open it."""
    weights_used = {spec.name: spec.weights for spec in [*specs, *texts]}
    folder.record_environment(f'{dataset.name} {dataset.fingerprint}', weights_used)
    folder.write_json('classes.json', dataset.classes)
    settings = {
        'items': config.data['items'],
        'frames': config.frames,
        'short_side': config.short_side,
        'encoders': [spec.to_json() for spec in specs],
    }
    folder.write_json('preprocessing.json', settings)


def load_rows(
    config: ConfigDict,
    dataset: records.Dataset,
    specs: list[features.EncoderSpec],
    *,
    data_dir: Path,
    weights_dir: Path,
) -> dict[str, loop.Rows]:
    """The rows of the splits in use, whose features are extracted where missing."""
    splits = splits_used(config)
    found = features.extract(
        dataset,
        dict.fromkeys(splits.values()),
        specs,
        cache_dir=data_dir / 'features',
        weights_dir=weights_dir,
    )
    rows = {split: feature_rows(those) for split, those in found.items()}
    return {part: rows[split] for part, split in splits.items()}


def train(
    config: ConfigDict,
    folder: run_folder.RunFolder,
    model: nn.Module,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    rows: dict[str, loop.Rows],
) -> tuple[np.ndarray, int, list[dict]]:
    """Test probabilities `[N, C]` by the best epoch, its step, and the history of all epochs."""
    steps_per_epoch = -(-len(rows['train']) // config.batch_size)
    transformation, schedule = optimizer.make_optimizer(config, steps_per_epoch)
    steps = Steps(model, transformation, loss)
    checkpoints, history = Checkpoints(folder.path / 'checkpoints'), History(folder.path)
    loop.fit(
        steps,
        TrainState.create(model, transformation, seed=config.seed),
        rows['train'],
        rows['valid'],
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        select=config.select,
        schedule=schedule,
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
    config: ConfigDict, folder: run_folder.RunFolder, model: nn.Module, rows: dict[str, loop.Rows]
) -> tuple[np.ndarray, int, list[dict]]:
    """As `train`, for a network whose checkpoint is there and which is not trained."""
    checkpoints = Checkpoints(folder.path / 'checkpoints')
    variables, step = checkpoints.restore_best(run_folder.variable_shapes(model))
    steps = Steps(model, optax.identity(), losses.cross_entropy)
    return loop.predict(steps, variables, rows['test'], batch_size=config.batch_size), step, []


def splits_used(config: ConfigDict) -> dict[str, str]:
    """'train' and 'valid', of a system that is trained, and 'test' -> the data's split."""
    return {part: config.data[part] for part in ('train', 'valid', 'test') if part in config.data}


def prepare(config: ConfigDict, data_dir: Path) -> records.Dataset:
    """Opens the data; the demo is rendered and built first where it is missing."""
    data = config.data
    missing = data.source == 'demo' and not records.is_prepared(data.name, 'demo', data_dir)
    if missing and hosts.is_first():
        from tfds_tau.tfds_tau_dataset_builder import Builder  # only the demo is built from here

        print(f'building the demo data in {data_dir}', file=sys.stderr)
        tfds.disable_progress_bar()  # the builder shows its own
        Builder(config='demo', data_dir=data_dir).download_and_prepare()
    hosts.wait('data')
    return records.open_dataset(data.name, data.config, data_dir)


def encoder_specs(
    config: ConfigDict, encoders: ConfigDict, weights_dir: Path
) -> list[features.EncoderSpec]:
    """Encoders with the origin of their weights: a file's SHA-256, or random:0."""
    return [
        features.EncoderSpec(
            name,
            options.to_dict(),
            'random:0' if config.weights == 'random' else weights.identify(name, weights_dir),
        )
        for name, options in encoders.items()
    ]


def feature_rows(found: features.Features) -> loop.Rows:
    """A row for each frame of each clip, with the features of every encoder."""
    frames = next(iter(found.arrays.values())).shape[1]
    return loop.Rows(
        clip_id=np.repeat(found.clip_id, frames).tolist(),
        segment=np.tile(np.arange(frames, dtype=np.int32), len(found.clip_id)),
        label=np.repeat(found.label, frames),
        inputs={
            f'features/{name}': array.reshape(-1, array.shape[-1])
            for name, array in found.arrays.items()
        },
    )


def make_loss(settings: ConfigDict) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The loss that the config names, with its settings."""
    settings = settings.to_dict()
    name = settings.pop('name')
    if name not in LOSSES:
        raise ValueError(f'no loss is called {name!r}; there are {", ".join(LOSSES)}')
    return partial(LOSSES[name], **settings)


def about(config: ConfigDict, dataset: records.Dataset, specs: list[features.EncoderSpec]) -> dict:
    """What the report says of data, protocol and weights."""
    data, random = config.data, config.weights == 'random'
    splits = splits_used(config)
    verbs = {'train': 'trained on', 'valid': 'selected on', 'test': 'reported on'}
    protocol = ', '.join(
        f'{verbs[part]} {split} ({dataset.num_records(split)} records)'
        for part, split in splits.items()
    )
    if 'train' not in splits:
        protocol = f'zero-shot, prompt style {config.prompt_style}, nothing trained; {protocol}'
    elif data.valid == data.test:
        protocol += '; selected on the reported split'
    warnings = []
    if data.source == 'demo':
        warnings.append('made-up clips: shows that the program works, says nothing about scenes')
    if dataset.left_out:
        warnings.append(
            f'{len(dataset.left_out)} clips are left out, whose files were broken when the data '
            'was built: the scores do not compare with published ones'
        )
    if random:
        warnings.append('random encoders, not pretrained: the scores are not those of the system')
        if 'train' not in splits:
            warnings.append('random encoders know no words: their zero-shot prediction is chance')
    used = {spec.name: spec.weights for spec in specs}
    return {'data': dataset.name, 'protocol': protocol, 'weights': used, 'warnings': warnings}


def plan(config: ConfigDict, specs: list[features.EncoderSpec], data_dir: Path) -> str:
    """What a run would do: shapes, parameters, steps and disk."""
    data, trained = config.data, 'train' in config.data
    lines = [f'data: {data.name}/{data.config} in {data_dir}']
    if records.is_prepared(data.name, data.config, data_dir):
        dataset = records.open_dataset(data.name, data.config, data_dir)
        clips = {split: dataset.num_records(split) for split in splits_used(config).values()}
        classes = dataset.classes
    else:
        classes, clips = SCENES, {}
        lines.append('it is not prepared yet; the run builds it first')
    for spec in specs:
        count = models.count_parameters(spec.name, **spec.options)
        shape = models.input_spec(spec.name, **spec.options).shape[1:]
        lines.append(f'encoder {spec.name}: {count:,} parameters, input {shape}, {spec.weights}')
    if not trained:
        texts = prompts.prompts(classes, config.prompt_style)
        lines.append(f'prompts: {", ".join(map(repr, texts))}')
    model = run_folder.make_model(config.model, num_classes=len(classes))
    inputs = ', '.join(f'{name} {spec.shape[1:]}' for name, spec in model.input_spec.items())
    sizes = [leaf.size for leaf in jax.tree.leaves(models.variable_shapes(model)['params'])]
    lines.append(f'network {config.model.name}: {sum(sizes):,} parameters, input {inputs}')
    frames = len(media.pick_frames(config.frames, 300, duration_s=10.0))
    width = sum(spec.shape[-1] for spec in model.input_spec.values())
    for split, count in clips.items():
        lines.append(
            f'split {split}: {count:,} clips, {count * frames:,} rows, '
            f'{count * frames * width * 4 / 1e6:,.1f} MB of features'
        )
    if clips and trained:
        batches = -(-clips[data.train] * frames // config.batch_size)
        lines.append(
            f'training: {config.epochs} epochs of {batches:,} steps of {config.batch_size}'
        )
    lines.append(f'checkpoints: {5 * sum(sizes) * 4 / 1e6:,.1f} MB at most')
    return '\n'.join(lines)
