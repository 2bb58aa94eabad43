"""How well the familiarity of clips tells a class that was left out of the training.

    pip install -e . && python benchmarks/familiarity.py [--data_dir D] [--systems ...] [--json F]

On the demo's made-up clips, whose networks are small: a system is trained without the clips of one
class, and scores the test clips of the others against those of that class; one class after the
other. Printed is the mean area under the ROC curve, 0.5 being chance, of: the largest probability,
the energy (minus the logarithm of the sum of exp(logits)), Mahalanobis's distance from the nearest
class (one covariance, a tenth of it shrunk), and the distance of the k-th nearest neighbour among
unit vectors; the distances once more from held-out clips, which take turns. The last number is the
share of false alarms of `runs.familiarity`, fitted on one half of the held-out clips, on the other.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import logsumexp, softmax
from scipy.stats import rankdata

from avsc_jax import losses
from avsc_jax.configs import clip_fusion, ioacas_audio, ioacas_image
from avsc_jax.data import sources
from avsc_jax.data.batches import Rows, Stream, num_batches
from avsc_jax.data.records import default_data_dir
from avsc_jax.input_pipeline import examples
from avsc_jax.models import build
from avsc_jax.runs import familiarity
from avsc_jax.runs.checkpoint import Checkpoints
from avsc_jax.runs.history import History
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runs.state import TrainState
from avsc_jax.training import initial_weights, loop, optimizer
from avsc_jax.training.steps import Steps

SYSTEMS = {
    'C04, clip_late_fusion': (clip_fusion, '', 'demo'),
    'log-mel CNN, resnet1d': (ioacas_audio, 'resnet1d,logmel', 'demo'),
    'pictures, resnet18': (ioacas_image, 'resnet50', 'demo_segments'),
}
NEIGHBOURS = (1, 5)


def resolved(module, tokens: str, data: str):
    """The config as main resolves it on demo data."""
    config = module.get_config(','.join(filter(None, (tokens, 'demo'))))
    config.update(config.demo)
    with config.unlocked():
        config.weights, config.data.config = 'random', data
        config.data.source = 'demo'
    return config


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The share of pairs in which the clip of outside is the less familiar; ties count half."""
    ranks = rankdata(np.concatenate([inside, outside]))[len(inside) :]
    return float((ranks.mean() - (len(outside) + 1) / 2) / len(inside))


def kept(rows: Rows, keep: np.ndarray) -> Rows:
    """The rows where `keep` is true."""
    place = np.flatnonzero(keep)
    inputs = rows.inputs
    if isinstance(inputs, Stream):
        load = inputs.load
        inputs = Stream(lambda row: load(int(place[row])))
    else:
        inputs = {name: array[place] for name, array in inputs.items()}
    clips = [rows.clip_id[k] for k in place]
    return Rows(clips, rows.segment[place], rows.label[place], inputs)


def nearest(train: np.ndarray, x: np.ndarray, k: int) -> np.ndarray:
    """The distance of unit vectors to the k-th nearest of the training clips."""
    train, x = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (train, x))
    return -np.sort(x @ train.T, axis=1)[:, -k]


