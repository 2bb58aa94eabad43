"""Clips that several people bring at once: one at a time, within a time, or a sentence."""

import asyncio
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from avsc_jax.data.windows import Wants
from avsc_jax.predict import predictor
from avsc_jax.predict.answer import Answer
from avsc_jax.predict.media_files import Prediction
from avsc_jax.report.explanation import Explanation
from avsc_jax.runtime import compiling
from avsc_jax.serve import tagger
from avsc_jax.serve.queue import MAX_WAITING, Refusal, TaggingQueue
from avsc_jax.serve.tagger import Tagger


async def never():
    await asyncio.Event().wait()


def queue_of(predictor, *, max_seconds=120.0, **options):
    """A queue of an opened system, which is not warmed up."""
    tagging = Tagger(predictor, max_seconds=max_seconds, **options)
    tagging.warm_up = lambda: None
    place = TaggingQueue(lambda: tagging, max_seconds=max_seconds)
    place.open().result()
    return place


def bring(place, file, name='clip.mp4', gone=None, key=''):
    async def one():
        with place.clip(key) as progress, place.place(progress):
            return await place.tag(Path(file), name, gone or never(), progress)

    return asyncio.run(one())


@pytest.fixture(scope='module')
def place(both):
    return queue_of(predictor.load(both), window_s=2.0)


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
    assert Tagger(place._tagger._predictor).about()['window_s'] == 10.0
    assert place.about()['takes'] == ('sound', 'picture')


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
        monkeypatch.setattr(tagger.media_files, 'tag', self.tag)
        monkeypatch.setattr(tagger, 'explain', self.explain)

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
                span = (window_s * k, window_s * (k + 1))
                window = {'start_s': span[0], 'end_s': span[1], 'num_windows': self._windows}
                self._on_window(k)
                windows.append((*span, *watched.answers([window])))
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
    place = queue_of(stand)

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
    place = queue_of(Stand(monkeypatch))

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


KEY = 'a-key-of-16-letters'


def test_a_client_can_ask_how_many_windows_of_its_clip_are_done_and_how_long_it_takes(monkeypatch):
    told = []
    on_window = lambda k: (time.sleep(0.02), told.append(place.progress(KEY)))  # noqa: E731
    place = queue_of(Stand(monkeypatch, windows=4, on_window=on_window))
    bring(place, 'x', 'a.mp4', key=KEY)
    assert [(each['step'], each['done'], each['total']) for each in told] == [
        ('opening', 0, 0), ('tagging', 0, 4), ('tagging', 1, 4), ('tagging', 2, 4),
    ]  # fmt: skip
    assert told[1]['left_s'] is None
    # 40 ms for the first window, and about 20 for each of the three
    assert 0.04 < told[2]['left_s'] < 2 and told[3]['left_s'] < told[2]['left_s'] + 0.1
    assert place.progress(KEY) == {'state': 'ready', 'is_compiling': False, 'waiting': 0}


def test_explaining_is_a_step_of_its_own(monkeypatch):
    told, stand = [], Stand(monkeypatch)
    place = queue_of(stand)
    monkeypatch.setattr(
        tagger, 'explain', lambda *args: told.append(place.progress(KEY)) or stand.explain(*args)
    )
    bring(place, 'x', key=KEY)
    assert [(each['step'], each['done'], each['total']) for each in told] == [('explaining', 0, 1)]


def test_nobody_is_told_of_the_clips_of_others(monkeypatch):
    told = []
    place = queue_of(Stand(monkeypatch, on_window=lambda k: told.append(place.progress())))
    bring(place, 'x', 'secret.mp4', key=KEY)
    assert told == [{'state': 'ready', 'is_compiling': False, 'waiting': 0}] * 2


def test_a_key_is_of_one_clip_at_a_time_and_none_of_a_few_letters():
    place = TaggingQueue(lambda: None)
    with place.clip(''), place.clip(''), place.clip(KEY):
        for key, status in ((KEY, 409), ('short', 400), ('x' * 99, 400), ('../' * 9, 400)):
            with pytest.raises(Refusal) as refusal, place.clip(key):
                pass
            assert refusal.value.status == status
    with place.clip(KEY):
        assert place.progress(KEY)['step'] == 'uploading'


def test_clips_wait_while_the_system_is_loaded_and_compiled(monkeypatch):
    states, may_go_on = [], threading.Event()
    tagging = Tagger(Stand(monkeypatch))
    tagging.warm_up = may_go_on.wait
    place = TaggingQueue(lambda: tagging)
    assert place.about() == {'state': 'loading', 'max_seconds': 120.0}
    opening = place.open(states.append)

    async def one():
        with place.clip(KEY) as progress, place.place(progress):
            clip = asyncio.ensure_future(place.tag(Path('x'), 'a.mp4', never(), progress))
            while place.state != 'compiling':
                await asyncio.sleep(0.01)
            facts = place.progress(KEY)
            assert (facts['state'], facts['step'], facts['ahead']) == ('compiling', 'waiting', 0)
            may_go_on.set()
            return await clip

    assert asyncio.run(one())['scenes'][0]['scene'] == 'b'
    assert opening.result() is None and states == ['loading', 'compiling', 'ready']
    assert place.about()['classes'] == ('a', 'b')


def test_it_is_known_when_a_program_is_compiled(monkeypatch):
    told = []
    place = queue_of(Stand(monkeypatch, windows=1, on_window=lambda k: jax.jit(lambda x: x + k)(1)))

    def note():
        told.append(place.progress()['is_compiling'])

    compiling.watch(note, note)  # after the queue's own
    bring(place, 'x')
    assert told[:2] == [True, False] and not place.progress()['is_compiling']


def test_a_clip_that_takes_too_long_is_given_up(monkeypatch):
    stand = Stand(monkeypatch, windows=9, on_window=lambda k: time.sleep(0.05))
    with pytest.raises(
        Refusal, match=r'^a\.mp4 takes longer than 0\.12 s; send a shorter clip'
    ) as refusal:
        bring(queue_of(stand, max_seconds=0.12), 'x', 'a.mp4')
    assert refusal.value.status == 422 and stand.ended == 1


def test_what_there_is_no_time_to_explain_is_left_out_and_told(monkeypatch):
    place = queue_of(Stand(monkeypatch), max_seconds=0.2)
    late = place._tagger._read

    def read(*args):
        found = late(*args)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(place._tagger, '_read', read)
    found = bring(place, 'x')
    assert found['notes'] == ['some windows are not explained: time was up']
    assert found['scenes'][0] == {'scene': 'b', 'p': 0.75}


def test_work_ends_when_nobody_waits_for_it(monkeypatch):
    began = threading.Event()
    stand = Stand(monkeypatch, windows=999, on_window=lambda k: began.set() or time.sleep(0.01))
    place = queue_of(stand)

    async def leave():
        while not began.is_set():
            await asyncio.sleep(0.01)

    with pytest.raises(Refusal, match='the client has disconnected') as refusal:
        bring(place, 'x', gone=leave())
    assert refusal.value.status == 499 and stand.ended == 1 and stand.busy == 0
