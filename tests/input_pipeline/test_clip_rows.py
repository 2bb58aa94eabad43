"""Rows of clips are counted as they will be made, of any length."""

import pytest

from avsc_jax.input_pipeline import clip_rows
from avsc_jax.input_pipeline.encoders import EncoderSpec

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
