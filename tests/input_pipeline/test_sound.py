"""Sound of any length is cut by one rule, and every caller's network sees the same of it."""

import jax
import numpy as np
import pytest

from avsc_jax.audio import frontends
from avsc_jax.data import media
from avsc_jax.input_pipeline import media_inputs, preprocess, sound
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.input_pipeline.system import SystemInput

RATE = 48000
# Length of a sound in s -> its pieces of a second.
SECONDS = {
    0.3: 1, 0.6: 1, 0.8: 1, 0.9: 1, 0.97: 1, 1.0: 1, 1.4: 1, 1.6: 2, 2.5: 2, 9.5: 10, 9.97: 10,
    10.0: 10, 10.49: 10, 10.51: 11,
}  # fmt: skip
DEFAULT = (0.3, 0.9, 2.5, 9.97, 10.51)
LENGTHS = [pytest.param(s, marks=[pytest.mark.slow] * (s not in DEFAULT)) for s in SECONDS]
OPTIONS = {'piece_s': 1.0, 'sample_rate_hz': RATE}
IOA = EncoderSpec('ioacas_logmel', OPTIONS, 'none')
OPENL3 = EncoderSpec(
    'openl3_audio',
    dict(widths=(2, 2, 2, 3), embedding_size=3, hop_s=1.0, centre=False),
    'random:0',
)
HITACHI = {
    'piece_s': 1.0,
    'front_end': {'name': 'hitachi_logmel', 'sample_rate_hz': RATE},
    'size': (16, 12),
}


@pytest.fixture(scope='module')
def ioa():
    """The encoder, and its compiled half of an exported system."""
    return IOA.make(None), jax.jit(SystemInput(IOA.transform).prepared)


@pytest.fixture(scope='module')
def hitachi():
    """The same of a network's own spectra."""
    made = media_inputs.make(HITACHI)
    return made, jax.jit(SystemInput(made).prepared)


def record(length_s, *, rate=RATE, channels=2):
    noise = np.random.default_rng(round(100 * length_s))
    audio = noise.normal(0, 0.1, (round(length_s * rate), channels)).astype(np.float32)
    return {'clip_id': 'x', 'audio': audio, 'sample_rate': rate}


class Stored:
    """A record as a data set gives it."""

    def __init__(self, clip):
        self.clip = clip
        self.outline = clip | {'num_samples': len(clip['audio'])}

    def sound(self, index, start, end):
        return self.clip['audio'][start:end]


@pytest.mark.parametrize(('length_s', 'count'), SECONDS.items())
def test_pieces_are_the_nearest_whole_number_and_the_last_is_completed_by_zeros(length_s, count):
    clip = record(length_s)
    samples = len(clip['audio'])
    assert media.num_pieces(samples, RATE) == count
    found = sound.pieces(clip['audio'], RATE)
    assert found.shape == (count, RATE, 2)
    joined = found.reshape(-1, 2)
    np.testing.assert_array_equal(joined[:samples], clip['audio'][: len(joined)])
    assert not joined[samples:].any()


@pytest.mark.parametrize('length_s', LENGTHS)
def test_frames_of_a_front_end_are_the_same_in_extraction_predict_and_exported_systems(
    length_s, ioa
):
    clip, (encoder, prepared) = record(length_s), ioa
    items = encoder.items(clip)
    extracted = encoder(items)
    assert encoder.count(items) == len(extracted) == 6 * SECONDS[length_s]
    predicted = preprocess.FeatureInputs({}, [encoder])(clip)['features/ioacas_logmel']
    exported = prepared(SystemInput(IOA.transform).items(clip))
    np.testing.assert_array_equal(predicted, extracted)
    np.testing.assert_allclose(exported, extracted, atol=1e-5)


@pytest.mark.parametrize('length_s', LENGTHS)
def test_spectra_are_the_same_in_training_predict_and_exported_systems(length_s, hitachi):
    clip, (made, prepared) = record(length_s), hitachi
    stored = Stored(clip)
    assert made.count(stored.outline) == SECONDS[length_s]
    parts = [made.read(stored, 0, k)['audio'] for k in range(SECONDS[length_s])]
    trained = np.asarray(made.prepare_batch(None, {'audio': np.stack(parts)})['image'])
    exported = prepared(SystemInput(made).items(clip))
    np.testing.assert_allclose(made(clip), trained, atol=1e-4)
    np.testing.assert_allclose(exported, trained, atol=1e-4)


def test_sound_of_any_rate_is_trained_on_as_predict_hears_it_where_the_front_end_resamples():
    own = {'name': 'efficientat_logmel', 'sample_rate_hz': 32000}
    made = media_inputs.make({'piece_s': 0.5, 'front_end': own, 'size': (128, 50)})
    assert not made.takes_stats
    for rate in (44100, 32000):
        clip = record(1.2, rate=rate)
        stored = Stored(clip)
        assert made.count(stored.outline) == 2
        parts = [made.read(stored, 0, k, stored.outline)['audio'] for k in range(2)]
        np.testing.assert_array_equal(parts, made.items(clip))
        rows = np.asarray(made.prepare_batch(None, {'audio': np.stack(parts)})['image'])
        expected = frontends.efficientat_logmel(np.stack(parts), sample_rate_hz=32000)
        np.testing.assert_allclose(rows, expected, atol=1e-6)  # resized to the size that it has
        np.testing.assert_allclose(made(clip), rows, atol=1e-5)


