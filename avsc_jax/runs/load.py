"""Opens finished runs, as systems or as frozen encoders whose embeddings other systems take."""

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from avsc_jax import models
from avsc_jax.audio import frontends
from avsc_jax.data.sources.source import CLIP_S
from avsc_jax.input_pipeline import media_inputs, system
from avsc_jax.input_pipeline.encoders import Encoder, EncoderSpec, embedding
from avsc_jax.input_pipeline.preprocess import FeatureInputs, FeaturesAndFrames
from avsc_jax.runs import checksums
from avsc_jax.runs.run_folder import RunFolder, best_variables, opening
from avsc_jax.runtime import compiler, compiling
from avsc_jax.runtime.files import link, whole
from avsc_jax.weights import random
from avsc_jax.weights.cache import default_weights_dir

ROWS_PER_CALL = 16  # on each device; pictures of 456 x 456 in float32 are large
# The parts of a run folder that `load_run` reads.
KEPT = ('config.json', 'classes.json', 'preprocessing.json', 'stats.npz', 'checkpoints/best')

ORIGIN = re.compile('random:[0-9]{1,9}|[0-9a-f]{64}|none')  # of an encoder's weights

Preprocess = FeatureInputs | media_inputs.Inputs | FeaturesAndFrames


def load_run(
    folder: str | os.PathLike, *, weights_dir: str | os.PathLike | None = None
) -> tuple[nn.Module, dict, Preprocess, tuple[str, ...]]:
    """Opens the network of a finished run, with its variables and its preprocessing.

        from pathlib import Path

        from avsc_jax.training import load_run

        model, variables, preprocess, classes = load_run('runs/clip_fusion')
        logits, out = model.apply(variables, preprocess(preprocess.open(Path('clip.mp4'))))
        print(classes[logits.mean(axis=0).argmax()])

    Args:
      folder: the run folder, `--workdir` of avsc_jax.main.
      weights_dir: the folder of weights files, in which encoders must have the SHA-256 of the run;
        None: `default_weights_dir()`.

    Returns:
      `(model, variables, preprocess, classes)`: the Flax module; its variables of the best epoch;
      a function of a record that gives the module's input; the names of the classes.

    Raises:
      FileNotFoundError: the run, or the weights of an encoder, are not complete.
    """
    run = RunFolder(Path(folder))
    classes = tuple(run.read_json('classes.json'))
    settings = run.read_json('preprocessing.json')
    model, variables = best_variables(run)
    stats = _stats(run, settings, model)
    weights_dir = Path(weights_dir) if weights_dir else default_weights_dir()
    made = [spec.make(weights_dir) for spec in _specs(run, settings)]
    with opening(run.path):
        if 'encoders' not in settings:
            preprocess = media_inputs.make(settings, stats)
        else:
            preprocess = FeatureInputs(settings, made, stats)
            if 'size' in settings:
                preprocess = FeaturesAndFrames(preprocess, media_inputs.make(settings))
    return model, variables, preprocess, classes


def window_s(settings: Mapping) -> float:
    """Returns the length in seconds of the clips that a run was trained on; older runs have 10.

    Args:
      settings: the run's preprocessing.
    """
    return float(settings.get('window_s', CLIP_S))


def _specs(run: RunFolder, settings: Mapping) -> list['EncoderSpec | RunSpec']:
    """Returns the encoders that a run's preprocessing describes.

    Raises:
      ValueError: an encoder does not exist, has unknown options, or is a run that does not lie
        inside the run folder: one that comes from elsewhere opens no other places.
    """
    specs: list[EncoderSpec | RunSpec] = []
    with opening(run.path):
        for about in settings.get('encoders', ()):
            if 'run' in about:
                specs.append(RunSpec(about['name'], _inside(run.path, about['run'])))
                continue
            if not ORIGIN.fullmatch(about['weights']):
                raise ValueError(f'the weights of {about["name"]} are {about["weights"]!r}')
            spec = EncoderSpec(**about)
            spec.check()
            if spec.weights.startswith('random:'):
                random.check_size(models.create_model(spec.name, **spec.network))
            _ = spec.num_parameters  # an error for options that the network cannot have
            specs.append(spec)
    return specs


