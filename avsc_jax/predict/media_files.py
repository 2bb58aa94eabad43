"""Tags media files: windows of many files share a batch, and decoding runs in parallel."""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avsc_jax.data import decode_workers, folder_walk, media
from avsc_jax.data.decode_workers import Limits
from avsc_jax.predict.answer import Answer, Answering
from avsc_jax.runs import familiarity
from avsc_jax.runtime.files import printable, some, stamp
from avsc_jax.tables import parts
from avsc_jax.tables.parts import Part
from avsc_jax.types import Kind

WINDOWS_PER_BATCH = 8
PAUSE_S = 0.5  # without a window, after which finished files are answered in a smaller batch
KEPT = 4  # windows of a file that are kept for explanations


class Prediction(NamedTuple):
    """The answer of a system to one media file.

    Attributes:
      file: its path.
      windows: `(start_s, end_s, answer)` of each window.
      notes: remarks for the user, such as a missing modality or a resampling.
      kept: for each scene its most probable window, at most KEPT; empty unless asked for.
      error: why the file has no answer; None if it has one.
      classes: the C names of the scenes, in the order of the probabilities.
      stamp: of the file that was read, see `files.stamp`.
      parts: the classes in parts, such as tags of sound and of pictures; one part of other systems.
      kind: 'exclusive' where one class is right, 'independent' for tags and for several labels.
      thresholds: from which on each label is called true; none where they are not known.
    """

    file: Path
    windows: list[tuple[float, float, Answer]]
    notes: list[str]
    kept: list[Mapping]
    error: str | None
    classes: tuple[str, ...] = ()
    stamp: Sequence[int] = ()
    parts: tuple[Part, ...] = ()
    kind: Kind = 'exclusive'
    thresholds: tuple[float, ...] = ()

    @property
    def scene(self) -> str:
        """The likeliest scene of the whole file."""
        return self.ranking[0][0]

    @property
    def labels(self) -> list[str] | None:
        """The labels that are true of the whole file, the likeliest first; perhaps none.

        Of exclusive classes it is the scene alone. None for tags that have no thresholds.
        """
        if self.kind == 'exclusive':
            return [self.scene]
        if not self.thresholds:
            return None
        return parts.true_labels(self.classes, self.probs, self.thresholds)

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """All scenes and their probabilities, the likeliest first.

        Tags of a sense that the file does not have are left out.
        """
        return parts.ranked(self.classes, self.probs)

    @property
    def rankings(self) -> dict[str, list[tuple[str, float]]]:
        """The ranking of each part that the file has, by title: tags of sound, and of pictures."""
        each = parts.split(self.parts or (Part('', self.classes),), self.probs)
        ranked = {
            part.title: [(part.short(name), p) for name, p in parts.ranked(part.classes, own)]
            for part, own in each
        }
        return {title: names for title, names in ranked.items() if names}

    @property
    def probs(self) -> np.ndarray:
        """Probabilities `[C]` of the whole file: the mean over its windows.

        Tags of a sense are averaged over the windows that have it; they are NaN where none has.
        """
        return parts.mean([answer.probs for *_, answer in self.windows])

    @property
    def probs_max(self) -> np.ndarray | None:
        """The largest value `[C]` of each tag at any time of the file; None of other systems."""
        most = [answer.probs_max for *_, answer in self.windows if answer.probs_max is not None]
        return parts.largest(most) if most else None

    @property
    def embedding(self) -> np.ndarray:
        """The embedding `[D]` of the whole file: the mean over its windows."""
        return parts.mean([answer.embedding for *_, answer in self.windows])

    @property
    def familiarity(self) -> float | None:
        """How much the file resembles the training clips: the mean over windows that say so."""
        scores = [a.familiarity for *_, a in self.windows if a.familiarity is not None]
        return float(np.mean(scores)) if scores else None

    @property
    def is_familiar(self) -> bool | None:
        """Whether the file is like the training clips; None if the system has no score for it.

        Of files like them, at most `runs.familiarity.FALSE_ALARMS` are called unlike.
        """
        return familiarity.is_familiar(self.familiarity)

    @property
    def without(self) -> list[str]:
        """The modalities that were missing in at least one window."""
        return sorted({kind for *_, answer in self.windows for kind in answer.without})


