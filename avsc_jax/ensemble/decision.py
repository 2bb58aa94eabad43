"""Decides on several members' probabilities: their average, and Hitachi's decision stage."""

from collections.abc import Sequence

import jax
import numpy as np

from avsc_jax import metrics
from avsc_jax.ensemble import rules
from avsc_jax.types import AnyArray, Array, Bool, Float

TRUSTED = ('bus', 'park', 'tram')  # Okazaki 2021, Sec. 2.4: where sound is as good as the picture
MARGIN_TOLERANCE = 1e-6  # a lead this little above the margin is float32 rounding


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

    Raises:
      ValueError: another `clamp`.

    Example:
      >>> members = [np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])]
      >>> average(members).round(3).tolist()
      [[0.7, 0.3]]
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
    """Returns true where the sound is so much surer that it replaces the picture.

    Args:
      audio: probabilities from sound, the mean of its models.
      visual: probabilities of each picture model.
      reading: 'visual_mean' compares the largest value of the visual mean and decides for all
        models; 'per_model' compares each model's own.
      margin: the largest value of the sound must be higher by more than this. A lead of exactly the
        margin is a tie, which the picture wins, and so is one that is higher by no more than
        1e-6, by which 0.9 - 0.7 in binary may miss 0.2. In tables that are rounded to 3 decimals,
        a lead of up to 0.001 more than the margin may have become a tie.

    Example:
      >>> audio = np.array([[0.9, 0.1], [0.6, 0.4]])
      >>> visual = np.array([[[0.5, 0.5], [0.5, 0.5]]])
      >>> gate(audio, visual).tolist()
      [[True, False]]

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
    """Averages sound and picture models, counting the sound for some classes only.

    Args:
      audio: probabilities from sound, the mean of its models.
      visual: probabilities of each picture model.
      trusted: the classes whose sound counts.
      reading: 'per_class' leaves the sound out of the other classes' means, whose sum is not 1
        then; 'zero' counts it there as 0; 'argmax' counts all classes of a row's sound if its
        largest value is of a trusted class, else none.

    Example:
      >>> audio, visual = np.array([[0.9, 0.1]]), np.array([[[0.5, 0.5]]])
      >>> restrict(audio, visual, trusted=np.array([True, False])).tolist()
      [[0.7, 0.5]]

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


_gate, _restrict = gate, restrict  # options of `hitachi` have these names


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
    """Fuses sound and pictures as Hitachi's system does: E01, or E02 with `clamp='per_model'`.

    Args:
      audio: probabilities of model A04, of clips or [N, S, C] of their pieces, which are averaged.
      visual: probabilities of V04, of clips or [N, T, C] of their frames.
      clip: probabilities of C04 likewise; None gives the rows of Table 4 without CLIP.
      classes: the C names in the order of the columns.
      restrict: reading of `restrict`, which counts the sound for bus, park and tram only; None
        counts it for all classes.
      gate: reading of `gate`, by which the sound replaces the picture; None: it never does.
      margin: margin of the gate.
      gate_before_clamp: whether the gate compares the models' own values, not clamped ones.
      clamp: 'per_model' clamps A04, V04 and C04, 'per_segment' every piece and frame before they
        are averaged, 'fused' the result; None nothing.
      renormalize: divide rows by their sum. S03 and S04 average five results without it.

    Example:
      >>> audio, visual = np.array([[0.9, 0.1, 0.0]]), np.array([[0.5, 0.3, 0.2]])
      >>> hitachi(audio, visual, classes=['bus', 'park', 'tram'], gate=None).round(3).tolist()
      [[0.7, 0.2, 0.1]]

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
        compared = raw if gate_before_clamp else models
        replaced = _gate(compared[0], compared[1:], gate, margin)
        pictures = xp.where(replaced[..., None], sound[None], pictures)
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
    """Raises ValueError unless all hold probabilities of the same clips and classes."""
    shapes = [vector.shape for vector in vectors]
    if {(shape[0], shape[-1]) for shape in shapes} != {(shapes[0][0], len(classes))}:
        raise ValueError(
            f'sound and pictures have shapes {", ".join(map(str, shapes))} beside {len(classes)} '
            'class names; give the same clips and classes'
        )
    for vector in vectors:
        if not isinstance(vector, jax.core.Tracer):
            metrics.check_probs(vector.reshape(-1, len(classes)))
