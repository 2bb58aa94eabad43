"""A finished run as one traceable function of a clip's arrays, and its parts in plain data.

A `System` takes *items*: the pieces, windows or pictures of one clip that another program can make
without this package, since each is cut or resized only. What comes after that, front ends and
encoders too, is traceable.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax import models, weights
from avsc_jax.audio import openl3
from avsc_jax.audio.resample import resampled
from avsc_jax.data import media
from avsc_jax.input_pipeline import facts as recipe
from avsc_jax.input_pipeline import images
from avsc_jax.input_pipeline import media as inputs
from avsc_jax.input_pipeline.encoders import FRONT_ENDS, READING, EncoderSpec

Items = dict[str, Any]  # source -> array [T, ...], or the items of the run that it is


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network with its variables, and which of its outputs is meant."""

    model: nn.Module
    variables: Mapping
    output: Literal['probs', 'features', 'embedding']

    def __call__(self, given: Mapping[str, jax.Array]) -> jax.Array:
        """`[B, C]` or `[B, D]`."""
        alone = not isinstance(self.model.input_spec, Mapping)
        first, out = self.model.apply(self.variables, given['image'] if alone else dict(given))
        if self.output == 'probs':
            return jax.nn.softmax(first.astype(jnp.float32))
        return first if self.output == 'features' else out['embedding']

    def by_row(self, given: Mapping[str, jax.Array]) -> jax.Array:
        """The same of a symbolic number of rows, of which networks cannot ask the length."""

        def one(row):
            return self({name: array[None] for name, array in row.items()})[0]

        return jax.vmap(one)(dict(given))


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One kind of items, and what becomes of each.

    Attributes:
      item: shape and type of one.
      takes: of a record: 'audio', 'frames' or 'media'.
      items: a record's items `[T, *item]`; on the host.
      prepare: one item -> the inputs of `encoder`, or of the system's network `[rows, ...]`.
      facts: the same in plain data.
    """

    item: jax.ShapeDtypeStruct
    takes: str
    items: Callable[[Mapping], np.ndarray]
    prepare: Callable[[jax.Array], jax.Array]
    facts: Mapping
    encoder: Network | None = None

    def prepared(self, items: jax.Array) -> jax.Array:
        """`[T, *item]` -> `[rows of all items, ...]`."""
        rows = jax.vmap(self.prepare)(items)
        return rows.reshape(-1, *rows.shape[2:])

    def __call__(self, items: jax.Array) -> jax.Array:
        """`[T, *item]` -> embeddings `[T, D]`, or what is prepared."""
        rows = self.prepared(items)
        return rows if self.encoder is None else self.encoder.by_row({'image': rows})


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """A run: the items of a clip in, the probabilities of its rows `[R, C]` out."""

    network: Network
    settings: Mapping  # the run's preprocessing
    stats: Mapping[str, np.ndarray] | None
    sources: Mapping[str, 'Source | System']

    @property
    def names(self) -> dict[str, str]:
        """Each input of the network -> its source."""
        alone = [name for name in self.sources if name not in self._encoders]
        return self._features | ({'image': alone[0]} if alone else {})

    @property
    def _encoders(self) -> list[str]:
        return [about['name'] for about in self.settings.get('encoders', ())]

    @property
    def _features(self) -> dict[str, str]:
        """The same, of the inputs that are encoders' embeddings or frames of a front end."""
        named = self.settings.get('inputs')
        return dict(named or {f'features/{name}': name for name in self._encoders})

    def items(self, record: Mapping) -> Items:
        """Of a decoded record."""
        return {name: source.items(record) for name, source in self.sources.items()}

    def inputs(self, items: Items) -> dict[str, jax.Array]:
        """The network's inputs `[R, ...]` by their names."""
        made = {name: source(items[name]) for name, source in self.sources.items()}
        named = {name: made[source] for name, source in self.names.items()}
        return named | {name: self._pooled(name, named[name]) for name in self._features}

    def _pooled(self, name: str, x: jax.Array) -> jax.Array:
        """As `features.network_inputs`, of `[T, D]` with a T that may be symbolic."""
        pool, length = self.settings.get('pool'), self.settings.get('length')
        if self.stats is not None:
            x = (x - self.stats[f'mean_{name}'][None]) / self.stats[f'std_{name}'][None]
        if pool == 'mean':
            return x.mean(axis=0, keepdims=True)
        if pool == 'sequence':
            return x[jnp.arange(length or x.shape[0]) % x.shape[0]][None]
        together = (self.settings.get('frames_per_row') or {}).get(name, 1)
        return x if together == 1 else x.reshape(-1, together, *x.shape[1:])

    def __call__(self, items: Items) -> jax.Array:
        """What the network makes of each row of a clip."""
        return self.network.by_row(self.inputs(items))