@dataclasses.dataclass
class _Open:
    """A file with windows that are not yet decoded or not yet answered."""

    windows: list[tuple[float, float, Answer]] = dataclasses.field(default_factory=list)
    notes: dict[str, None] = dataclasses.field(default_factory=dict)
    kept: dict[int, tuple[float, Mapping]] = dataclasses.field(default_factory=dict)
    clipped: float = 0.0  # share of the sound that was beyond full scale
    waiting: int = 0
    has_ended: bool = False
    error: str | None = None
    stamp: Sequence[int] = ()

    def keep(self, window: Mapping, answer: Answer) -> None:
        """Keeps the window if it is the most probable one of its scene so far."""
        scene = parts.likeliest(answer.probs)
        best = answer.probs[scene]
        if best > self.kept.get(scene, (0.0, None))[0]:
            self.kept[scene] = best, window
        if len(self.kept) > KEPT:
            del self.kept[min(self.kept, key=lambda scene: self.kept[scene][0])]


def tag(
    predictor: Answering,
    files: Iterable[Path],
    *,
    window_s: float | None = None,
    fallback: bool = True,
    keep: bool = False,
    workers: int | None = None,
    limits: Limits | None = None,
    idle: decode_workers.IdleWorkers | None = None,
    pause_s: float = PAUSE_S,
) -> Iterator[Prediction]:
    """Yields the prediction of each file as soon as it is complete; errors do not end the loop.

    Args:
      window_s: length of the windows that a file is divided into, in seconds; None: that of the
        clips that the system was trained on.
      fallback: a file without sound or without pictures is answered from the other; False makes
        it an error.
      keep: keep windows for explanations, see `Prediction.kept`.
      workers, limits, idle: see decode_workers.decode.
      pause_s: see PAUSE_S. With infinity and one worker, batches depend on the files alone.
    """
    wants = predictor.wants(window_s)
    notes = predictor.window_notes(wants.window_s)
    opened: dict[Path, _Open] = {}
    batch: list[tuple[Path, Mapping]] = []
    for event in decode_workers.decode(
        files, wants, workers=workers, limits=limits or Limits(), pause_s=pause_s, idle=idle
    ):
        if event is None:
            if any(opened[file].has_ended for file, _ in batch):  # and waits for its neighbours
                _answer(predictor, batch, opened, keep)
                batch = []
            yield from _finished(predictor, opened)
            continue
        file, window, error = event
        state = opened.setdefault(file, _Open(notes=dict.fromkeys(notes)))
        if window is None:
            state.has_ended, state.error = True, state.error or error
            state.stamp = stamp(file)
        elif not state.error:
            for kind, why in window['missing'].items():
                own = f'{file} '  # a note without the name is one line for all files
                shared = f'it {why.removeprefix(own)}' if why.startswith(own) else why
                state.notes[f'answered without {kind}: {shared}'] = None
                if not fallback:
                    state.error = f'{file} is incomplete: {why}'
            for why in window.get('partly', {}).values():
                state.notes[f'{why}, and is answered by the rest'] = None
            if count := window.get('num_pictures'):
                state.notes[media.first_note(count)] = None
            state.clipped = max(state.clipped, window.get('clipped', 0.0))
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
            if state.clipped:
                state.notes[media.clipping_note(state.clipped)] = None
            kept = [window for _, window in sorted(state.kept.values(), key=lambda k: -k[0])]
            facts = [*state.notes], kept, state.error, predictor.classes, state.stamp
            own = parts.of(predictor), parts.kind_of(predictor), parts.thresholds_of(predictor)
            yield Prediction(file, state.windows, *facts, *own)