@pytest.mark.parametrize(
    ('length_s', 'windows', 'hop_s', 'count'),
    [
        (10.0, {}, 10.0, 1), (10.4, {}, 10.0, 1), (0.2, {}, 10.0, 1), (26.0, {}, 10.0, 3),
        (3.0, {'window_s': 1.0, 'hop_s': 1.0}, 1.0, 3),
        (2.4, {'window_s': 2, 'hop_s': 0.5}, 0.5, 2),
    ],
)  # fmt: skip
def test_efficientat_s_windows_leave_out_half_a_hop_at_most(length_s, windows, hop_s, count):
    spec = EncoderSpec('mn10_as', {'num_classes': 0, **windows}, 'random:0')
    assert spec.takes == 'audio'
    clip = record(length_s, rate=32000)
    items, mono = spec.transform.items(clip), clip['audio'].mean(axis=1)
    length = spec.transform.item.shape[0]
    assert len(items) == count and {item.shape for item in items} == {(length, 1)}
    for k, item in enumerate(items):
        own = mono[round(k * hop_s * 32000) :][:length]
        np.testing.assert_array_equal(item[: len(own), 0], own)
        assert not item[len(own) :].any()


def test_efficientat_s_windows_say_what_they_do_to_sound():
    spec = EncoderSpec('mn10_as', {'num_classes': 0}, 'random:0')
    quiet = record(1.0) | {'audio': np.zeros((RATE, 2), np.float32)}
    assert spec.transform.notes(quiet) == [
        'sound of 48000 Hz is resampled to 32000 Hz',
        'sound of less than 10 s is completed by zeros',
        'the sound is silent',
    ]
    for wrong in ({'window_s': 0.3}, {'window_s': 86400.0}, {'hop_s': 0.0}):
        with pytest.raises(
            ValueError, match=r'windows must last 0\.32 to 60 s, with a hop above 0'
        ):
            spec.replace(**wrong).check()


@pytest.mark.parametrize('length_s', [0.3, 0.97, 2.5, 9.97])
def test_openl3_s_windows_are_the_same_in_extraction_and_exported_systems(length_s):
    clip, source = record(length_s), SystemInput(OPENL3.transform)
    items = OPENL3.transform.items(clip)
    extracted = OPENL3.transform.prepare(np.stack(items))
    np.testing.assert_array_equal(source.items(clip), items)
    exported = jax.jit(source.prepared)(source.items(clip))
    np.testing.assert_allclose(exported, extracted, atol=1e-4)


@pytest.mark.parametrize(
    ('length_s', 'count'),
    {2.0: 16, 9.97: 96, 10.0: 96, 10.3: 96, 10.5: 96, 10.6: 102, 30.0: 296, 60.0: 596}.items(),
)
def test_openl3_s_limit_is_that_of_ten_seconds_and_longer_sound_is_heard_in_full(length_s, count):
    limited = OPENL3.replace(hop_s=0.1, centre=True, max_windows=96)
    items = limited.transform.items(record(length_s))
    assert len(items) == count
    free = limited.replace(max_windows=None).transform.items(record(length_s))
    assert 0 <= len(free) - count <= (5 if length_s == 10.5 else 3 if length_s == 10.3 else 1)
    np.testing.assert_array_equal(items[-1], free[count - 1])


def test_pieces_together_are_one_item_and_silence_fills_no_item():
    spec = IOA.replace(pieces_together=10)
    lengths = {0.3: [1], 2.0: [2], 10.0: [10], 12.4: [10, 2]}
    for length_s, seconds in lengths.items():
        items = spec.transform.items(record(length_s))
        assert [len(item) / RATE for item in items] == seconds
    encoder, clip = spec.make(None), record(12.4)
    items = encoder.items(clip)
    found = encoder(items)
    assert len(found) == encoder.count(items) == 59 + 12
    np.testing.assert_allclose(found[:5], IOA.make(None)(items[:1])[:5], atol=1e-5)


def test_mono_sound_and_other_rates_are_cut_alike():
    mono = record(1.6, rate=8000, channels=1)
    found = sound.stereo_pieces(mono, RATE, RATE)
    assert found.shape == (2, RATE, 2)
    np.testing.assert_array_equal(found[..., 0], found[..., 1])


@pytest.mark.parametrize(
    ('length_s', 'note'),
    [
        (0.5, ['sound that is shorter than a piece of 1 s is completed by zeros']),
        (0.97, []),
        (1.0, []),
        (1.03, []),
        (1.4, ['the end of the sound, half a piece of 1 s at most, is left out']),
        (1.8, ['the last piece of 1 s is completed by zeros']),
        (10.3, ['the end of the sound, half a piece of 1 s at most, is left out']),
    ],
)
def test_what_cutting_adds_or_leaves_out_is_a_note(length_s, note):
    clip = record(length_s)
    assert sound.piece_notes(clip, 1.0) == note
    assert media_inputs.make(HITACHI).notes(clip) == note
    assert IOA.transform.notes(clip) == note
