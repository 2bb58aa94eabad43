"""A finished run as one traceable function of a clip's arrays, and its parts in plain data.

A `System` takes *items*: the pieces, windows or pictures of one clip that another program can make
without this package, since each is cut or resized only. What comes after that, front ends and
encoders too, is traceable.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax import ensemble, models, weights
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.input_pipeline.media_inputs import RowInputs
from avsc_jax.input_pipeline.pooling import common_places, network_inputs
from avsc_jax.input_pipeline.sound import FRONT_ENDS
from avsc_jax.input_pipeline.transform import Transform, filled_times
from avsc_jax.types import Kind

Items = dict[str, Any]  # name of a source -> array [T, ...], or the items of a run as a source


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network with its variables, the output that is taken, and the kind of its classes."""

    model: nn.Module
    variables: Mapping
    output: Literal['probs', 'features', 'embedding']
    kind: Kind = 'exclusive'

    def __call__(self, inputs: Mapping[str, jax.Array]) -> jax.Array:
        """Returns probabilities `[B, C]`, or features or an embedding `[B, D]`."""
        alone = not isinstance(self.model.input_spec, Mapping)
        first, out = self.model.apply(self.variables, inputs['image'] if alone else dict(inputs))
        if self.output == 'probs':
            return ensemble.probabilities(first, self.kind)
        return first if self.output == 'features' else out['embedding']

    def by_row(self, inputs: Mapping[str, jax.Array]) -> jax.Array:
        """Applies the network to each row by itself: the number of rows may be symbolic."""

        def one(row: Mapping[str, jax.Array]) -> jax.Array:
            return self({name: array[None] for name, array in row.items()})[0]

        return jax.vmap(one)(dict(inputs))


@dataclasses.dataclass(frozen=True, eq=False)
class SystemInput:
    """One input of a system: a transform and, optionally, the frozen encoder of its rows."""

    transform: Transform
    encoder: Network | None = None

    @property
    def item(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one item."""
        return self.transform.item

    @property
    def takes(self) -> str:
        """The part of a record that is taken; see Transform."""
        return self.transform.takes

    @property
    def facts(self) -> Mapping:
        """The transform in plain data."""
        return self.transform.facts

    def items(self, record: Mapping) -> np.ndarray:
        """Returns the items of a record `[T, *item]`, on the host."""
        return np.stack(self.transform.items(record))

    def prepared(self, items: jax.Array) -> jax.Array:
        """Turns items `[T, *item]` into rows `[R, ...]`; T may be symbolic."""
        rows = jax.vmap(lambda item: self.transform.prepare(item[None]))(items)
        return jnp.reshape(rows, (-1, *rows.shape[2:]))

    def __call__(self, items: jax.Array) -> jax.Array:
        """Turns items `[T, *item]` into embeddings `[T, D]` or, without an encoder, into rows."""
        rows = self.prepared(items)
        return rows if self.encoder is None else self.encoder.by_row({'image': rows})


@dataclasses.dataclass(frozen=True, eq=False)
class System:
    """A finished run: items of a clip in, the probabilities `[R, C]` of its rows out."""

    network: Network
    settings: Mapping  # the run's preprocessing
    stats: Mapping[str, np.ndarray] | None
    sources: Mapping[str, 'SystemInput | System']

    @property
    def takes(self) -> str:
        """The part of a record that its sources take; of a run that is an encoder, they are one."""
        return next(iter(self.sources.values())).takes

    @property
    def names(self) -> dict[str, str]:
        """Maps each input of the network to its source."""
        alone = [name for name in self.sources if name not in self._encoders]
        if len(alone) > 1:
            return {self._alone(name).name: name for name in alone}
        return self._features | ({'image': alone[0]} if alone else {})

    def _alone(self, name: str) -> 'RowInputs':
        """Returns the transform of a source whose rows the network itself takes."""
        source = self.sources[name]
        assert isinstance(source, SystemInput) and isinstance(source.transform, RowInputs)
        return source.transform

    @property
    def takes_both(self) -> bool:
        """Whether the network itself takes a frame and the piece of sound of the same time."""
        return len(self.sources) > 1 and not self._encoders

    @property
    def _encoders(self) -> list[str]:
        return [about['name'] for about in self.settings.get('encoders', ())]

    @property
    def _features(self) -> dict[str, str]:
        """Maps the inputs that are embeddings or a front end's frames to their source."""
        named = self.settings.get('inputs')
        return dict(named or {f'features/{name}': name for name in self._encoders})

    def items(self, record: Mapping) -> Items:
        """Returns the items of a decoded record, by source.

        Of encoders whose items make a row each, they are those of the same times.
        """
        items = {name: source.items(record) for name, source in self.sources.items()}
        timed = self._encoders or ([*self.sources] if self.takes_both else [])
        filled = filled_times(record, {name: self.sources[name].takes for name in timed})
        is_whole = all(each.all() for each in filled.values()) and not self.takes_both
        if self.settings.get('pool') is None and not is_whole:
            counts = {name: len(jax.tree.leaves(items[name])[0]) for name in timed}
            for name, places in common_places(counts, filled).items():
                items[name] = jax.tree.map(lambda each, places=places: each[places], items[name])
        return items

    def inputs(self, items: Items) -> dict[str, jax.Array]:
        """Returns the network's inputs `[R, ...]` by name."""
        return self.inputs_of({name: source(items[name]) for name, source in self.sources.items()})

    def inputs_of(self, made: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Returns the network's inputs of what its sources have made of a clip, by source."""
        embedded = {name: x[None] for name, x in made.items() if name in self._encoders}
        pooled = network_inputs(self.settings, embedded, self.stats) if embedded else {}
        return pooled | {name: made[of] for name, of in self.names.items() if name not in pooled}

    def __call__(self, items: Items) -> jax.Array:
        """Returns the network's output for each row of a clip."""
        return self.network.by_row(self.inputs(items))


def of_encoder(spec: EncoderSpec, weights_dir: Path) -> SystemInput:
    """Makes the input of a frozen encoder with its transform, or of a front end."""
    if spec.name in FRONT_ENDS:
        return SystemInput(spec.transform)
    model = models.create_model(spec.name, **spec.network)
    head = 'keep' if model.num_classes else 'drop'
    variables = weights.load(model, spec.name, spec.weights, weights_dir, head=head)
    return SystemInput(spec.transform, Network(model, variables, 'features'))