def _answer(
    predictor: Answering,
    batch: Sequence[tuple[Path, Mapping]],
    opened: Mapping[Path, _Open],
    keep: bool,
) -> None:
    """Answers windows of several files; an error ends the file of its window only."""
    for file, window, answer in answered(predictor, batch):
        state = opened[file]
        state.waiting -= 1
        if isinstance(answer, ValueError):
            state.error = state.error or f'{file}: {answer}'
            continue
        state.windows.append((window['start_s'], window['end_s'], answer))
        state.notes |= dict.fromkeys(predictor.notes(window))
        if keep:
            state.keep(window, answer)


def answered(
    predictor: Answering, batch: Sequence[tuple[Any, Mapping]]
) -> list[tuple[Any, Mapping, Answer | ValueError]]:
    """Answers keyed records together or, where that is an error, each alone: only its own fails."""
    try:
        answers = predictor.answers([window for _, window in batch]) if batch else []
        return [(*item, answer) for item, answer in zip(batch, answers, strict=True)]
    except ValueError as error:
        if len(batch) == 1:
            return [(*batch[0], error)]
        return [one for item in batch for one in answered(predictor, [item])]


def expanded(paths: Iterable[Path]) -> list[Path]:
    """Replaces '-' by the paths of the standard input, one a line."""
    named: list[Path] = []
    for path in paths:
        named += [Path(line.rstrip('\n')) for line in sys.stdin] if str(path) == '-' else [path]
    return named


def find(
    paths: Iterable[Path],
    takes: Sequence[str],
    *,
    stills: bool = True,
    left_out: dict[str, list[Path]] | None = None,
) -> list[Path]:
    """Lists files, and the media files below folders, each once; a folder's are sorted.

    What is left out of a folder, see folder_walk.walk, and second links to a file in it are notes
    on stderr.

    Args:
      paths: files and folders; '-' reads their paths from the standard input, one a line.
      takes: 'sound', 'picture' or both, which decides the endings that are looked for.
      stills: look for still pictures, too.
      left_out: gets the files of folders that are not looked for, by the reason why.
    """
    left_out = {} if left_out is None else left_out
    endings = media.VIDEOS + media.SOUNDS * ('sound' in takes)
    endings += media.PICTURES * ('picture' in takes and stills)
    files, named = [], expanded(paths)
    for path in named:
        if path.is_dir():
            inside, _, notes = folder_walk.walk(path)
            inside, others = folder_walk.taken(inside, takes, stills=stills)
            for why, of in others.items():
                left_out[why] = left_out.get(why, []) + of
            second = folder_walk.links(inside)
            files += [file for file in inside if file not in second]
            if second:
                names = [file.relative_to(path).as_posix() for file in second]
                notes.append(f'links to other files are left out ({len(names):,}): {some(names)}')
            for note in notes:
                print(printable(f'note: in {path}, {note}'), file=sys.stderr)
        else:
            files.append(path)
    if not files and (runs := [path for path in named if (path / 'DONE').exists()]):
        raise ValueError(
            f'{runs[0]} is the folder of a run, not a clip; give it as --model={runs[0]}, and name '
            'media files'
        )
    if not files:
        none = ''.join(f' ({line})' for line in folder_walk.counted(left_out))
        raise FileNotFoundError(
            f'no media files in {", ".join(map(str, named)) or "an empty list"}{none}; name '
            f'files, or folders with {" ".join(endings)}'
        )
    return list(dict.fromkeys(files))


def shard(files: Sequence[Path], text: str) -> list[Path]:
    """Takes every n-th file from the i-th on; `text` is 'i/n', counted from 0."""
    try:
        index, count = map(int, text.split('/'))
    except ValueError:
        index, count = -1, 0
    if not 0 <= index < count:
        raise ValueError(f'--shard is {text!r}; it must be i/n with i from 0 to n - 1, such as 0/4')
    return list(files)[index::count]
