"""How much a clip resembles those that a system was trained on, by its embedding.

The distance is that of the fifth nearest of the training clips; benchmarks/familiarity.py compares
it with others, and benchmarks/NOTES.md has the table.

Source: Sun et al. 2022, Out-of-Distribution Detection with Deep Nearest Neighbors, without the
threshold on training clips, which lie nearer to each other than new ones do.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

FILE = 'familiarity.npz'  # of a run folder
FALSE_ALARMS = 0.05  # the share of held-out clips that are called unfamiliar
UNLIKE = 'unlike the training clips'  # the mark of a clip that is not familiar
MOST_CLIPS = 2000  # of the training and of the held-out clips; 16 MB of 2,048 values
NEIGHBOURS = 5
ROUNDING = 1e-3  # of float32 in lengths and distances
FOLDS = 5  # of the training clips, where nothing is held out


@dataclasses.dataclass(frozen=True)
class Familiarity:
    """The embeddings of training clips, and how far from them held-out clips are.

        fitted = familiarity.fit(embeddings, labels)
        marked = fitted.score(embeddings[:3]) <= familiarity.FALSE_ALARMS

    Attributes:
      neighbours: embeddings of training clips `[N, D]`, as unit vectors.
      distances: of held-out clips from them `[M]`, rising.
    """

    neighbours: np.ndarray
    distances: np.ndarray

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns 1 - the cosine `[N]` between embeddings `[N, D]` and their fifth neighbour.

        Raises:
          ValueError: embeddings have another number of values than those of the training.
        """
        if embeddings.shape[1:] != self.neighbours.shape[1:]:
            raise ValueError(
                f'embeddings have {embeddings.shape[1]} values, and familiarity was fitted to '
                f'{self.neighbours.shape[1]}; train the run again'
            )
        cosines = _units(embeddings).astype(np.float64) @ self.neighbours.T.astype(np.float64)
        place = max(0, cosines.shape[1] - NEIGHBOURS)
        return 1 - np.partition(cosines, place, axis=1)[:, place]

    @property
    def can_mark(self) -> bool:
        """Whether there are enough held-out clips for any clip to score FALSE_ALARMS or less."""
        return 1 / (1 + len(self.distances)) <= FALSE_ALARMS

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the familiarity `[N]` of embeddings `[N, D]`, in (0, 1].

        It is the share of clips, of those held out and the clip itself, that are as far from the
        training clips or farther. Of clips like the held-out ones at most a share p scores p or
        less, so that fewer than 19 held-out clips mark none at 5 %.
        """
        count = len(self.distances)
        nearer = np.searchsorted(self.distances, self.distance(embeddings), 'left')
        return (1 + count - nearer) / (1 + count)


def is_familiar(score: float | None) -> bool | None:
    """Whether a clip of this score passes as one of the training clips; None without a score."""
    return None if score is None else score > FALSE_ALARMS


def marks(score: float | None) -> list[str]:
    """Returns the note that a clip of this score gets, if it is unlike the training clips."""
    return [] if is_familiar(score) in (None, True) else [f'{UNLIKE} (familiarity {score:.3f})']


def fit(
    embeddings: np.ndarray, labels: np.ndarray, held_out: np.ndarray | None = None
) -> Familiarity:
    """Fits the familiarity of a system to the embeddings of its training clips.

    Args:
      embeddings: `[N, D]`, one of each clip; of more than MOST_CLIPS a part is drawn.
      labels: class of each clip `[N]`, or those that are true `[N, C]`, by which they take turns.
      held_out: embeddings `[M, D]` of clips that the system was not trained on. None: a fifth of
        the training clips takes turns, which is right for embeddings of a frozen network.
    """
    chosen = np.random.default_rng(0).permutation(len(embeddings))[:MOST_CLIPS]
    units, labels = _units(embeddings[chosen]), labels[chosen]
    if labels.ndim == 2:  # clips of the same labels stand together
        labels = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    if held_out is not None:
        return Familiarity(units, np.sort(Familiarity(units, np.zeros(0)).distance(held_out)))
    turn = np.empty(len(units), int)
    turn[np.argsort(labels, kind='stable')] = np.arange(len(units)) % FOLDS
    apart = [
        Familiarity(units[turn != fold], np.zeros(0)).distance(units[turn == fold])
        for fold in range(FOLDS if len(units) >= FOLDS else 0)
    ]
    return Familiarity(units, np.sort(np.concatenate([np.zeros(0), *apart])))


def _units(embeddings: np.ndarray) -> np.ndarray:
    """Returns embeddings as unit vectors, float32; one of zeros stays so."""
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    return (embeddings / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def to_arrays(fitted: Familiarity) -> dict[str, np.ndarray]:
    """Returns the arrays of a familiarity by name, as a run folder keeps them."""
    return {field.name: getattr(fitted, field.name) for field in dataclasses.fields(fitted)}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Familiarity:
    """Makes the familiarity of `to_arrays` again.

    Raises:
      ValueError: an array is missing, or has a shape or an order that `fit` does not make.
    """
    names = [field.name for field in dataclasses.fields(Familiarity)]
    if {*arrays} != {*names}:
        raise ValueError(f'it holds {", ".join(sorted(arrays))}, not {", ".join(names)}')
    made = Familiarity(**arrays)
    shapes = made.neighbours.shape, made.distances.shape
    if [len(shape) for shape in shapes] != [2, 1] or 0 in shapes[0]:
        raise ValueError(f'its arrays have the shapes {shapes}, not (N, D) and (M,)')
    lengths = np.linalg.norm(made.neighbours.astype(np.float64), axis=1)
    if not np.all((lengths == 0) | (np.abs(lengths - 1) < ROUNDING)):
        raise ValueError('its neighbours are no unit vectors')
    if not np.all((made.distances > -ROUNDING) & (made.distances < 2 + ROUNDING)):
        raise ValueError('its distances are not between 0 and 2')
    if (np.diff(made.distances) < 0).any():
        raise ValueError('its distances do not rise')
    return made
