"""Frozen encoders over records, and the cache of what they gave.

A cache folder belongs to one encoder with its weights and preprocessing over one build of one
dataset: its name holds a hash of them. Each block of clips is a file of its own, written beside
and renamed, so that a killed extraction goes on where it stopped. Several processes share the
blocks, and each spreads its own over its devices.
"""

import dataclasses
import hashlib
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from avsc_jax import compiler, hosts, images, models, weights
from avsc_jax.data.batches import read_ahead
from avsc_jax.data.records import Dataset

CLIPS_PER_BLOCK = 32
FRAMES_PER_CALL = 64  # on each device
CACHE_FORMAT = 1  # raise it when features change for the same spec


@dataclasses.dataclass(frozen=True)
class EncoderSpec:
    """What an encoder is: everything its features depend on.

    Args:
      name: a name of `models.list_models()`, such as 'clip_rn101'.
      options: of `models.create_model`.
      weights: 'random:SEED', or the SHA-256 of a weights file.
    """

    name: str
    options: Mapping
    weights: str

    def to_json(self) -> dict:
        return {'name': self.name, 'options': dict(self.options), 'weights': self.weights}

    def key(self, fingerprint: str) -> str:
        """Hash of this encoder, its preprocessing, and the data it sees."""
        source = weights.source_of(self.name)
        seen = [source.resize, source.interpolation, source.crop_fraction, source.mean, source.std]
        facts = [CACHE_FORMAT, self.to_json(), *seen, fingerprint]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