def mahalanobis(train: np.ndarray, labels: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The distance from the nearest class, by a covariance that all share."""
    classes, number = np.unique(labels, return_inverse=True)
    centres = np.stack([train[number == k].mean(axis=0) for k in range(len(classes))])
    covariance = np.cov((train - centres[number]).T, bias=True)
    variance = np.trace(covariance) / len(covariance)
    shrunk = 0.9 * covariance + 0.1 * variance * np.eye(len(covariance))
    apart = x[:, None] - centres
    return np.sqrt(np.einsum('nci,ij,ncj->nc', apart, np.linalg.inv(shrunk), apart).min(axis=1))


def scores_of(logits, train, train_labels, held, held_labels, other) -> dict[str, float]:
    """The area of each score; `logits`, and embeddings, of held-out clips and those left out."""
    inside, outside = logits
    found = {
        'largest probability': auroc(*(-softmax(x, axis=1).max(1) for x in logits)),
        'energy': auroc(-logsumexp(inside, axis=1), -logsumexp(outside, axis=1)),
    }
    rules = {'Mahalanobis': mahalanobis}
    rules |= {f'{k} neighbours': lambda x, _, z, k=k: nearest(x, z, k) for k in NEIGHBOURS}
    turn = np.random.default_rng(0).permutation(len(held)) % 5
    for name, rule in rules.items():
        fitted = partial(rule, train, train_labels)
        found[f'{name}, training'] = auroc(fitted(held), fitted(other))
        of_held = np.zeros(len(held))
        for fold in range(5):
            out = turn == fold
            of_held[out] = rule(held[~out], held_labels[~out], held[out])
        found[f'{name}, held-out'] = auroc(of_held, rule(held, held_labels, other))
    half = np.random.default_rng(1).permutation(len(held)) % 2 == 0
    marked = familiarity.fit(train, train_labels, held[half]).score(held[~half])
    found['false alarms'] = float((marked <= familiarity.FALSE_ALARMS).mean())
    return found


def measured(
    module, tokens: str, data: str, data_dir: Path, place: Path, num_classes: int
) -> list[dict]:
    """The areas of each class that is left out of a system's training."""
    config = resolved(module, tokens, data)
    source = sources.find(config.data.name)
    source.prepare(config, data_dir)
    dataset = source.open(config.data, data_dir)
    specs = initial_weights.encoder_specs(config, config.get('encoders', {}), place)
    folder = RunFolder(place / 'run')
    folder.begin(config.to_dict())
    folders = dict(data_dir=data_dir, weights_dir=place)
    loaded = examples.load(config, folder, dataset, specs, **folders)
    train, test = loaded.splits['train'], loaded.splits['test']
    model = build.make_model(config.model.to_dict(), num_classes=len(dataset.classes))
    found = []
    steps = None
    for left_out in range(min(num_classes, len(dataset.classes))):
        rows = kept(train, train.label != left_out)
        if steps is None:  # one compilation for all classes
            per_epoch = num_batches(len(rows), config.batch_size)
            transformation, schedule = optimizer.make_optimizer(config, per_epoch)
            loss = losses.make_loss(config.loss)
            steps = Steps(model, transformation, loss, prepare=loaded.prepare)
        with tempfile.TemporaryDirectory() as work:
            checkpoints = Checkpoints(Path(work) / 'checkpoints')
            state = TrainState.create(model, transformation, seed=left_out)
            loop.fit(
                steps, state, rows, None, epochs=config.epochs, batch_size=config.batch_size,
                seed=left_out, select='last', schedule=schedule, checkpoints=checkpoints,
                history=History(Path(work)),
            )  # fmt: skip
            variables, _ = checkpoints.restore_best(build.checkpoint_shapes(model))
        clips = partial(loop.embeddings, steps, variables, batch_size=config.batch_size, most=2000)
        embedded, labels = clips(rows)
        of_test, test_labels = clips(test)
        logits = by_clip(test, variables, steps, config.batch_size)
        out = test_labels == left_out
        found.append(
            scores_of(
                (logits[~out], logits[out]),
                embedded, labels, of_test[~out], test_labels[~out], of_test[out],
            )
        )  # fmt: skip
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    return found


def by_clip(rows: Rows, variables, steps: Steps, batch_size: int) -> np.ndarray:
    """The mean logits of each clip."""
    logits = loop._logits(steps, variables, rows, loop._place(steps, rows), batch_size)
    names, clip = np.unique(rows.clip_id, return_inverse=True)
    return np.stack([logits[clip == k].mean(axis=0) for k in range(len(names))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data_dir', type=Path, default=default_data_dir())
    parser.add_argument('--systems', nargs='*', default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument('--classes', type=int, default=10, help='leave out the first ones (10)')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    table = {}
    for name in args.systems:
        with tempfile.TemporaryDirectory() as place:
            of_classes = measured(*SYSTEMS[name], args.data_dir, Path(place), args.classes)
        table[name] = {key: np.mean([each[key] for each in of_classes]) for key in of_classes[0]}
        print(name, *(f'{key} {value:.2f}' for key, value in table[name].items()), sep=', ')
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + '\n')


if __name__ == '__main__':
    main()
