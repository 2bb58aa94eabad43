"""The predictions table: a row of class probabilities for each frame, second or clip."""

import dataclasses

import numpy as np

from avsc_jax import metrics
from avsc_jax.runtime.files import some

FIELDS = ('clip_id', 'segment', 'label', 'probs')  # the arrays of a table


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Class probabilities of clips or of their segments; checked when it is made.

    Attributes:
      clip_id: [N] strings.
      segment: [N] int32, index of the frame or second in its clip; -1 is the whole clip. The pairs
        (clip_id, segment) are unique.
      label: [N] int32, true class; -1 is unknown.
      probs: [N, C] float64 in [0, 1]; rows need not sum to 1.
      meta: plain JSON values; `classes` (C names, the order of the columns) must be there.
    """

    clip_id: np.ndarray
    segment: np.ndarray
    label: np.ndarray
    probs: np.ndarray
    meta: dict

    def __post_init__(self) -> None:
        probs = metrics.check_probs(self.probs)
        rows, classes = probs.shape
        names = list(self.meta.get('classes', ()))
        if len(names) != classes:
            raise ValueError(
                f'the table has {classes} columns of probabilities and {len(names)} class names; '
                "meta['classes'] must name each column"
            )
        object.__setattr__(self, 'meta', {**self.meta, 'classes': names})
        object.__setattr__(self, 'probs', probs)
        columns = {
            'clip_id': np.asarray(self.clip_id, str),
            'segment': _integers('segment', self.segment, np.iinfo(np.int32).max),
            'label': _integers('label', self.label, classes - 1),
        }
        for name, column in columns.items():
            if column.shape != (rows,):
                raise ValueError(
                    f'{name} has shape {column.shape} beside {rows} rows of probabilities; '
                    'give one value a row'
                )
            object.__setattr__(self, name, column)
        seen: set[tuple[str, int]] = set()
        twice = []
        for key in keys_of(self):
            if key in seen:
                twice.append(key)
            seen.add(key)
        if twice:
            raise ValueError(
                f'{len(twice)} rows repeat the clip and segment of another: {some(twice)}; '
                'give each once'
            )


def _integers(name: str, values: np.ndarray, largest: int) -> np.ndarray:
    values = np.asarray(values)
    bad = values if values.dtype.kind not in 'iu' else values[(values < -1) | (values > largest)]
    if bad.size:
        raise ValueError(
            f'{name} must hold integers from -1 to {largest}, not {bad.flat[0]!r} ({values.dtype})'
        )
    return values.astype(np.int32)


def keys_of(table: Predictions) -> list[tuple[str, int]]:
    """Clip and segment of each row."""
    return list(zip(table.clip_id.tolist(), table.segment.tolist(), strict=True))