class Encoder:
    """A jitted image encoder with its preprocessing: frames in, embeddings out.

    Args:
      devices: default all of this process; each encodes its part of the frames.
    """

    def __init__(self, spec: EncoderSpec, weights_dir: Path, devices: list | None = None):
        self.spec = spec
        self._model = models.create_model(spec.name, **spec.options)
        devices = devices or jax.local_devices()
        mesh = Mesh(np.asarray(devices), ('frames',))
        self._num_devices = len(devices)
        self._sharding = NamedSharding(mesh, PartitionSpec('frames'))
        # published files have a head, features do not
        head = 'keep' if self._model.num_classes else 'drop'
        self._variables = jax.device_put(
            weights.load(self._model, spec.name, spec.weights, weights_dir, head=head),
            NamedSharding(mesh, PartitionSpec()),
        )
        size = self._model.input_spec.shape[1]
        self._prepare = jax.jit(partial(prepared, weights.source_of(spec.name), size))
        self._encode = compiled(self._model)

    def __call__(self, frames: list[np.ndarray]) -> np.ndarray:
        """uint8 RGB `[H, W, 3]` each, sizes may differ -> float32 `[T, D]`."""
        share = -(-len(frames) // self._num_devices)  # in powers of two: few shapes to compile
        length = min(FRAMES_PER_CALL, 1 << (share - 1).bit_length()) * self._num_devices
        parts, embeddings = [], []
        for size in sorted({frame.shape for frame in frames}):
            places = [i for i, frame in enumerate(frames) if frame.shape == size]
            for start in range(0, len(places), length):
                part = places[start : start + length]
                batch = np.zeros((length, *size), np.uint8)
                batch[: len(part)] = [frames[i] for i in part]
                batch = jax.device_put(batch, self._sharding)
                embeddings.append(self._encode(self._variables, self._prepare(batch)))
                parts.append(part)
                # While the device works on this one the host makes the next, and no third waits.
                embeddings[-2:-1] = jax.device_get(embeddings[-2:-1])
        found = [np.asarray(e)[: len(p)] for e, p in zip(embeddings, parts, strict=True)]
        return np.concatenate(found)[np.argsort(np.concatenate(parts))]


def prepared(source: weights.Source, size: int, frames: jax.Array) -> jax.Array:
    """uint8 frames `[B, H, W, 3]` as the weights expect them, `[B, size, size, 3]`."""
    if source.resize == 'openl3':
        return images.openl3_pictures(frames, size)
    cropped = images.resize_and_crop(
        frames,
        size,
        resized=math.floor(size / source.crop_fraction),
        keep_aspect=source.resize == 'short side',
        interpolation=source.interpolation,
    )
    return images.normalize(cropped, source.mean, source.std)


def compiled(encoder: nn.Module) -> Callable[[Mapping, jax.Array], jax.Array]:
    """(variables, images `[B, H, W, 3]`) -> embeddings `[B, D]`, as fast as the platform can."""
    options = compiler.options(training=False)
    return jax.jit(lambda variables, x: encoder.apply(variables, x)[0], compiler_options=options)


@dataclasses.dataclass(frozen=True)
class Features:
    """One split's features: `arrays[encoder]` is float32 `[clips, T, D]`."""

    clip_id: list[str]
    label: np.ndarray
    arrays: dict[str, np.ndarray]


def extract(
    dataset: Dataset,
    splits: Iterable[str],
    specs: list[EncoderSpec],
    *,
    cache_dir: Path,
    weights_dir: Path,
) -> dict[str, Features]:
    """Features of every clip of each split by every encoder, from the cache where it has them.

    Each clip is decoded once for all encoders that lack it; an encoder is built only if one does.
    Of several processes each makes its share of the blocks, and all read them all.
    """
    by_name = {spec.name: spec for spec in specs}
    encoder = lru_cache(maxsize=None)(lambda name: Encoder(by_name[name], weights_dir))
    place = cache_dir / dataset.name.replace('/', '-')
    files = {}
    for split in splits:
        num_blocks = -(-dataset.num_records(split) // CLIPS_PER_BLOCK)
        files[split] = {
            name: [
                place / f'{name}-{spec.key(dataset.fingerprint)}' / split / f'block_{k:05d}.npz'
                for k in range(num_blocks)
            ]
            for name, spec in by_name.items()
        }
        mine = range(jax.process_index(), num_blocks, jax.process_count())
        lacking = {
            k: [name for name, those in files[split].items() if not those[k].exists()] for k in mine
        }
        lacking = {k: names for k, names in lacking.items() if names}
        for k, clips in _read_blocks(dataset, split, list(lacking)):
            for name in lacking[k]:
                _write_block(files[split][name][k], clips, encoder(name))
    hosts.wait('features')
    return {
        split: _joined({name: [_read_block(file) for file in those] for name, those in of.items()})
        for split, of in files.items()
    }


def _joined(blocks: dict[str, list[dict]]) -> Features:
    """One split from the blocks of every encoder, which must be of the same clips."""
    columns = {
        name: {key: np.concatenate([block[key] for block in those]) for key in those[0]}
        for name, those in blocks.items()
    }
    first, *others = columns.values()
    if any(other['clip_id'].tolist() != first['clip_id'].tolist() for other in others):
        raise ValueError(
            f'the cached features of {", ".join(blocks)} are not of the same clips; delete the '
            'folder features in the data directory and run the command again'
        )
    return Features(
        clip_id=first['clip_id'].tolist(),
        label=first['label'],
        arrays={name: column['features'] for name, column in columns.items()},
    )


def _read_blocks(
    dataset: Dataset, split: str, blocks: list[int]
) -> Iterator[tuple[int, list[dict]]]:
    """The records of each block, with a progress bar over clips."""
    records = dataset.records(split, fields=('frames',))
    members = [
        range(k * CLIPS_PER_BLOCK, min((k + 1) * CLIPS_PER_BLOCK, len(records))) for k in blocks
    ]
    clips = read_ahead(records.__getitem__, [index for block in members for index in block])
    total = sum(map(len, members))
    off = not total or not hosts.is_first()
    with tqdm(total=total, desc=f'encoding {split}', unit='clip', disable=off) as bar:
        for block, indices in zip(blocks, members, strict=True):
            yield block, [next(clips) for _ in indices]
            bar.update(len(indices))


def _write_block(file: Path, clips: list[dict], encoder: Encoder) -> None:
    lengths = {len(clip['frames']) for clip in clips}
    if len(lengths) > 1:
        raise ValueError(
            f'clips near {clips[0]["clip_id"]} have {sorted(lengths)} frames; all clips of a '
            'dataset must have as many'
        )
    features = encoder([frame for clip in clips for frame in clip['frames']])
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f'.{os.getpid()}.tmp')
    with beside.open('wb') as out:
        np.savez(
            out,
            clip_id=np.array([clip['clip_id'] for clip in clips]),
            label=np.array([clip['label'] for clip in clips], np.int32),
            features=features.reshape(len(clips), -1, features.shape[-1]),
        )
    beside.replace(file)


def _read_block(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as block:
            return {name: block[name] for name in ('clip_id', 'label', 'features')}
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'cache file {file} is missing, though every process has written its share; give a '
            '--data_dir that all processes share'
        ) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f'cache file {file} is corrupt ({error}); delete it and run the command again'
        ) from error


class FeatureInputs:
    """A record in, the arrays of a feature network out: what training saw, for any clip.

    Args:
      settings: the run folder's preprocessing: `frames` (the picking rule), `short_side` and
        `encoders` (see EncoderSpec).
    """

    def __init__(self, settings: Mapping, weights_dir: Path):
        self.frame_rule: str = settings['frames']
        self.short_side: int = settings['short_side']
        self.encoders = [Encoder(EncoderSpec(**spec), weights_dir) for spec in settings['encoders']]

    def __call__(self, record: Mapping) -> dict[str, np.ndarray]:
        """`features/<encoder>` float32 `[T, D]` for the record's `frames`, a row each."""
        return {f'features/{e.spec.name}': e(record['frames']) for e in self.encoders}
