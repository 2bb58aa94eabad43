"""Tags a recording each second while it goes on: a growing file, or pipes of raw media.

    avsc-predict --follow recording.mkv --model=runs/clip_fusion
    ffmpeg ... -f f32le -ac 2 -ar 48000 - | avsc-predict --follow - --rate 48000 --model=...

Each second the last ten seconds are tagged, or as many as the clips of the training have, and the
probabilities are smoothed over time.
"""

import argparse
import contextlib
import math
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from avsc_jax.data import media
from avsc_jax.predict import outputs
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.predictor import Predictor
from avsc_jax.predict.resume import json_line, listed, named
from avsc_jax.predict.stream_buffer import Tape
from avsc_jax.predict.stream_sources import Raw, Recording
from avsc_jax.runs import familiarity
from avsc_jax.tables import parts
from avsc_jax.types import Kind


class Second(NamedTuple):
    """The answer of one second.

    Attributes:
      start_s, end_s: the window that was tagged, in seconds from the source's start.
      probs: probabilities, float64 `[C]`, smoothed over time.
      answer: the answer to the window alone.
      skipped: how many seconds before this one were left out, because the predictor was busy.
      notes: remarks for the user on the window.
    """

    start_s: float
    end_s: float
    probs: np.ndarray
    answer: Answer
    skipped: int
    notes: list[str]


def follow(
    predictor: Predictor,
    source: Recording | Raw,
    *,
    window_s: float | None = None,
    smooth_s: float = 3.0,
    stop: threading.Event | None = None,
) -> Iterator[Second]:
    """Yields an answer each second of a source, until it ends or `stop` is set.

    The last window, which ends where the source does, is tagged too.

    Args:
      window_s: length of the window that is tagged each second, shorter at the start; None: that
        of the clips that the system was trained on.
      smooth_s: time constant of the exponential smoothing; see `smoothed`.
    """
    tape = Tape(predictor.wants(window_s), stop or threading.Event())
    length_s, probs, before_s = tape.wants.window_s, None, 0.0
    clipped: list[str] = []
    with tape.recording(source.readers(tape.wants)):
        for end_s, skipped in tape.ends():
            window = tape.window(max(0.0, end_s - length_s), end_s)
            (answer,) = predictor.answers([window])
            probs = smoothed(probs, answer.probs, end_s - before_s, smooth_s)
            before_s = end_s
            if 'clipped' in window and not clipped:  # the first share is told, once
                clipped = [media.clipping_note(window['clipped'])]
            notes = [*predictor.window_notes(length_s), *predictor.notes(window), *clipped]
            notes += [*window['missing'].values(), *window['partly'].values()]
            yield Second(window['start_s'], end_s, probs, answer, skipped, notes)


def smoothed(
    before: np.ndarray | None, now: np.ndarray, passed_s: float, smooth_s: float
) -> np.ndarray:
    """Smooths `[C]`: s = s' + (1 - exp(-passed_s / smooth_s)) (p - s'), at first p."""
    if before is None or not smooth_s:
        return now
    smooth = before + (1 - math.exp(-passed_s / smooth_s)) * (now - before)
    return np.where(np.isnan(before), now, smooth)  # missing so far: nothing to smooth


def source_of(args: argparse.Namespace) -> Recording | Raw:
    """Makes the source that the flags name; raises ValueError for flags that are wrong."""
    if not (0 <= args.smooth_s <= 3600 and 0 <= args.patience_s <= 86400):
        raise ValueError(
            f'--smooth_s is {args.smooth_s:g}, it must be 0 to 3600 seconds; --patience_s is '
            f'{args.patience_s:g}, it must be 0 to 86400'
        )
    if not args.rate and not args.frames:
        if args.follow == '-':
            raise ValueError('--follow - reads raw sound; give its --rate, such as --rate 48000')
        return Recording(Path(args.follow), args.patience_s)
    if args.follow and not 1000 <= (args.rate or 0) <= media.MAX_SAMPLE_RATE_HZ:
        raise ValueError(f'--rate is {args.rate}; it must be 1000 to {media.MAX_SAMPLE_RATE_HZ} Hz')
    if args.follow == args.frames:
        raise ValueError(f'sound and pictures both come from {args.frames}; give each its own pipe')
    sides = re.fullmatch(r'(\d{1,5})x(\d{1,5})', args.frame_size or '')
    size = (int(sides[1]), int(sides[2])) if sides else (0, 0)
    if args.frames and not all(0 < side <= media.MAX_SIDE_PX for side in size):
        raise ValueError(
            f'--frame_size is {args.frame_size}; give the width and height of the raw pictures, '
            f'such as 796x448, {media.MAX_SIDE_PX} at most'
        )
    if not 0.1 <= args.frame_rate <= 1000:
        raise ValueError(f'--frame_rate is {args.frame_rate:g}; it must be 0.1 to 1000')
    raw = (args.follow, args.rate, args.channels, args.frames, size, args.frame_rate)
    return Raw(*raw, args.patience_s)


