"""How far a clip is, and how long the rest takes."""

import time
from types import SimpleNamespace

from avsc_jax.serve import tagger
from avsc_jax.serve.queue import Progress


def test_a_window_that_is_tagged_again_after_an_error_is_counted_once():
    progress = Progress()
    count = tagger._Count(progress, time.monotonic, 0.0)
    windows = [{'start_s': 10.0 * k, 'num_windows': 3} for k in range(3)]
    for records in (windows, windows[:1], windows[1:2]):
        count.tagging(records)
    assert (progress.done, progress.total) == (1, 3)


def test_the_time_left_is_that_of_windows_without_the_compiler_and_of_explanations():
    progress, now = Progress(), [0.0]
    count = tagger._Count(progress, lambda: now[0], 2.0)
    windows = [{'start_s': 10.0 * k, 'num_windows': 30} for k in range(30)]
    count.tagging(windows[:8])
    assert progress.left_s is None
    now[0] = 4.0
    count.tagging(windows[8:16])
    assert progress == Progress('tagging', 8, 30, 22 * 0.5 + 4 * 2)
    explained = count.explaining(windows[:4])
    next(explained)
    assert progress == Progress('explaining', 0, 4, 8.0)
    now[0] = 7.0
    next(explained)
    assert progress == Progress('explaining', 1, 4, 9.0) and count.explain_s == 3.0


def test_the_clock_of_estimates_stands_still_while_programs_are_compiled(
    monkeypatch,
):
    wants = SimpleNamespace(window_s=1.0)
    tagging, now = tagger.Tagger(SimpleNamespace(wants=lambda _: wants)), [10.0]
    monkeypatch.setattr(tagger.time, 'monotonic', lambda: now[0])
    assert tagging._working_s() == 10
    for change, seconds in (
        (1, 3.0),
        (1, 2.0),
        (-1, 1.0),
        (-1, 0.5),
        (-1, 0.5),
        (1, 4.0),
        (-1, 1.0),
    ):
        tagging._compile(change)
        now[0] += seconds
    assert tagging._working_s() == 22 - 6 - 4 and not tagging.is_compiling
