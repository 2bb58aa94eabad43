"""Frozen networks with their preprocessing: sound or pictures of a clip in, embeddings out."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from avsc_jax import models, weights
from avsc_jax.audio.efficientat import WINDOW_S
from avsc_jax.data import media
from avsc_jax.data.batches import call_sizes
from avsc_jax.input_pipeline.sound import FRONT_ENDS, SOUND_WINDOWS, FrontEndPieces
from avsc_jax.input_pipeline.transform import OpenL3Pictures, Squares, Transform
from avsc_jax.models.efficientat import PUBLISHED as EFFICIENTAT
from avsc_jax.models.sources import Source
from avsc_jax.runtime import compiler, compiling
from avsc_jax.runtime.options import check_numbers

FRAMES_PER_CALL = 64  # on each device
WINDOWS_PER_CALL = 16
ITEMS_OF_CLIP = 12  # pictures; most other counts take calls of the same size
CACHE_FORMAT = 4  # increase it when features change for the same spec

# Options of how clips are read for an encoder, with their defaults; others are the network's.
READING: dict[str, dict[str, Any]] = {
    'openl3_audio': {'version': '0.3.1', 'hop_s': 0.1, 'centre': True, 'max_windows': None},
    'openl3_image': {'frames': None},
    'yamnet': {'hop_s': 0.48, 'gain': None},
    **{name: {'window_s': WINDOW_S, 'hop_s': WINDOW_S} for name in EFFICIENTAT},
}
READING |= {
    name: {'piece_s': 10.0, 'sample_rate_hz': 48000, 'mono': 'silent', 'pieces_together': 1}
    for name in FRONT_ENDS
}
NO_WEIGHTS = 'none'
SCALE = ('mean', 'std')  # options that replace those of the published weights


@dataclasses.dataclass(frozen=True)
class EncoderSpec:
    """A frozen encoder's name, options and weights: all that its features depend on.

    Args:
      name: a name of `models.list_models()`, such as 'clip_rn101'.
      options: of `models.create_model`, and of how clips are read. For OpenL3's sound: `version`
        (of openl3), `hop_s` and `centre` of the windows, and `max_windows` of a clip of ten
        seconds, see `OpenL3Windows`; later ones are dropped.
        For its pictures: `frames`, the rule that picks them from a clip's video file at their
        native size; None takes the frames of the record.
        For YAMNet: `hop_s` from patch to patch, and `gain`, see `YAMNetWindows`.
        For EfficientAT: `window_s` and `hop_s`, see `EfficientATWindows`.
        For a front end: `piece_s`, the length of the pieces that sound is cut into,
        `sample_rate_hz`, `mono` (the second channel of mono sound is 'silent', or a 'duplicate' of
        the first) and `pieces_together`, how many pieces side by side make one item. Its other
        options are those of the front end's function.
        For networks of pictures: `mean` and `std` of R, G and B, if the weights are not the
        published ones.
      weights: 'random:SEED', or the SHA-256 of a weights file; 'none' for a front end.
    """

    name: str
    options: Mapping
    weights: str

    @property
    def reading(self) -> dict[str, Any]:
        """The options of how clips are read, with their defaults."""
        defaults = READING.get(self.name, {})
        return {name: self.options.get(name, default) for name, default in defaults.items()}

    @property
    def network(self) -> dict[str, Any]:
        """The options of the network or of the front end's function."""
        others = {*READING.get(self.name, ()), *self.scale}
        return {name: value for name, value in self.options.items() if name not in others}

    @property
    def scale(self) -> dict[str, Any]:
        """The mean and deviation of pictures that the options state."""
        if self.name in FRONT_ENDS:
            return {}
        return {name: self.options[name] for name in SCALE if name in self.options}

    @property
    def source(self) -> Source:
        """The published weights, with the `scale` of these options."""
        return dataclasses.replace(weights.source_of(self.name), **self.scale)

    @property
    def takes(self) -> Literal['audio', 'frames', 'media']:
        """The part of a clip that is encoded: sound, a record's frames, or pictures of a video."""
        if self.name in FRONT_ENDS or weights.source_of(self.name).resize is None:
            return 'audio'
        return 'media' if self.reading.get('frames') else 'frames'

    def check(self) -> None:
        """Raises ValueError if an option is unknown or absurdly large; no weights are read."""
        check_numbers(self.name, self.options)
        if self.name not in FRONT_ENDS:
            models.check_input(self.name, models.input_spec(self.name, **self.network))
        for name, values in self.scale.items():
            if not _are_three(values, above={'mean': -1, 'std': 0}[name]):
                raise ValueError(
                    f'{name} of {self.name} is {values}; it must be three numbers for R, G and B, '
                    'of pixels in [0, 1]'
                )
        _ = self.transform  # made once

    def replace(self, **options: Any) -> 'EncoderSpec':
        """Returns a copy with some options changed."""
        return dataclasses.replace(self, options={**self.options, **options})

    def to_json(self) -> dict:
        options = self.network | self.reading | self.scale
        return {'name': self.name, 'options': options, 'weights': self.weights}

    @property
    def num_parameters(self) -> int:
        if self.name in FRONT_ENDS:
            return 0
        return models.count_parameters(self.name, **self.network)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one item: a piece of sound, or the network's input."""
        if self.name in FRONT_ENDS:
            length, channels = self.transform.item.shape
            return length * self.reading['pieces_together'], channels
        return models.input_spec(self.name, **self.network).shape[1:]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of an item's features: an embedding `(D,)`, or frames `(T, 2, F)`."""
        if self.name in FRONT_ENDS:
            piece = jax.ShapeDtypeStruct((1, *self.input_shape), np.float32)
            return jax.eval_shape(self.transform.prepare, piece).shape
        model = models.create_model(self.name, **self.network)
        shapes = models.variable_shapes(model)
        return jax.eval_shape(model.apply, shapes, model.input_spec)[0].shape[1:]

    @functools.cached_property
    def transform(self) -> Transform:
        """The preprocessing before the network, or the whole front end."""
        if self.name in FRONT_ENDS:
            return FrontEndPieces(self.name, self.reading, self.network)
        if self.takes == 'audio':
            return SOUND_WINDOWS[self.name](self.reading)
        size = models.input_spec(self.name, **self.network).shape[1]
        if self.name in READING:
            return OpenL3Pictures(self.reading['frames'], size)
        return Squares(self.source, size)

    def key(self, fingerprint: str) -> str:
        """Returns a hash of the encoder, its preprocessing and its data's fingerprint."""
        seen: list[object] = []
        if self.name not in FRONT_ENDS:
            source = self.source
            seen += [source.resize, source.interpolation, source.crop_fraction]
            seen += [source.mean, source.std]
        facts = [CACHE_FORMAT, self.to_json(), *seen, fingerprint]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]

    def pictures(self, file: media.MediaFile, *, max_duration_s: float | None = None) -> dict:
        """Reads `media_frames`, their times and `media_filled` of a record from its video file."""
        size = models.input_spec(self.name, **self.network).shape[1]
        resize = functools.partial(media.openl3_pictures, size=size)
        frames = media.read_frames(
            file, self.reading['frames'], resize=resize, max_duration_s=max_duration_s
        )
        record = {'media_frames': list(frames.images), 'media_times': frames.times_s}
        return record | {'media_filled': frames.filled}

    def make(self, weights_dir: Path) -> 'Encoder':
        """Builds the encoder, with weights from this folder, or the front end."""
        return FrontEndEncoder(self) if self.name in FRONT_ENDS else Encoder(self, weights_dir)


