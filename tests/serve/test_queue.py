"""Clips that several people bring at once: one at a time, within a time, or a sentence."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from avsc_jax.data.windows import Wants
from avsc_jax.predict import predictor
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.media_files import Prediction
from avsc_jax.report.explanation import Explanation
from avsc_jax.serve import queue
from avsc_jax.serve.queue import MAX_WAITING, Refusal, TaggingQueue


async def never():
    await asyncio.Event().wait()


def bring(place, file, name='clip.mp4', gone=None):
    async def one():
        with place.place():
            return await place.tag(Path(file), name, gone or never())

    return asyncio.run(one())


@pytest.fixture(scope='module')
def place(both):
    return TaggingQueue(predictor.load(both), window_s=2.0)


@pytest.mark.slow
def test_a_clip_gets_its_scenes_their_times_and_why(place, film, tmp_path):
    found = bring(place, film(tmp_path / 'a.mp4', 3.0), 'my <b>clip</b>.mp4')
    assert {scene['scene'] for scene in found['scenes']} == {'park', 'tram'}
    probs = [scene['p'] for scene in found['scenes']]
    assert sum(probs) == pytest.approx(1) and probs == sorted(probs, reverse=True)
    times = [(part['start_s'], part['end_s']) for part in found['timeline']]
    np.testing.assert_allclose(times, [(0, 2), (1, 3)], atol=0.1)
    mean = np.mean(
        [{s['scene']: s['p'] for s in part['scenes']}['park'] for part in found['timeline']]
    )
    assert mean == pytest.approx({s['scene']: s['p'] for s in found['scenes']}['park'])
    assert found['notes'] and found['warnings'] == ['random variables']
    html = found['explanation_html']
    assert 'my &lt;b&gt;clip' in html and '<b>clip' not in html and 'why ' in html
    (note,) = (note for note in found['notes'] if 'windows of' in note)
    assert note == 'windows of 2 s, but the system was trained on clips of 10 s'
    assert TaggingQueue(place._predictor).about()['window_s'] == 10.0
    assert place.progress == '' and place.about()['takes'] == ('sound', 'picture')


def test_a_bad_clip_is_a_sentence_that_names_it_as_its_owner_does(place, tmp_path):
    (tmp_path / 'a.mp4').write_text('no film')
    with pytest.raises(Refusal, match=r'^cannot decode holiday\.mp4: ') as refusal:
        bring(place, tmp_path / 'a.mp4', 'holiday.mp4')
    assert refusal.value.status == 422


class Stand:
    """In the place of a tagger, of files, and of what explains."""

    title, classes, takes, warnings = 'stand', ('a', 'b'), ('sound',), []

    def __init__(self, monkeypatch, *, windows=2, on_window=lambda k: None):
        self._windows, self._on_window = windows, on_window
        self.busy, self.most, self.ended = 0, 0, 0
        monkeypatch.setattr(queue.media_files, 'tag', self.tag)
        monkeypatch.setattr(queue, 'explain', self.explain)

    def wants(self, window_s):
        return Wants(True, None, None, None)

    def answers(self, records, **_):
        return [Answer(np.array([0.25, 0.75]), np.zeros(1), ())]

    def tag(self, watched, files, *, window_s, keep, workers, limits):
        self.busy += 1
        self.most = max(self.most, self.busy)
        windows = []
        try:
            for k in range(self._windows):
                window = {'start_s': window_s * k, 'end_s': window_s * (k + 1)}
                self._on_window(k)
                windows.append((*window.values(), *watched.answers([window])))
            yield Prediction(files[0], windows, [], [window], None)
        finally:
            self.busy -= 1
            self.ended += 1

    def explain(self, tagger, window):
        return Explanation(
            window['start_s'], window['end_s'], np.array([0.25, 0.75]), {}, {}, (), None, None, {}
        )


def test_one_clip_is_tagged_at_a_time_and_few_may_wait(monkeypatch):
    stand = Stand(monkeypatch, on_window=lambda k: time.sleep(0.01))
    place = TaggingQueue(stand)

    async def one(k):
        with place.place():
            return await place.tag(Path('x'), f'{k}', never())

    async def many():
        return await asyncio.gather(*map(one, range(MAX_WAITING + 3)), return_exceptions=True)

    found = asyncio.run(many())
    refused = [each for each in found if isinstance(each, Refusal)]
    assert [(each.status, str(each)) for each in refused] == [
        (503, f'{MAX_WAITING} clips are waiting already; try again in a while')
    ] * 2
    assert [each['scenes'][0]['scene'] for each in found[: MAX_WAITING + 1]] == ['b'] * 5
    assert stand.most == 1 and stand.ended == MAX_WAITING + 1
    assert bring(place, 'x')['timeline'][1]['start_s'] == 10  # there is room again


def test_an_upload_that_the_end_of_the_program_cuts_off_is_a_sentence(monkeypatch):
    place = TaggingQueue(Stand(monkeypatch))

    async def stopped():
        async def one():
            async with place.upload():
                await never()

        task = asyncio.ensure_future(one())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(Refusal, match='the program was stopped; start it and send') as refusal:
        asyncio.run(stopped())
    assert refusal.value.status == 503 and not place._uploads


def test_what_is_being_done_can_be_asked_meanwhile(monkeypatch):
    told = []
    place = TaggingQueue(Stand(monkeypatch, on_window=lambda k: told.append(place.progress)))
    bring(place, 'x', 'a.mp4')
    assert told == ['a.mp4: opening', 'a.mp4: tagging, from 0 s on']


def test_a_clip_that_takes_too_long_is_given_up(monkeypatch):
    stand = Stand(monkeypatch, windows=9, on_window=lambda k: time.sleep(0.05))
    with pytest.raises(
        Refusal, match=r'^a\.mp4 takes longer than 0\.12 s; send a shorter clip'
    ) as refusal:
        bring(TaggingQueue(stand, max_seconds=0.12), 'x', 'a.mp4')
    assert refusal.value.status == 422 and stand.ended == 1


def test_what_there_is_no_time_to_explain_is_left_out_and_told(monkeypatch):
    place = TaggingQueue(Stand(monkeypatch), max_seconds=0.2)
    late = place._read

    def read(*args):
        found = late(*args)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(place, '_read', read)
    found = bring(place, 'x')
    assert found['notes'] == ['some windows are not explained: time was up']
    assert found['scenes'][0] == {'scene': 'b', 'p': 0.75}


def test_work_ends_when_nobody_waits_for_it(monkeypatch):
    began = threading.Event()
    stand = Stand(monkeypatch, windows=999, on_window=lambda k: began.set() or time.sleep(0.01))
    place = TaggingQueue(stand)

    async def leave():
        while not began.is_set():
            await asyncio.sleep(0.01)

    with pytest.raises(Refusal, match='the client has disconnected') as refusal:
        bring(place, 'x', gone=leave())
    assert refusal.value.status == 499 and stand.ended == 1 and stand.busy == 0