def run(
    predictor: Predictor,
    source: Recording | Raw,
    *,
    window_s: float | None = None,
    smooth_s: float = 3.0,
    top: int = 3,
    jsonl: Path | None = None,
) -> int:
    """Prints a line each second, until the source ends or the user presses Ctrl-C; returns 0.

    Args:
      jsonl: a new file for a line of JSON each second, written at once:
        `{"start_s", "end_s", "scene", "probs", "probs_window", "without", "skipped"}`, and
        `familiarity` and `is_familiar` where the system has a score.
    """
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(_new(jsonl)) if jsonl else None
        stop = stack.enter_context(_until_interrupted())
        warm_up(predictor, window_s)
        shown = set()
        for second in follow(predictor, source, window_s=window_s, smooth_s=smooth_s, stop=stop):
            notes = second.notes
            if second.skipped:
                notes = [*notes, 'tagging is slower than a second; some seconds are left out']
            for note in filter(lambda note: note not in shown, notes):
                print(f'note: {note}, from {second.end_s:.1f} s on', file=sys.stderr)
            shown |= {*notes}
            if parts.thresholds_of(predictor):
                scenes = outputs.answered(predictor, second.probs, top)
            else:
                best = parts.best(parts.of(predictor), second.probs, top)
                scenes = '  '.join(f'{name} {value:.3f}' for _, name, value in best)
            marks = ''.join(f'  {mark}' for mark in familiarity.marks(second.answer.familiarity))
            print(f'{second.end_s:7.1f} s  {scenes}{marks}', flush=True)
            if out:
                line = _line(second, predictor.classes, parts.kind_of(predictor))
                if limits := parts.thresholds_of(predictor):
                    line['labels'] = parts.true_labels(predictor.classes, second.probs, limits)
                out.write(json_line(line))
                out.flush()
    return 0


def warm_up(predictor: Predictor, window_s: float | None = None) -> dict:
    """Compiles the networks by tagging a made-up window, which is returned."""
    wants, draw = predictor.wants(window_s), np.random.default_rng(0)
    window_s = wants.window_s
    record = {'start_s': 0.0, 'end_s': window_s, 'missing': {}}
    if wants.audio:
        samples = draw.uniform(-0.1, 0.1, (round(48000 * window_s), 2)).astype(np.float32)
        record |= {'audio': samples, 'sample_rate': 48000, 'channels': 2}
    picture = draw.integers(0, 256, (448, 796, 3), np.uint8)
    for name, pick in wants.picks().items():
        places = media.pick_frames(pick.rule, round(25 * window_s), duration_s=window_s)
        image = pick.resize(picture) if pick.resize else picture
        images = 'frames' if name == 'frame' else f'{name}_frames'
        record |= {images: [image] * len(places), f'{name}_times': places / np.float32(25)}
    predictor.answers([record])
    return record


def _line(second: Second, classes: Sequence[str], kind: Kind = 'exclusive') -> dict:
    score = second.answer.familiarity
    fitted = {'familiarity': score, 'is_familiar': familiarity.is_familiar(score)}
    return ({} if score is None else fitted) | {
        'start_s': second.start_s,
        'end_s': second.end_s,
        'scene': classes[parts.likeliest(second.probs)],
        'probs': named(classes, second.probs, kind),
        'probs_window': listed(second.answer.probs, kind),
        'without': second.answer.without,
        'skipped': second.skipped,
    }


def _new(path: Path) -> TextIO:
    try:
        return path.open('x')
    except FileExistsError as error:
        raise FileExistsError(f'{path} exists; name a new file, or delete it') from error


@contextlib.contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second Ctrl-C ends the process as usual."""
    stop = threading.Event()

    def end(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