def _are_three(values: Any, *, above: float) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(value, int | float) and above < value <= 1 for value in values)
    )


class FrozenSpec(Protocol):
    """The interface of a frozen encoder's spec, such as EncoderSpec."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str: ...

    @property
    def takes(self) -> str: ...

    @property
    def num_parameters(self) -> int: ...

    def key(self, fingerprint: str) -> str: ...

    def make(self, weights_dir: Path) -> 'Encoder': ...

    def to_json(self) -> dict: ...


class TrainedSpec(FrozenSpec, Protocol):
    """The interface of the spec of a trained run as an encoder; see RunSpec."""

    @property
    def settings(self) -> Mapping: ...

    @property
    def augmentation(self) -> Mapping: ...

    def network(self) -> tuple[nn.Module, Mapping]: ...


class Encoder:
    """A jitted network with its preprocessing: frames or windows of sound in, embeddings out.

    Args:
      devices: default all of this process; each encodes its part of the items.

    Attributes:
      model: the network.
      output: what is taken of it, 'features' or 'embedding'.
      encoders: those whose features it takes itself; only a run as an encoder has some.
    """

    model: nn.Module
    output: Literal['features', 'embedding'] = 'features'
    encoders: Sequence['Encoder'] = ()
    _ahead: Future | None = None  # see compile_ahead

    def __init__(self, spec: EncoderSpec, weights_dir: Path, devices: list | None = None):
        mesh = self._spread(spec, devices)
        model = models.create_model(spec.name, **spec.network)
        # published files have a head, which features leave out
        head = 'keep' if model.num_classes else 'drop'
        self._variables = jax.device_put(
            weights.load(model, spec.name, spec.weights, weights_dir, head=head),
            NamedSharding(mesh, PartitionSpec()),
        )
        self._prepare = jax.jit(self.transform.prepare)
        self.model, self._encode = model, compiling.told(compiled(model), spec.name)

    def run_by(self, beside: Callable[[Callable], Callable]) -> None:
        """Lets another runtime run the network: `beside` gets the function by JAX."""
        self._encode = beside(self._encode)

    def _spread(self, spec: EncoderSpec, devices: list | None) -> Mesh:
        """Sets spec, transform and sharding, and returns the mesh of the devices."""
        self.spec, devices = spec, devices or jax.local_devices()
        if isinstance(spec, EncoderSpec):  # a run has its own preprocessing
            self.transform = spec.transform
        mesh = Mesh(np.asarray(devices), ('items',))
        self._num_devices = len(devices)
        self._sharding = NamedSharding(mesh, PartitionSpec('items'))
        return mesh

    def items(self, record: Mapping) -> Sequence[np.ndarray]:
        """Returns the items of a clip, which `__call__` takes; see Transform.items."""
        return self.transform.items(record)

    def times_s(self, record: Mapping, count: int) -> np.ndarray:
        """Times of a clip's items in seconds: the middles of windows, or starts if not `centre`."""
        if self.spec.takes == 'audio':
            return np.arange(count) * self.spec.reading['hop_s']
        name = 'media_times' if self.spec.takes == 'media' else 'frame_times'
        return record[name][:count]

    def notes(self, record: Mapping) -> list[str]:
        """Says what a user should know about how a clip was read."""
        return self.transform.notes(record)

    def count(self, items: Sequence[np.ndarray]) -> int:
        """Returns how many rows `__call__` makes of items."""
        return len(items)

    @property
    def items_per_call(self) -> int:
        """The most items that all devices together encode in one call."""
        most = WINDOWS_PER_CALL if self.spec.takes == 'audio' else FRAMES_PER_CALL
        return most * self._num_devices

    def __call__(self, items: Sequence[np.ndarray], *, of: int = 0) -> np.ndarray:
        """Encodes items to float32 `[T, D]`; those of one size share batches.

        Args:
          of: the number of items that other calls have; fewer take shapes of those, so that the
            last ones of many compile nothing anew.

        Raises:
          ValueError: a picture has not the network's size, as those of `items` have.
        """
        self._check(items)
        ahead, self._ahead = self._ahead, None
        if ahead:
            ahead.result()
        return self._encoded(items, of)

    def _encoded(self, items: Sequence[np.ndarray], of: int) -> np.ndarray:
        """Encodes items by calls of the sizes that `of` of them take."""
        parts, embeddings = [], []
        for size in sorted({item.shape for item in items}):
            places = [i for i, item in enumerate(items) if item.shape == size]
            for length in self._lengths(max(len(places), of)):
                if not places:  # calls that only the `of` others need
                    break
                part, places = places[:length], places[length:]
                batch = np.zeros((length, *size), items[part[0]].dtype)
                batch[: len(part)] = [items[i] for i in part]
                batch = jax.device_put(batch, self._sharding)
                embeddings.append(self._encode(self._variables, self._prepare(batch)))
                parts.append((part, length))
                # The host makes the next batch while the device works on this one; no third waits.
                embeddings[-2:-1] = jax.device_get(embeddings[-2:-1])
        rows: dict[int, np.ndarray] = {}
        for (places, length), output in zip(parts, embeddings, strict=True):
            # a front end gives several rows of each item
            by_item = np.asarray(output).reshape(length, -1, *output.shape[1:])
            rows |= zip(places, by_item, strict=False)  # the rest is padding
        return np.concatenate([rows[place] for place in range(len(items))])

    def compile_ahead(self) -> None:
        """Compiles for the items of a lone clip in a thread; the first call waits for it."""
        item = self.transform.item
        zeros = [np.zeros(item.shape, item.dtype)] * self._lengths(ITEMS_OF_CLIP)[0]
        thread = ThreadPoolExecutor(1)
        self._ahead = thread.submit(self._encoded, zeros, len(zeros))
        thread.shutdown(wait=False)

    def _lengths(self, count: int) -> list[int]:
        """Returns the sizes of the calls that encode a count of items."""
        share = -(-count // self._num_devices)
        most = self.items_per_call // self._num_devices
        sizes = call_sizes(share, most, **compiler.call_sizes())
        return [size * self._num_devices for size in sizes]

    def _check(self, items: Sequence[np.ndarray]) -> None:
        if not isinstance(self.spec, EncoderSpec) or self.spec.takes == 'audio':
            return
        wanted = self.transform.item.shape
        for item in items:
            if item.shape != wanted:
                raise ValueError(
                    f'{self.spec.name} gets a picture of shape {item.shape} and takes {wanted}; '
                    'give what items() returns'
                )


class FrontEndEncoder(Encoder):
    """A jitted front end: pieces of sound in, frames `[frames of all pieces, 2, F]` out."""

    def __init__(self, spec: EncoderSpec, devices: list | None = None):
        self._spread(spec, devices)
        self._variables, self._prepare = None, jax.jit(self.transform.prepare)
        self._encode = lambda _, frames: frames
        self._count = functools.cache(self._count_of)  # tracing takes a tenth of a second

    def count(self, items: Sequence[np.ndarray]) -> int:
        """Returns how many frames the front end makes of items."""
        return sum(self._count(item.shape) for item in items)

    def _count_of(self, shape: tuple[int, ...]) -> int:
        """Returns how many frames the front end makes of one item of this shape."""
        item = jax.ShapeDtypeStruct((1, *shape), np.float32)
        return jax.eval_shape(self.transform.prepare, item).shape[0]


def compiled(encoder: nn.Module) -> Callable[[Mapping, jax.Array], jax.Array]:
    """Compiles an encoder to a function (variables, images `[B, H, W, 3]`) -> `[B, D]`."""
    options = compiler.options(training=False)
    return jax.jit(lambda variables, x: encoder.apply(variables, x)[0], compiler_options=options)


def embedding(model: nn.Module, variables: Mapping, rows: jax.Array) -> jax.Array:
    """Returns the embedding `[B, D]` of `rows [B, ...]`, which is the input of the head."""
    return model.apply(variables, rows)[1]['embedding']
