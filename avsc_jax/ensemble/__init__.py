"""Decision-level functions over class probabilities: pooling, averaging and calibration.

Pure functions of arrays [N, C] or [M, N, C]. numpy arrays in, numpy arrays out; jax arrays in, jax
arrays out, also under jit and vmap. The type of the probabilities is kept. What is searched or
fitted comes from `avsc_jax.ensemble.fit` and can be had under its name here too.
"""

from collections.abc import Sequence
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from avsc_jax import metrics
from avsc_jax.ensemble.fit import (
    CLAMP_EDGES,
    CLAMP_VALUES,
    EPS,
    fit_clamp,
    fit_temperature,
    fit_vector_scale,
    search_weights,
)
from avsc_jax.types import Array, Bool, Float, Int

__all__ = [
    'clamp',
    'fit_clamp',
    'fit_temperature',
    'fit_vector_scale',
    'gate',
    'geometric_mean',
    'hitachi',
    'mean',
    'piecewise_clamp',
    'pool',
    'renormalize',
    'restrict',
    'search_weights',
    'temperature_scale',
    'vector_scale',
]

TRUSTED = ('bus', 'park', 'tram')  # Okazaki 2021, Sec. 2.4: where sound is as good as the picture
MARGIN_TOLERANCE = 1e-6  # float32 values a margin apart count as equal to it


def _namespace(array: Array) -> ModuleType:
    return jnp if isinstance(array, jax.Array) else np


def pool(
    probs: Float[Array, 'N C'], group: Int[Array, 'N'], num_groups: int
) -> Float[Array, 'G C']:
    """Mean of the rows of each group: frames or seconds to clips.

    Args:
      probs: one row a frame or second, in any order.
      group: the clip each row belongs to, in [0, num_groups).
      num_groups: static under jit. A group without rows becomes NaN.
    """
    if isinstance(probs, jax.Array):
        sums = jax.ops.segment_sum(probs, group, num_groups)
        counts = jnp.bincount(group, length=num_groups)
    else:
        sums = np.zeros((num_groups, probs.shape[1]), probs.dtype)
        np.add.at(sums, group, probs)
        counts = np.bincount(group, minlength=num_groups)
    return sums / counts.astype(probs.dtype)[:, None]


def mean(
    members: Float[Array, 'M N C'], weights: Float[Array, 'M'] | None = None
) -> Float[Array, 'N C']:
    """Mean of the members' probabilities, weighted if asked; weights are divided by their sum.

    Source: Okazaki 2021, Sec. 2.4; Wang 2021, Sec. 2.3.2.
    """
    xp = _namespace(members)
    if weights is None:
        return members.mean(axis=0)
    weights = xp.asarray(weights, members.dtype)
    return xp.tensordot(weights / weights.sum(), members, axes=1)


def geometric_mean(
    members: Float[Array, 'M N C'], weights: Float[Array, 'M'] | None = None
) -> Float[Array, 'N C']:
    """Geometric mean of the members' probabilities, rows divided by their sum.

    Values are clipped to 1e-15 first: one member's 0 makes a class unlikely, not impossible.
    """
    xp = _namespace(members)
    return _softmax(mean(xp.log(xp.maximum(members, EPS)), weights))


def renormalize(probs: Float[Array, 'N C']) -> Float[Array, 'N C']:
    """Rows divided by their sum; a row of zeros becomes uniform."""
    xp = _namespace(probs)
    sums = probs.sum(axis=-1, keepdims=True)
    empty = sums == 0
    return xp.where(empty, 1 / probs.shape[-1], probs / xp.where(empty, 1, sums))


def clamp(probs: Float[Array, '*N C']) -> Float[Array, '*N C']:
    """Replaces confident and unlikely values by fixed ones; rows need not sum to 1 any more.

    (0, .06] becomes .001, (.06, .20] becomes .06, (.20, .70] stays and (.70, 1] becomes .99. An
    exact 0, which the paper leaves open, becomes .001. The bounds are compared in float32, so that
    .20 counts as .20 in every precision. Applying it twice is not the same as once.

    Source: Okazaki 2021, Eq. (1).
    """
    return piecewise_clamp(probs, CLAMP_EDGES, CLAMP_VALUES)


def piecewise_clamp(
    probs: Float[Array, '*N C'],
    edges: Sequence[float] | Float[Array, 'K'],
    values: Sequence[float] | Float[Array, 'K+1'],
) -> Float[Array, '*N C']:
    """One value for each interval (low, high] between the edges; NaN keeps what is there.

    Args:
      probs: any numbers; NaN stays NaN.
      edges: rising; compared in float32. The first interval has no lower end, the last no upper.
      values: one more than edges.
    """
    xp = _namespace(probs)
    x = probs.astype(xp.float32)
    edges, values = xp.asarray(edges, xp.float32), xp.asarray(values, probs.dtype)
    clamped = xp.where(xp.isnan(values[0]) | xp.isnan(x), probs, values[0])
    for edge, value in zip(edges, values[1:], strict=True):
        clamped = xp.where(x > edge, xp.where(xp.isnan(value), probs, value), clamped)
    return clamped


