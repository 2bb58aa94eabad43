"""Media files in, scenes out: windows of many files share a batch, and decoding runs beside it."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from avsc_jax.data import decode_workers, media
from avsc_jax.data.decode_workers import Limits
from avsc_jax.predict.answer import Answer, Answering

WINDOWS_PER_BATCH = 8
KEPT = 4  # windows of a file that are kept to be explained


class Prediction(NamedTuple):
    """What a system says of one media file.

    Attributes:
      file: its path.
      windows: start and end in seconds, and the answer, of each window.
      notes: what a user should know of it.
      kept: of each scene the window that shows it best, if they were asked for; KEPT at most.
      error: why there is nothing; else None.
      classes: the C names of the scenes, in the order of the probabilities.
    """

    file: Path
    windows: list[tuple[float, float, Answer]]
    notes: list[str]
    kept: list[Mapping]
    error: str | None
    classes: tuple[str, ...] = ()

    @property
    def scene(self) -> str:
        """The likeliest scene of the whole file."""
        return self.ranking[0][0]

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """All scenes with their probabilities, the likeliest first."""
        found = zip(self.classes, map(float, self.probs), strict=True)
        return sorted(found, key=lambda one: -one[1])

    @property
    def probs(self) -> np.ndarray:
        """Probabilities of the whole file `[C]`: the mean of its windows."""
        return np.mean([answer.probs for *_, answer in self.windows], axis=0)

    @property
    def embedding(self) -> np.ndarray:
        """The embedding of the whole file `[D]`: the mean of its windows."""
        return np.mean([answer.embedding for *_, answer in self.windows], axis=0)

    @property
    def without(self) -> list[str]:
        """The senses that were missing in some window at least."""
        return sorted({kind for *_, answer in self.windows for kind in answer.without})


@dataclasses.dataclass
class _Open:
    """A file of which windows are still to come, or to be answered."""

    windows: list[tuple[float, float, Answer]] = dataclasses.field(default_factory=list)
    notes: dict[str, None] = dataclasses.field(default_factory=dict)
    kept: dict[int, tuple[float, Mapping]] = dataclasses.field(default_factory=dict)
    waiting: int = 0
    has_ended: bool = False
    error: str | None = None

    def keep(self, window: Mapping, answer: Answer) -> None:
        """If it shows its scene better than what is kept."""
        scene = int(answer.probs.argmax())
        best = answer.probs[scene]
        if best > self.kept.get(scene, (0.0, None))[0]:
            self.kept[scene] = best, window
        if len(self.kept) > KEPT:
            del self.kept[min(self.kept, key=lambda scene: self.kept[scene][0])]


def tag(
    predictor: Answering,
    files: Iterable[Path],
    *,
    window_s: float = 10.0,
    fallback: bool = True,
    keep: bool = False,
    workers: int | None = None,
    limits: Limits | None = None,
) -> Iterator[Prediction]:
    """Each file as soon as it is done; a bad one is an error in its place.

    Args:
      window_s: length of what is told apart within a file.
      fallback: a file that lacks a track is told by the other; else it is an error.
      keep: windows are kept to be explained.
      workers, limits: see decode_workers.decode.
    """
    wants = predictor.wants(window_s)
    opened: dict[Path, _Open] = {}
    batch: list[tuple[Path, Mapping]] = []
    for file, window, error in decode_workers.decode(
        files, wants, workers=workers, limits=limits or Limits()
    ):
        state = opened.setdefault(file, _Open())
        if window is None:
            state.has_ended, state.error = True, state.error or error
        elif not state.error:
            for kind, why in window['missing'].items():
                state.notes[f'told without {kind}: {why}'] = None
                if not fallback:
                    state.error = f'{file} is not whole: {why}'
            state.waiting += 1
            batch.append((file, window))
        if len(batch) == WINDOWS_PER_BATCH:
            _answer(predictor, batch, opened, keep)
            batch = []
        yield from _finished(predictor, opened)
    _answer(predictor, batch, opened, keep)
    yield from _finished(predictor, opened)


def _finished(predictor: Answering, opened: dict[Path, _Open]) -> Iterator[Prediction]:
    for file, state in [*opened.items()]:
        if state.has_ended and not state.waiting:
            del opened[file]
            kept = [window for _, window in sorted(state.kept.values(), key=lambda k: -k[0])]
            yield Prediction(
                file, state.windows, [*state.notes], kept, state.error, predictor.classes
            )


def _answer(
    predictor: Answering,
    batch: Sequence[tuple[Path, Mapping]],
    opened: Mapping[Path, _Open],
    keep: bool,
) -> None:
    """Answers windows of several files, or what can be answered of them."""
    for file, window, found in _answers(predictor, batch):
        state = opened[file]
        state.waiting -= 1
        if isinstance(found, ValueError):
            state.error = state.error or f'{file}: {found}'
            continue
        state.windows.append((window['start_s'], window['end_s'], found))
        state.notes |= dict.fromkeys(predictor.notes(window))
        if keep:
            state.keep(window, found)


def _answers(
    predictor: Answering, batch: Sequence[tuple[Path, Mapping]]
) -> list[tuple[Path, Mapping, Answer | ValueError]]:
    try:
        answers = predictor.answers([window for _, window in batch]) if batch else []
        return [(*item, answer) for item, answer in zip(batch, answers, strict=True)]
    except ValueError as error:
        if len(batch) == 1:
            return [(*batch[0], error)]
        return [one for item in batch for one in _answers(predictor, [item])]


def find(paths: Iterable[Path], takes: Sequence[str], *, stills: bool = True) -> list[Path]:
    """The files named, and those below the folders named that may hold it, sorted, each once.

    Args:
      paths: '-' reads more of them from the standard input, one a line.
      takes: 'sound', 'picture' or both: what files are looked for.
      stills: pictures that do not move are looked for, too.
    """
    endings = media.VIDEOS + media.SOUNDS * ('sound' in takes)
    endings += media.PICTURES * ('picture' in takes and stills)
    found, named = [], []
    for path in paths:
        named += [Path(line.rstrip('\n')) for line in sys.stdin] if str(path) == '-' else [path]
    for path in named:
        if path.is_dir():
            found += sorted(f for f in path.rglob('*') if f.suffix.lower() in endings)
        else:
            found.append(path)
    if not found:
        raise FileNotFoundError(
            f'there is nothing to predict in {", ".join(map(str, named)) or "an empty list"}; '
            f'looked for {" ".join(endings)}'
        )
    return list(dict.fromkeys(found))


def shard(files: Sequence[Path], text: str) -> list[Path]:
    """Every n-th file from the i-th on, of a shard 'i/n'."""
    try:
        index, count = map(int, text.split('/'))
    except ValueError:
        index, count = -1, 0
    if not 0 <= index < count:
        raise ValueError(f'--shard is {text!r}; it must be i/n with i from 0 to n - 1, such as 0/4')
    return list(files)[index::count]
