"""Rows of clips are counted as they will be made, of any length, and joined by their times."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from avsc_jax.input_pipeline import clip_rows
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.input_pipeline.preprocess import FeatureInputs
from avsc_jax.input_pipeline.system import System, SystemInput

SOUND = EncoderSpec('openl3_audio', {'max_windows': 96}, 'random:0')
SEEN = EncoderSpec('openl3_image', {'frames': 'second_centres'}, 'random:0')
IOA = EncoderSpec('ioacas_logmel', {'piece_s': 1.0}, 'none')
CLIP = EncoderSpec('clip_vit_b32', {}, 'random:0')


class Run:
    """In the place of the spec of a run that is an encoder."""

    name, settings = 'run', {'piece_s': 1.0, 'front_end': {}}


@pytest.mark.parametrize(
    ('settings', 'specs', 'window_s', 'count'),
    [
        ({'piece_s': 1.0}, [], 0.5, 1),
        ({'piece_s': 1.0}, [], 30.0, 30),
        ({'frames': 'clip12'}, [], 2.0, 12),
        ({'frames': 'hou', 'pictures': 10}, [], 10.0, 1),
        ({}, [SOUND], 1.0, 6),
        ({}, [SOUND], 10.0, 96),
        ({}, [SOUND], 60.0, 596),
        ({'frames_per_row': {'features/openl3_audio': 4}}, [SOUND], 10.0, 24),
        ({'pool': 'mean'}, [SOUND, SEEN], 30.0, 1),
        ({}, [IOA], 0.8, 6),
        ({}, [IOA], 2.6, 18),
        ({'frames': 'evaluation5'}, [CLIP], 10.0, 5),
        ({}, [SEEN, Run], 2.6, 3),
    ],
)
def test_rows_are_counted_as_they_will_be_made(settings, specs, window_s, count):
    assert clip_rows.of_clip(settings, specs, window_s) == count


def test_inputs_that_differ_or_do_not_fill_a_row_are_sentences():
    with pytest.raises(ValueError, match=r'differ in rows \(16 of .*audio, 2 of .*image\)'):
        clip_rows.of_clip({}, [SOUND, SEEN], 2.0)
    with pytest.raises(ValueError, match=r'16 frames of .* cannot be divided into rows of 5'):
        clip_rows.of_clip({'frames_per_row': {'features/openl3_audio': 5}}, [SOUND], 2.0)


class Teller:
    """An encoder and a transform whose rows tell the second of a piece of sound or of a picture."""

    item = jax.ShapeDtypeStruct((1,), np.float32)
    facts = {}

    def __init__(self, name, takes):
        self.spec, self.takes = SimpleNamespace(name=name, takes=takes), takes

    def items(self, record):
        return [np.float32([second]) for second in record[self.takes]]

    def count(self, items):
        return len(items)

    def __call__(self, items):
        return np.stack(items)


@pytest.mark.parametrize(
    ('filled', 'rows'),
    [
        ([True] * 6, [0, 1, 2, 3, 4, 5]),
        ([False, True, True, True, True, True], [1, 2, 3, 4, 5]),
        ([False, False, True, True, False, False], [2, 3]),
    ],
)
def test_predict_and_exported_systems_join_sound_and_pictures_by_their_times(filled, rows):
    tellers = [Teller('heard', 'audio'), Teller('seen', 'frames')]
    record = {'audio': np.arange(6), 'frames': np.flatnonzero(filled)}
    record['frame_filled'] = np.array(filled)
    made = FeatureInputs({}, tellers)(record)
    assert {*made} == {'features/heard', 'features/seen'}
    assert all(x.ravel().tolist() == rows for x in made.values())
    settings = {'encoders': [{'name': 'heard'}, {'name': 'seen'}]}
    sources = {teller.spec.name: SystemInput(teller) for teller in tellers}
    items = System(None, settings, None, sources).items(record)
    assert all(x.ravel().tolist() == rows for x in items.values())
    pooled = System(None, settings | {'pool': 'mean'}, None, sources).items(record)
    assert pooled['heard'].ravel().tolist() == [0, 1, 2, 3, 4, 5]
