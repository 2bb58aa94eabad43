"""A ready-made system for classes of one's own: CLIP's zero-shot prediction, without a run."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax import models, weights
from avsc_jax.data.sources.source import CLIP_S
from avsc_jax.input_pipeline import system
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.input_pipeline.preprocess import FeatureInputs
from avsc_jax.models import clip_tokens, clip_vit, clip_zero_shot
from avsc_jax.predict import class_texts, kept_texts
from avsc_jax.predict.class_texts import ENCODER, PROMPT
from avsc_jax.predict.embeddings import encoder_options
from avsc_jax.predict.member import Member
from avsc_jax.predict.predictor import Predictor
from avsc_jax.runtime import compiling
from avsc_jax.runtime.files import printable
from avsc_jax.scenes import SCENES
from avsc_jax.types import Array
from avsc_jax.weights.cache import default_weights_dir

TEXTS_PER_CALL = 64
SHARED = ('output_dim', 'activation')  # options of both towers
# How pictures are picked from a clip, as in configs/clip_zero_shot.py.
READING = {'items': 'frame', 'frames': 'clip12', 'short_side': 448, 'window_s': CLIP_S}


def zero_shot(
    classes: Sequence[str] = SCENES,
    *,
    encoder: str = ENCODER,
    prompts: Sequence[str] = (PROMPT,),
    weights_dir: str | os.PathLike | None = None,
    origin: str | None = None,
    download: bool = False,
) -> Predictor:
    """Makes a predictor of any classes from their names, by CLIP; nothing is trained.

    A clip's probabilities are the mean over its pictures.

    Args:
      classes: their names; underscores are read as spaces.
      encoder: a CLIP network of pictures, and options of it or, with `text_` before, of its text
        tower, such as 'clip_vit_b32:width=64,text_width=64'; those of SHARED go to both.
      prompts: sentences with {} for a name. A class is the mean of the unit vectors of its
        sentences, made a unit vector again.
      weights_dir: the folder of published weights; None is ~/.cache/avsc_jax/weights.
      origin: 'random:SEED' instead of the published weights.
      download: fetch the weights if they are missing.

    Raises:
      FileNotFoundError: the weights are missing.
      ValueError: a class is empty or named twice, a prompt has no {}, a sentence is too long, the
        encoder is no CLIP network, or its weights are not those that are published.

    Source: Radford et al. 2021, Section 3.1.4.

    Example:
      >>> tiny = 'width=16,layers=1,patch_size=16,image_size=32,text_width=16,text_layers=1'
      >>> encoder = f'clip_vit_b32:{tiny}'
      >>> predictor = zero_shot(['beach', 'city street'], encoder=encoder, origin='random:0')
      >>> picture = np.zeros((48, 64, 3), np.uint8)
      >>> (answer,) = predictor.answers([{'frames': [picture], 'frame_times': np.zeros(1)}])
      >>> predictor.classes, answer.probs.shape
      (('beach', 'city street'), (2,))
    """
    names, templates = class_texts.classes(classes), class_texts.prompts(prompts)
    seen, read = _specs(encoder)
    folder = Path(weights_dir) if weights_dir else default_weights_dir()
    token_ids = _token_ids(names, templates)
    if download and not origin:
        weights.download_all([seen.name], folder)
    with ThreadPoolExecutor(1) as thread:
        if seen.name in clip_vit.MODELS:
            thread.submit(clip_vit.flax_clip)  # an import of 0.7 s, while the file is hashed
        seen, read = (_with_weights(spec, folder, origin) for spec in (seen, read))
        opening = thread.submit(seen.make, folder)
        known = [read.to_json(), token_ids.tolist(), len(templates)]
        kernel = kept_texts.kept(
            known, lambda: _head(_encoded(read, token_ids, folder), len(templates))
        )
        of_pictures = opening.result()
    of_pictures.compile_ahead()
    model = models.create_model(
        'clip_zero_shot', encoder=seen.name, width=kernel.shape[0], num_classes=len(names)
    )
    variables = {'params': {'head': {'kernel': jnp.asarray(kernel)}}}
    settings = READING | {'encoders': [seen.to_json()]}
    facts = [settings, read.to_json(), names, templates]
    title = f'zero-shot {seen.name}'
    network = system.Network(model, variables, 'probs')
    member = Member(
        title,
        model,
        variables,
        FeatureInputs(settings, [of_pictures]),
        names,
        hashed=lambda: hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16],
        system=lambda: system.System(
            network, settings, None, {seen.name: system.of_encoder(seen, folder)}
        ),
    )
    return ReadyMade(title, [member], [])


class ReadyMade(Predictor):
    """A predictor of networks that were not trained on clips: windows may have any length."""

    def window_notes(self, window_s: float) -> list[str]:
        """Returns no notes: the networks take sound and pictures of any length."""
        return []


def unit_mean(embeddings: np.ndarray, count: int) -> Array:
    """Averages the unit vectors of each `count` rows `[C count, D]`, to unit vectors `[C, D]`."""
    units = clip_zero_shot.unit(jnp.asarray(embeddings))
    return clip_zero_shot.unit(units.reshape(-1, count, units.shape[1]).mean(axis=1))


def _head(embeddings: np.ndarray, count: int) -> np.ndarray:
    """Returns the head's kernel `[D, C]` for the embeddings of `count` sentences a class."""
    variables = clip_zero_shot.text_head(unit_mean(embeddings, count))
    return np.asarray(variables['params']['head']['kernel'], order='C')