def _inside(folder: Path, below: str) -> Path:
    """Returns a path below a folder, whatever links lead to it; ValueError if it lies elsewhere."""
    path, top = folder / below, folder.resolve()
    if top not in path.resolve().parents:
        raise ValueError(
            f'{folder} names {below!r} as an encoder, which is not inside it; copy the run again '
            'with its folder parts'
        )
    return path


def _stats(run: RunFolder, settings: Mapping, model: nn.Module) -> dict[str, np.ndarray] | None:
    """Returns a run's fitted normalisation, None if it has none.

    Raises:
      ValueError: it is not that of the network's inputs.
    """
    named = settings.get('front_end', {}).get('name')
    is_scaled = named is None or frontends.find(named).is_scaled
    if is_scaled and not settings.get('standardize'):
        return None
    stats, spec = run.stats(), model.input_spec
    specs = spec if isinstance(spec, Mapping) else {'image': spec}
    if 'front_end' in settings and 'sound' in specs:  # pictures beside it have none to fit
        specs = {'sound': specs['sound']}
    for name, of_input in specs.items():
        for kind in ('mean', 'std'):
            named = kind if 'front_end' in settings else f'{kind}_{name}'
            shape = stats[named].shape if named in stats else None
            if shape is None or shape != of_input.shape[len(of_input.shape) - len(shape) :]:
                raise ValueError(
                    f'{run.path / "stats.npz"} is corrupt (its {named} has the shape {shape}, for '
                    f'rows of {of_input.shape[1:]}); copy it again, or train the run again'
                )
    return stats


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """A run as an encoder: another system takes its `out['embedding']`; see `EncoderSpec`.

    Attributes:
      name: the encoder's name in that system.
      folder: the run folder.
    """

    name: str
    folder: Path

    @functools.cached_property
    def settings(self) -> dict:
        """The run's preprocessing."""
        return RunFolder(self.folder).read_json('preprocessing.json')

    @functools.cached_property
    def config(self) -> dict:
        """The run's config."""
        return RunFolder(self.folder).config

    @property
    def augmentation(self) -> dict[str, dict]:
        """Augmentation of the run's training: op -> settings, with JSON's lists as tuples."""
        return {
            op: {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
            for op, settings in self.config['augment'].items()
        }

    @functools.cached_property
    def weights(self) -> str:
        """Hash of everything that the embeddings depend on."""
        return f'run:{content_hash(self.folder)}'

    @property
    def takes(self) -> str:
        """Field of a record that the run takes; see EncoderSpec.takes."""
        specs = [EncoderSpec(**about) for about in self.settings.get('encoders', ())]
        own = {'front_end': 'audio', 'frames': 'frames'}
        fields = {spec.takes for spec in specs} or {own[n] for n in own if n in self.settings}
        if len(fields) > 1:
            raise ValueError(
                f'{self.folder} takes {" and ".join(sorted(fields))}; give a run that takes one'
            )
        return fields.pop()

    def network(self) -> tuple[nn.Module, dict]:
        """Returns the run's network and its variables after the best epoch."""
        return best_variables(RunFolder(self.folder))

    @property
    def num_parameters(self) -> int:
        options = dict(self.config['model'])
        return models.count_parameters(options.pop('name'), num_classes=0, **options)

    def key(self, fingerprint: str) -> str:
        """Returns a hash of this run and of the data it sees."""
        return hashlib.sha256(f'{self.weights} {fingerprint}'.encode()).hexdigest()[:12]

    def make(self, weights_dir: Path) -> 'RunEncoder':
        """Returns the encoder."""
        return RunEncoder(self, weights_dir)

    def kept(self, owner: RunFolder) -> 'RunSpec':
        """Copies what is needed of the run into the owner's run folder; returns the copy's spec."""
        place = owner.path / 'parts' / self.name
        if not place.exists():
            with whole(place) as beside:
                checked = [f for f in [self.folder / checksums.FILE] if f.exists()]
                for file in [*_files(self.folder), *checked]:
                    copy = beside / file.relative_to(self.folder)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    link(file, copy)
        return RunSpec(self.name, place)

    def to_json(self) -> dict:
        """Returns the entry for `preprocessing.json` of the run that keeps it."""
        return {'name': self.name, 'run': f'parts/{self.name}', 'weights': self.weights}


class RunEncoder(Encoder):
    """The encoder of a run: its preprocessing and its jitted network up to the head."""

    output = 'embedding'

    def __init__(self, spec: RunSpec, weights_dir: Path, devices: list | None = None):
        mesh = self._spread(spec, devices)
        model, variables, self._preprocess, _ = load_run(spec.folder, weights_dir=weights_dir)
        self.model, self.encoders = model, getattr(self._preprocess, 'encoders', ())
        self._variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
        self._prepare = lambda rows: rows
        options = compiler.options(training=False)
        encode = jax.jit(functools.partial(embedding, model), compiler_options=options)
        self._encode = compiling.told(encode, spec.name)

    def items(self, record: Mapping) -> list[np.ndarray]:
        """Returns the rows that the run makes of a record: frames of sound, or pictures."""
        return list(self._preprocess(record))

    def notes(self, record: Mapping) -> list[str]:
        """Returns notes on how the record was read; see Encoder.notes."""
        notes = getattr(self._preprocess, 'notes', None)
        return notes(record) if notes else []

    @property
    def items_per_call(self) -> int:
        """Rows that one call encodes, on all devices; see Encoder.items_per_call."""
        return ROWS_PER_CALL * self._num_devices


def content_hash(folder: Path, *more: str) -> str:
    """Returns a hash of all that a run's network depends on: its weights, settings and classes.

    Args:
      more: names of other files of the run folder that are hashed, too.
    """
    digest = hashlib.sha256()
    for file in _files(folder, *more):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _files(folder: Path, *more: str) -> list[Path]:
    """Lists the files of a run folder that KEPT names, or that lie in folders it names."""
    paths = (folder / kept for kept in (*KEPT, *more))
    return sorted(f for path in paths for f in (path, *path.rglob('*')) if f.is_file())


def load_system(
    folder: str | os.PathLike,
    weights_dir: str | os.PathLike | None = None,
    *,
    output: Literal['probs', 'embedding'] = 'probs',
) -> system.System:
    """Opens a finished run as one traceable system, encoders included; see `load_run`.

    Args:
      output: what the system returns.
    """
    run = RunFolder(Path(folder))
    settings = run.read_json('preprocessing.json')
    model, variables = best_variables(run)
    stats = _stats(run, settings, model)
    weights_dir = Path(weights_dir) if weights_dir else default_weights_dir()
    sources: dict[str, system.SystemInput | system.System] = {}
    for spec in _specs(run, settings):
        if isinstance(spec, RunSpec):
            sources[spec.name] = load_system(spec.folder, weights_dir, output='embedding')
        else:
            sources[spec.name] = system.of_encoder(spec, weights_dir)
    with opening(run.path):
        if 'front_end' in settings or 'size' in settings:
            made = media_inputs.make(settings, stats)
            is_both = isinstance(made, media_inputs.BothInputs)
            of_raw = made.sources if is_both else {made.raw: made}
            sources |= {name: system.SystemInput(inputs) for name, inputs in of_raw.items()}
    stats = stats if 'encoders' in settings else None  # otherwise its source has them
    network = system.Network(model, variables, output, run.kind)
    return system.System(network, settings, stats, sources)