def temperature_scale(
    probs: Float[Array, 'N C'], temperature: float | Float[Array, '']
) -> Float[Array, 'N C']:
    """Softmax of ln p / T: above 1 less sure, below 1 more; the order of the classes stays.

    Probabilities are clipped to 1e-15 first.

    Source: Guo et al. 2017, Eq. (9), on log-probabilities, which differ from logits by a constant.
    """
    xp = _namespace(probs)
    return _softmax(xp.log(xp.maximum(probs, EPS)) / xp.asarray(temperature, probs.dtype))


def vector_scale(
    probs: Float[Array, 'N C'], scale: Float[Array, 'C'], bias: Float[Array, 'C']
) -> Float[Array, 'N C']:
    """Softmax of scale · ln p + bias, both of one number a class, p clipped to 1e-15 first.

    Source: Guo et al. 2017, Sec. 4.2.
    """
    xp = _namespace(probs)
    scale, bias = (xp.asarray(x, probs.dtype)[None] for x in (scale, bias))
    return _softmax(scale * xp.log(xp.maximum(probs, EPS)) + bias)


def _softmax(logits: Float[Array, 'N C']) -> Float[Array, 'N C']:
    xp = _namespace(logits)
    powers = xp.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


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
    _check_option('gate', reading, ('visual_mean', 'per_model'))
    xp = _namespace(visual)
    of_picture = visual.mean(axis=0, keepdims=True) if reading == 'visual_mean' else visual
    lead = audio.max(axis=-1)[None] - of_picture.max(axis=-1)
    return xp.broadcast_to(lead > margin + MARGIN_TOLERANCE, visual.shape[:2])


def restrict(
    audio: Float[Array, 'N C'],
    visual: Float[Array, 'M N C'],
    trusted: Bool[np.ndarray, 'C'],
    reading: str = 'per_class',
) -> Float[Array, 'N C']:
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
    _check_option('restrict', reading, ('per_class', 'zero', 'argmax'))
    xp = _namespace(visual)
    both = mean(xp.concatenate([audio[None], visual]))
    if reading == 'argmax':
        heard = xp.asarray(trusted)[audio.argmax(axis=-1)][:, None]
    else:
        heard = xp.asarray(trusted)[None]
    unheard = visual.sum(axis=0) / (len(visual) + 1) if reading == 'zero' else visual.mean(axis=0)
    return xp.where(heard, both, unheard)


_clamp, _gate, _restrict, _renormalize = clamp, gate, restrict, renormalize  # options' names below


def hitachi(
    audio: Float[Array, 'N *S C'],
    visual: Float[Array, 'N *T C'],
    clip: Float[Array, 'N *U C'] | None = None,
    *,
    classes: Sequence[str],
    restrict: str | None = 'per_class',
    gate: str | None = 'visual_mean',
    margin: float = 0.20,
    gate_before_clamp: bool = True,
    clamp: str | None = None,
    renormalize: bool = True,
) -> Float[Array, 'N C']:
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
    _check_option('clamp', clamp, (None, 'per_model', 'per_segment', 'fused'))
    vectors = [audio, visual] if clip is None else [audio, visual, clip]
    _check_alike(vectors, classes)
    xp = _namespace(audio)
    raw = models = xp.stack([_over_segments(vector) for vector in vectors])
    if clamp == 'per_segment':
        models = xp.stack([_over_segments(_clamp(vector)) for vector in vectors])
    if clamp == 'per_model':
        models = _clamp(raw)
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
        fused = _clamp(fused)
    return _renormalize(fused) if renormalize else fused


def _over_segments(vector: Float[Array, 'N *S C']) -> Float[Array, 'N C']:
    return vector.mean(axis=1) if vector.ndim == 3 else vector


def _check_option(name: str, value: str | None, allowed: Sequence[str | None]) -> None:
    if value not in allowed:
        raise ValueError(f'{name} is {value!r}; it must be one of {", ".join(map(repr, allowed))}')


def _check_alike(vectors: Sequence[Array], classes: Sequence[str]) -> None:
    """The same clips and classes in all; probabilities, where the numbers can be seen."""
    shapes = [vector.shape for vector in vectors]
    if {(shape[0], shape[-1]) for shape in shapes} != {(shapes[0][0], len(classes))}:
        raise ValueError(
            f'sound and pictures have shapes {", ".join(map(str, shapes))} beside {len(classes)} '
            'class names; give the same clips and classes'
        )
    for vector in vectors:
        if not isinstance(vector, jax.core.Tracer):
            metrics.check_probs(vector.reshape(-1, len(classes)))
