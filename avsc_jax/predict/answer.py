"""What a system says of a record, and what is asked of any system."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from avsc_jax.data.windows import Wants

# What a system can go without -> where records have it.
KINDS = {'sound': ('audio',), 'picture': ('frames', 'media_frames')}


class Answer(NamedTuple):
    """What a system says of one record.

    Attributes:
      probs: float64 `[C]`, the mean of its rows.
      embedding: float32 `[D]`, what the network's head sees; of an ensemble, of all members.
      without: of KINDS, what it takes and did not have.
    """

    probs: np.ndarray
    embedding: np.ndarray
    without: tuple[str, ...]


class Answering(Protocol):
    """What is asked of a system by those that feed it; see Predictor."""

    classes: tuple[str, ...]
    takes: tuple[str, ...]

    def answers(
        self, records: Sequence[Mapping], *, without: Collection[str] = ()
    ) -> list[Answer]: ...

    def notes(self, record: Mapping) -> list[str]: ...

    def wants(self, window_s: float = 10.0) -> Wants: ...
