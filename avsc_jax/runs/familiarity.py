"""How much a clip resembles those that a system was trained on, by its embedding."""

import dataclasses
from collections.abc import Mapping

import numpy as np

FALSE_ALARMS = 0.05  # the share of held-out clips that are called unfamiliar
FOLDS = 5  # of the training clips, where nothing is held out
MOST_CLIPS = 2000  # of the training and of the held-out clips; more change nothing but the cost
_SHRINKAGE = 0.1  # of the covariance, towards its mean variance


@dataclasses.dataclass(frozen=True)
class Familiarity:
    """The embeddings of training clips, and how far from them those of held-out clips are.

        fitted = familiarity.fit(embeddings, labels)
        unlike = fitted.score(embeddings[:3]) <= familiarity.FALSE_ALARMS

    Attributes:
      centres: mean embedding of each class `[C, D]`.
      whitening: `[D, D]`; distances are Euclidean after it.
      distances: of the held-out clips `[N]`, rising.
    """

    centres: np.ndarray
    whitening: np.ndarray
    distances: np.ndarray

    def distance(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the distance `[N]` of embeddings `[N, D]` from the nearest class."""
        x, centres = embeddings @ self.whitening, self.centres @ self.whitening
        squares = (x**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * x @ centres.T
        return np.sqrt(np.maximum(squares.min(axis=1), 0))

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the familiarity `[N]` of embeddings `[N, D]`, in (0, 1].

        It is the share of held-out clips, and the clip itself, that are at least as far from the
        training clips. Of clips like the held-out ones, a share of at most p scores p or less.
        """
        count = len(self.distances)
        nearer = np.searchsorted(self.distances, self.distance(embeddings), 'left')
        return (1 + count - nearer) / (1 + count)


def fit(
    embeddings: np.ndarray, labels: np.ndarray, held_out: np.ndarray | None = None
) -> Familiarity:
    """Fits the familiarity of a system to the embeddings of its training clips.

    Args:
      embeddings: `[N, D]`, one of each clip.
      labels: class of each clip `[N]`.
      held_out: embeddings `[M, D]` of clips that the system was not trained on. None: the training
        clips take turns, which is right only for embeddings of a network not trained on them.
    """
    embeddings, labels = embeddings.astype(np.float64), np.asarray(labels)
    if held_out is None:
        turn = np.random.default_rng(0).permutation(len(labels)) % FOLDS
        distances = np.zeros(len(labels))
        for fold in np.unique(turn):
            rest = turn != fold if (turn != fold).any() else ~np.zeros_like(turn, bool)
            distances[~(turn != fold)] = _fitted(embeddings[rest], labels[rest]).distance(
                embeddings[turn == fold]
            )
    else:
        distances = _fitted(embeddings, labels).distance(held_out.astype(np.float64))
    return dataclasses.replace(_fitted(embeddings, labels), distances=np.sort(distances))


def _fitted(embeddings: np.ndarray, labels: np.ndarray) -> Familiarity:
    classes, number = np.unique(labels, return_inverse=True)
    centres = np.stack([embeddings[number == k].mean(axis=0) for k in range(len(classes))])
    inside = embeddings - centres[number]
    covariance = inside.T @ inside / len(inside)
    width = len(covariance)
    variance = max(np.trace(covariance) / width, np.finfo(np.float32).tiny)
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * variance * np.eye(width)
    values, vectors = np.linalg.eigh(shrunk)
    return Familiarity(centres, vectors / np.sqrt(values), np.zeros(0))


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Familiarity:
    """Makes the familiarity that `dataclasses.asdict` turned into arrays."""
    return Familiarity(**arrays)
