"""What several members say together: their average, and the decision stage of Hitachi's system."""

from collections.abc import Sequence

import jax
import numpy as np

from avsc_jax import metrics
from avsc_jax.ensemble import rules
from avsc_jax.types import AnyArray, Array, Bool, Float

TRUSTED = ('bus', 'park', 'tram')  # Okazaki 2021, Sec. 2.4: where sound is as good as the picture
MARGIN_TOLERANCE = 1e-6  # float32 values a margin apart count as equal to it


def average(
    members: Sequence[Float[AnyArray, 'N C']],
    weights: Float[Array, 'M'] | None = None,
    *,
    geometric: bool = False,
    clamp: str | None = None,
) -> Float[AnyArray, 'N C']:
    """Arithmetic or geometric mean of M members, as they are or clamped.

    Args:
      weights: one a member; None: all alike.
      clamp: Eq. (1) of Okazaki 2021 on each member ('per_model'), on the mean ('fused'), or None.
    """
    rules.check_option('clamp', clamp, (None, 'per_model', 'fused'))
    stacked = rules.namespace(members[0]).stack([*members])
    stacked = rules.clamp(stacked) if clamp == 'per_model' else stacked
    mixed = (rules.geometric_mean if geometric else rules.mean)(stacked, weights)
    return rules.clamp(mixed) if clamp == 'fused' else mixed


def gate(
    audio: Float[Array, 'N C'],
    visual: Float[Array, 'M N C'],
    reading: str = 'visual_mean',
    margin: float = 0.20,
) -> Bool[Array, 'M N']:
    """Where the sound is so much surer than the picture that it takes the picture's place.

    Args:
      audio: of the sound, mean of its models.
      visual: of each picture model.
      reading: 'visual_mean' compares the largest value of the visual mean and decides for all
        models; 'per_model' compares each model's own.
      margin: the largest value of the sound must be higher by more than this.

    Source: Okazaki 2021, Sec. 2.4, which leaves the reading open.
    """
    rules.check_option('gate', reading, ('visual_mean', 'per_model'))
    xp = rules.namespace(visual)
    of_picture = visual.mean(axis=0, keepdims=True) if reading == 'visual_mean' else visual
    lead = audio.max(axis=-1)[None] - of_picture.max(axis=-1)
    return xp.broadcast_to(lead > margin + MARGIN_TOLERANCE, visual.shape[:2])


def restrict(
    audio: Float[AnyArray, 'N C'],
    visual: Float[AnyArray, 'M N C'],
    trusted: Bool[np.ndarray, 'C'],
    reading: str = 'per_class',
) -> Float[AnyArray, 'N C']:
    """Mean of sound and picture models in which the sound counts for some classes only.

    Args:
      audio: of the sound, mean of its models.
      visual: of each picture model.
      trusted: the classes whose sound counts.
      reading: 'per_class' leaves the sound out of the other classes' means, whose sum is not 1
        then; 'zero' counts it there as 0; 'argmax' takes the sound whole where its largest value is
        of a trusted class and leaves it out elsewhere.

    Source: Okazaki 2021, Sec. 2.4, which leaves the reading open.
    """
    rules.check_option('restrict', reading, ('per_class', 'zero', 'argmax'))
    xp = rules.namespace(visual)
    both = rules.mean(xp.concatenate([audio[None], visual]))
    if reading == 'argmax':
        heard = xp.asarray(trusted)[audio.argmax(axis=-1)][:, None]
    else:
        heard = xp.asarray(trusted)[None]
    unheard = visual.sum(axis=0) / (len(visual) + 1) if reading == 'zero' else visual.mean(axis=0)
    return xp.where(heard, both, unheard)


_gate, _restrict = gate, restrict  # whose names are options' below


def hitachi(
    audio: Float[AnyArray, 'N *S C'],
    visual: Float[AnyArray, 'N *T C'],
    clip: Float[AnyArray, 'N *U C'] | None = None,
    *,
    classes: Sequence[str],
    restrict: str | None = 'per_class',
    gate: str | None = 'visual_mean',
    margin: float = 0.20,
    gate_before_clamp: bool = True,
    clamp: str | None = None,
    renormalize: bool = True,
) -> Float[AnyArray, 'N C']:
    """The whole decision stage of Hitachi's system: E01, and E02 with `clamp='per_model'`.

    Args:
      audio: A04's probabilities of clips, or [N, S, C] of their pieces, which are averaged.
      visual: V04's, of clips or [N, T, C] of their frames.
      clip: C04's likewise; None gives the lines of Table 4 without CLIP.
      classes: the C names in the order of the columns.
      restrict: bus, park and tram hear the sound: see `restrict`; None means all classes alike.
      gate: the sound takes the picture's place: see `gate`; None never.
      margin: of the gate.
      gate_before_clamp: the gate compares values as they come from the models, not clamped ones.
      clamp: 'per_model' clamps A04, V04 and C04, 'per_segment' every piece and frame before they
        are averaged, 'fused' the result; None nothing.
      renormalize: rows are divided by their sum. S03 and S04 average five results without it.

    Source: Okazaki 2021, Sec. 2.4, Eq. (1) and Fig. 1; the readings are ours.
    """
    rules.check_option('clamp', clamp, (None, 'per_model', 'per_segment', 'fused'))
    vectors = [audio, visual] if clip is None else [audio, visual, clip]
    _check_alike(vectors, classes)
    xp = rules.namespace(audio)
    raw = models = xp.stack([_over_segments(vector) for vector in vectors])
    if clamp == 'per_segment':
        models = xp.stack([_over_segments(rules.clamp(vector)) for vector in vectors])
    if clamp == 'per_model':
        models = rules.clamp(raw)
    sound, pictures = models[0], models[1:]
    if gate is not None:
        seen = raw if gate_before_clamp else models
        blind = _gate(seen[0], seen[1:], gate, margin)
        pictures = xp.where(blind[..., None], sound[None], pictures)
    trusted = np.isin(classes, TRUSTED if restrict else classes)
    if restrict and trusted.sum() < len(TRUSTED):
        raise ValueError(
            f'the classes are {" ".join(classes)}; restrict needs {" ".join(TRUSTED)}, or be None'
        )
    fused = _restrict(sound, pictures, trusted, restrict or 'per_class')
    if clamp == 'fused':
        fused = rules.clamp(fused)
    return rules.renormalize(fused) if renormalize else fused


def _over_segments(vector: Float[AnyArray, 'N *S C']) -> Float[AnyArray, 'N C']:
    return vector.mean(axis=1) if vector.ndim == 3 else vector


def _check_alike(vectors: Sequence[Array], classes: Sequence[str]) -> None:
    """Raises ValueError unless all have the same clips and classes, and probabilities."""
    shapes = [vector.shape for vector in vectors]
    if {(shape[0], shape[-1]) for shape in shapes} != {(shapes[0][0], len(classes))}:
        raise ValueError(
            f'sound and pictures have shapes {", ".join(map(str, shapes))} beside {len(classes)} '
            'class names; give the same clips and classes'
        )
    for vector in vectors:
        if not isinstance(vector, jax.core.Tracer):
            metrics.check_probs(vector.reshape(-1, len(classes)))