def sound(settings: Mapping, stats: Mapping | None) -> Source:
    """Of `inputs.Sound`: pieces of both channels."""
    heard = inputs.Sound(settings, stats)
    options = dict(settings['front_end'])
    rate = options['sample_rate_hz']
    length = round(settings['piece_s'] * rate)
    facts = _pieces_facts(length, rate) | {
        'front_end': recipe.front_end(**options),
        'standardize': stats and {name: array.tolist() for name, array in stats.items()},
        'resize': {'size': list(settings['size']), 'how': 'bilinear, half-pixel centres'},
    }
    return Source(
        item=jax.ShapeDtypeStruct((length, 2), np.float32),
        takes='audio',
        items=functools.partial(_pieces, length, rate),
        prepare=lambda piece: heard.prepare(None, {'audio': piece[None]})['image'],
        facts=facts,
    )


def frames(settings: Mapping) -> Source:
    """Of `inputs.Frames`: pictures of the network's size, or so many together."""
    shown = inputs.Frames(settings)
    size, count = tuple(settings['size']), settings.get('pictures')

    def items(record):
        given = record['frames']
        if not count:
            return np.stack([media.resize_picture(frame, *size) for frame in given])
        places = media.evenly_spaced(len(given), count)
        return np.stack([media.resize_picture(given[place], *size) for place in places])[None]

    shape = (*size, 3)
    facts = {
        'resize': {'size': list(size), 'how': "the whole picture, Pillow's bilinear"},
        'pictures': count,  # so many of a clip, int((k + 0.5) n / count), make one row
        'scale': 1 / 255,
        'mean': list(settings['mean']),
        'std': list(settings['std']),
    }
    return Source(
        item=jax.ShapeDtypeStruct((count, *shape) if count else shape, np.uint8),
        takes='frames',
        items=items,
        prepare=lambda item: shown.prepare(None, {'frame': item[None]})['image'],
        facts=facts,
    )


def encoder(spec: EncoderSpec, weights_dir: Path) -> Source:
    """Of a frozen encoder, or of a front end whose frames the network takes as they are."""
    if spec.name in FRONT_ENDS:
        return _front_end(spec)
    model = models.create_model(spec.name, **spec.network)
    head = 'keep' if model.num_classes else 'drop'
    variables = weights.load(model, spec.name, spec.weights, weights_dir, head=head)
    network = Network(model, variables, 'features')
    if spec.takes == 'audio':
        return dataclasses.replace(_windows(spec.reading), encoder=network)
    size = model.input_spec.shape[1]
    if spec.name in READING:
        return dataclasses.replace(_openl3_pictures(spec, size), encoder=network)
    return dataclasses.replace(_squares(weights.source_of(spec.name), size), encoder=network)


def _squares(source: weights.Source, size: int) -> Source:
    """Squares cut out of resized pictures, as bytes."""
    resized = math.floor(size / source.crop_fraction)
    how = dict(keep_aspect=source.resize == 'short side', interpolation=source.interpolation)

    def items(record):
        cut = images.resize_and_crop(np.stack(record['frames']), size, resized=resized, **how)
        return np.asarray(cut).astype(np.uint8)

    facts = {
        'resize': {source.resize: resized, 'how': f"Pillow's {source.interpolation}"},
        'crop': {'centre': [size, size]},
        'scale': 1 / 255,
        'mean': list(source.mean),
        'std': list(source.std),
    }
    return Source(
        item=jax.ShapeDtypeStruct((size, size, 3), np.uint8),
        takes='frames',
        items=items,
        prepare=lambda item: images.normalize(
            item[None].astype(jnp.float32), source.mean, source.std
        ),
        facts=facts,
    )


