"""The joint network: a picture network and a sound network trained together, of any kinds.

Their embeddings are joined and classified, as in IOA-CAS's hybrid, but nothing is frozen. A sense
that a row does not have is an input of zeros, and a learned embedding stands for it.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from avsc_jax import models
from avsc_jax.layers.attention import AttentionPooling
from avsc_jax.layers.dropout import Dropout, ModalityDropout
from avsc_jax.layers.linear import Linear
from avsc_jax.layers.norm import BatchNorm
from avsc_jax.types import Array, Bool, Float

Sense = Literal['picture', 'sound']


class Joint(nn.Module, kw_only=True):
    """Classifies a picture and the sound of its second by the embeddings of two networks.

    A row may lack a sense: `image` or `sound` is then nothing but zeros. No picture is that once
    it is normalised, unless its mean is a whole number of grey levels; silence becomes it before
    the network. In training, `modality_dropout` leaves out a sense of rows that have both, so that
    the other learns to answer alone. Mixup's mixture of a row with and one without a sense has it.

    Attributes:
      picture, sound: `name` and options of the networks. One of frames `[K, F]`, such as resnet1d,
        gets the frames of a second one by one, which attention joins.
      sound_shape: of the sound of one row: frames `[T, K, F]`, or a spectrum `[bands, T, K]`.
      modality_dropout: the probability that a row loses one of its two senses in training.
      hidden: outputs of the layer that joins the two.
      dropout: the rate before the head.
      attention_width: see `AttentionPooling`.

    Source: Wang et al. 2021 (IOA-CAS), Figure 1, for the joining; the training of both together and
    the embeddings of absent senses are ours.
    """

    DEPTH = ('picture|sound', r'attention|absent_\w+|fc1|bn1')
    num_classes: int = 10
    picture: Mapping[str, Any] = nn.FrozenDict(name='resnet50')
    sound: Mapping[str, Any] = nn.FrozenDict(name='resnet1d')
    sound_shape: tuple[int, int, int] = (6, 2, 256)
    modality_dropout: float = 0.2
    hidden: int = 512
    dropout: float = 0.2
    attention_width: int = 128

    @property
    def input_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            'image': self.part('picture').input_spec,
            'sound': jax.ShapeDtypeStruct((1, *self.sound_shape), jnp.float32),
        }

    @nn.compact
    def __call__(
        self, inputs: Mapping[str, Array], *, train: bool = False
    ) -> tuple[Float[Array, 'B C'], dict[str, Array]]:
        images, sound = self._checked(inputs)
        is_there = jnp.stack([_is_there(images), _is_there(sound)], axis=1)
        kept = ModalityDropout(self.modality_dropout, name='modality_drop')(is_there, train=train)
        # the pictures' network is the last: heat maps are of the last feature map
        heard, out = self._heard(sound, train=train)
        network = self._made('picture', parent=self, part='picture')
        seen = network(images, train=train)[1]['embedding']
        joined = [
            jnp.where(kept[:, place, None], x, self._absent(sense, x))
            for place, (sense, x) in enumerate((('picture', seen), ('sound', heard)))
        ]
        x = Linear(self.hidden, name='fc1')(jnp.concatenate(joined, axis=-1))
        x = nn.relu(BatchNorm(name='bn1')(x, train=train))
        out |= {'picture': joined[0], 'sound': joined[1], 'embedding': x.astype(jnp.float32)}
        if not self.num_classes:
            return out['embedding'], out
        x = Dropout(self.dropout, name='head_drop')(out['embedding'], train=train)
        return Linear(self.num_classes, name='head')(x), out

    def part(self, name: Sense) -> nn.Module:
        """Returns the picture network or the sound network, as a network of its own."""
        return self._made(name, parent=None)

    def _made(self, name, **where):
        options = dict({'picture': self.picture, 'sound': self.sound}[name])
        if 'name' not in options:
            raise ValueError(
                f'the joint network has no name of its {name} network; set config.model.{name}.name'
            )
        return models.create_part(options.pop('name'), num_classes=0, **where, **options)

    def _heard(self, sound, *, train):
        """Returns the sound's embedding `[B, D]` and, if it has frames, their weights by name."""
        network = self._made('sound', parent=self, part='sound')
        if len(network.input_spec.shape) > len(self.sound_shape):
            return network(sound, train=train)[1]['embedding'], {}
        frames = network(sound.reshape(-1, *sound.shape[2:]), train=train)[1]['embedding']
        frames = frames.reshape(*sound.shape[:2], -1)
        pooling = AttentionPooling('additive', self.attention_width, name='attention')
        heard, weights = pooling(frames)
        return heard, {'attention': weights}

    def _absent(self, sense, x):
        """Returns the embedding `[1, D]` that stands for a sense: zeros until it is learned."""
        return self.param(f'absent_{sense}', nn.initializers.zeros, x.shape[1:])[None]

    def _checked(self, inputs):
        """Returns (images, sound); raises ValueError where one is missing or has another shape."""
        for name in ('image', 'sound'):
            if name not in inputs:
                raise ValueError(f'no input {name} among {", ".join(sorted(inputs))}')
        images, sound = inputs['image'], inputs['sound']
        if sound.shape[1:] != tuple(self.sound_shape):
            raise ValueError(
                f'sound is {list(sound.shape)}, the network expects '
                f'[B, {", ".join(map(str, self.sound_shape))}] (sound_shape)'
            )
        return images, sound


def _is_there(x: Float[Array, 'B *axes']) -> Bool[Array, 'B']:
    return (x != 0).any(axis=tuple(range(1, x.ndim)))


MODELS = {'joint': functools.partial(Joint)}
