"""The answer of a system to one record, and the interface of all systems."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from avsc_jax.data.windows import Wants

# The modalities that may be missing -> the fields of records that hold them.
KINDS = {'sound': ('audio',), 'picture': ('frames', 'media_frames')}


class Answer(NamedTuple):
    """The answer of a system to one record.

    Attributes:
      probs: probabilities, float64 `[C]`, the mean over the rows of the record. Of a system that
        tags sound and pictures, those of a missing modality are NaN; so is their embedding.
      embedding: float32 `[D]`, the input of the network's head; an ensemble joins its members'.
      without: the modalities (of KINDS) that the system takes and the record did not have.
      familiarity: how much the record resembles the training clips, in (0, 1]: of clips like them
        a share of at most p has p or less, see `runs.familiarity`. An ensemble gives the median of
        its members. None where nothing was fitted, or a modality is missing.
      probs_max: the largest value of each class over the rows of the record, where classes are
        independent; else None.
    """

    probs: np.ndarray
    embedding: np.ndarray
    without: tuple[str, ...]
    familiarity: float | None = None
    probs_max: np.ndarray | None = None


def check_finite(system: str, probs: np.ndarray, embedding: np.ndarray) -> None:
    """Raises ValueError if an output of a system is not finite, so that no table gets it."""
    for name, values in (('probabilities', probs), ('embeddings', embedding)):
        bad = values[~np.isfinite(values)]
        if bad.size:
            raise ValueError(
                f'{system} gives {name} of {bad.flat[0]}, not finite numbers; the input is beyond '
                'what it was trained on, or its weights are broken: if other files fail, too, '
                'train it again'
            )


class Answering(Protocol):
    """The interface of a system that answers records; `Predictor` implements it."""

    classes: tuple[str, ...]
    takes: tuple[str, ...]

    def answers(
        self, records: Sequence[Mapping], *, without: Collection[str] = ()
    ) -> list[Answer]: ...

    def notes(self, record: Mapping) -> list[str]: ...

    def window_notes(self, window_s: float) -> list[str]: ...

    def wants(self, window_s: float | None = None) -> Wants: ...