def _openl3_pictures(spec: EncoderSpec, size: int) -> Source:
    def items(record):
        if spec.takes == 'media':
            return np.stack(record['media_frames'])
        return np.stack([media.openl3_pictures(frame, size) for frame in record['frames']])

    facts = {
        'frames': recipe.frames(spec.reading['frames']),
        'same_size': 'pixel / 127.5 - 1, where a picture has the size already; else:',
        'resize': {'short side': size * 8 // 7, 'how': 'bilinear, not enlarged, no antialias'},
        'crop': {'centre': [size, size]},
        'scale': 1 / 255,
    }
    return Source(
        item=jax.ShapeDtypeStruct((size, size, 3), np.float32),
        takes=spec.takes,
        items=items,
        prepare=lambda item: item[None],
        facts=facts,
    )


def _windows(reading: Mapping) -> Source:
    """Windows of a second of one channel, which OpenL3's front end takes."""
    rate, version = openl3.SAMPLE_RATE_HZ, reading['version']

    def items(record):
        sound = resampled(record['audio'].mean(axis=1), record['sample_rate'], rate)
        hop_s, most = float(reading['hop_s']), reading['max_windows']
        return openl3.openl3_views(sound, hop_s=hop_s, centre=reading['centre'], most=most)

    facts = {
        'sample_rate_hz': rate,
        'channels': 'their mean',
        'window': {'samples': openl3.WINDOW, 'hop_s': reading['hop_s']},
        'zeros_before': openl3.WINDOW // 2 if reading['centre'] else 0,
        'most': reading['max_windows'],
        'last': 'completed by zeros',
        'front_end': recipe.front_end('openl3_mel256', sample_rate_hz=rate, version=version),
    }
    return Source(
        item=jax.ShapeDtypeStruct((openl3.WINDOW, 1), np.float32),
        takes='audio',
        items=items,
        prepare=lambda item: openl3.openl3_mel256(item[None], sample_rate_hz=rate, version=version),
        facts=facts,
    )


def _front_end(spec: EncoderSpec) -> Source:
    rate, (length, _) = spec.reading['sample_rate_hz'], spec.input_shape
    front_end, mono = spec.front_end, spec.reading['mono']

    def prepare(piece):
        rows = front_end(piece)
        if mono == 'silent':
            return rows
        second = jnp.where((piece[:, 0] == piece[:, 1]).all(), rows[:, 0], rows[:, 1])
        return jnp.stack([rows[:, 0], second], axis=1)

    facts = _pieces_facts(length, rate) | {
        'front_end': recipe.front_end(spec.name, sample_rate_hz=rate, **spec.network),
        'mono': f'where both channels are equal, the second one of a frame is {mono}',
    }
    item = jax.ShapeDtypeStruct((length, 2), np.float32)
    return Source(item, 'audio', functools.partial(_pieces, length, rate), prepare, facts)


def _pieces_facts(length: int, rate: int) -> dict:
    return {
        'sample_rate_hz': rate,
        'piece': {'samples': length, 'channels': 2},
        'last': 'completed by zeros; left out where it is less than half a piece',
    }


def _pieces(length: int, rate: int, record: Mapping) -> np.ndarray:
    """Pieces `[T, length, 2]`; a clip has one at least."""
    audio = resampled(record['audio'], record['sample_rate'], rate)
    count = max(1, round(len(audio) / length))
    audio = np.pad(audio[: count * length], ((0, max(0, count * length - len(audio))), (0, 0)))
    pieces = audio.reshape(count, length, -1)
    return np.ascontiguousarray(np.broadcast_to(pieces, (count, length, 2)))