def _specs(encoder: str) -> tuple[EncoderSpec, EncoderSpec]:
    """Returns the towers of pictures and of texts that an encoder's name and options mean."""
    name, given = encoder_options(encoder)
    text = f'{name}_text'
    if text not in models.list_models():
        towers = [n.removesuffix('_text') for n in models.list_models() if n.endswith('_text')]
        raise ValueError(f'{name} reads no texts; --zero_shot takes one of {", ".join(towers)}')
    options = {k: v for k, v in given.items() if not k.startswith('text_')}
    of_text = {k.removeprefix('text_'): v for k, v in given.items() if k.startswith('text_')}
    of_text |= {k: v for k, v in given.items() if k in SHARED}
    if name not in clip_vit.MODELS:  # the others have no activation of their own
        options.pop('activation', None)
    seen, read = EncoderSpec(name, options, ''), EncoderSpec(text, of_text, '')
    seen.check()
    models.create_model(text, **of_text)  # raises for an unknown option
    return seen, read


def _with_weights(spec: EncoderSpec, folder: Path, origin: str | None) -> EncoderSpec:
    own = origin or weights.identify(spec.name, folder, options=spec.options)
    return dataclasses.replace(spec, weights=own)


def _token_ids(names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """Returns the ids `[C templates, 77]` of every class in every prompt, class after class.

    Raises:
      ValueError: a text is too long, or two classes are read alike.
    """
    texts = [class_texts.filled(template, name) for name in names for template in templates]
    ids = clip_tokens.token_ids(texts)
    first: dict[bytes, str] = {}
    for name, own in zip(names, ids.reshape(len(names), -1), strict=True):
        if (other := first.setdefault(own.tobytes(), name)) is not name:
            raise ValueError(
                f'the classes {printable(other)!r} and {printable(name)!r} are read alike; leave '
                'one of the two out'
            )
    return ids


def _encoded(spec: EncoderSpec, token_ids: np.ndarray, folder: Path) -> np.ndarray:
    """Encodes token ids `[N, 77]` to `[N, D]`, some at a time: all calls have one shape."""
    tower = models.create_model(spec.name, **spec.options)
    variables = jax.device_put(weights.load(tower, spec.name, spec.weights, folder))
    encode = compiling.told(jax.jit(lambda *given: tower.apply(*given)[0]), spec.name)
    size = min(TEXTS_PER_CALL, len(token_ids))
    padded = np.zeros((-(-len(token_ids) // size) * size, token_ids.shape[1]), np.int32)
    padded[: len(token_ids)] = token_ids
    parts = [encode(variables, part) for part in padded.reshape(-1, size, padded.shape[1])]
    return np.concatenate(parts)[: len(token_ids)]
