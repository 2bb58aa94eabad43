"""Jobs on the frames of a front end: cut otherwise for training than for scoring, and kept."""

import jax
import numpy as np
import pytest

from avsc_jax import tables
from avsc_jax.audio import frontends
from avsc_jax.data import records
from avsc_jax.input_pipeline import encoders, feature_cache
from avsc_jax.input_pipeline.encoders import EncoderSpec
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import initial_weights, load_run


@pytest.fixture(scope='module')
def finished(finished_run):
    return RunFolder(finished_run('ioacas_audio'))


def test_the_last_epoch_is_kept_and_no_weights_are_published(finished, demo_config):
    told = finished.read_json('report.json')
    assert told['best_epoch'] == 2
    rates = [line['learning_rate'] for line in told['history']]
    assert rates == pytest.approx([0.05, 0.05, 0.025], rel=0.01)
    assert told['about']['protocol'].endswith('; the last epoch is kept')
    assert initial_weights.published(demo_config('ioacas_audio', 'dcnn1d,scalogram')) == []


def test_a_second_is_the_mean_of_its_six_frames_cut_before_they_are_framed(finished, data_dir):
    model, variables, _, _ = load_run(finished.path)
    record = records.open_dataset('tfds_tau', 'demo', data_dir).records('test')[3]
    stats = finished.stats()
    audio = record['audio'][48000:96000]
    frames = np.asarray(frontends.ioacas_logmel(audio, sample_rate_hz=48000))
    assert frames.shape == (6, 2, 256)
    frames = (frames - stats['mean_image']) / stats['std_image']
    expected = jax.nn.softmax(jax.jit(model.apply)(variables, frames)[0]).mean(axis=0)
    table = tables.read(finished.predictions_file('test'))
    row = (table.clip_id == record['clip_id']) & (table.segment == 1)
    np.testing.assert_allclose(table.probs[row][0], expected, atol=1e-4)


def test_training_frames_are_those_of_whole_clips(finished, data_dir):
    (folder,) = {f.parent for f in data_dir.glob('features/*/ioacas_logmel-*/train/*.npz')}
    (block,) = folder.glob('*.npz')
    found = np.load(block)['features']
    audio = records.open_dataset('tfds_tau', 'demo', data_dir).records('train')[4]['audio']
    whole = frontends.ioacas_logmel(audio, sample_rate_hz=48000)  # not second by second
    assert found.shape == (20, 12, 2, 256)  # 1 + 96000 // 8208
    np.testing.assert_allclose(found[4], whole, atol=1e-3)
    stats = finished.stats()
    np.testing.assert_allclose(stats['mean_image'], found.mean((0, 1)), atol=1e-3)
    np.testing.assert_allclose(stats['std_image'], found.std((0, 1)), atol=1e-3)


SPEC = EncoderSpec('ioacas_bark', {'piece_s': 1.0}, encoders.NO_WEIGHTS)


def test_the_key_of_a_front_end_depends_on_how_sound_is_cut():
    assert SPEC.key('data') == SPEC.replace(sample_rate_hz=48000).key('data')
    for change in ({'piece_s': 10.0}, {'mono': 'duplicate'}, {'traunmueller': True}):
        assert SPEC.replace(**change).key('data') != SPEC.key('data')


def test_mono_sound_is_told_and_its_difference_silent_or_a_duplicate(tmp_path):
    rng = np.random.default_rng(0)
    sound = np.repeat(rng.normal(size=(22050, 1)), 2, axis=1).astype(np.float32) / 9
    record = {'audio': sound, 'sample_rate': 44100}
    found = {}
    for mono in ('silent', 'duplicate'):
        encoder = SPEC.replace(mono=mono).make(tmp_path)
        items = encoder.items(record)
        assert [len(item) for item in items] == [48000] and not items[0][24000:].any()
        found[mono] = encoder(items)
        assert encoder.count(items) == len(found[mono]) == 6
        notes = ' '.join(encoder.notes(record))
        assert '44100 Hz is resampled to 48000' in notes and f'a {mono} channel' in notes
    np.testing.assert_allclose(found['silent'][:, 1], np.log(1e-8), rtol=1e-5)
    np.testing.assert_array_equal(found['duplicate'][:, 1], found['duplicate'][:, 0])
    np.testing.assert_array_equal(found['silent'][:, 0], found['duplicate'][:, 0])
    with pytest.raises(ValueError, match="mono is 'left', it must be 'silent' or 'duplicate'"):
        SPEC.replace(mono='left').make(tmp_path)


def test_pieces_are_whole_but_for_silence_behind_the_last(tmp_path):
    encoder = SPEC.make(tmp_path)
    sound = np.arange(2 * 120000, dtype=np.float32).reshape(-1, 2)
    items = encoder.items({'audio': sound, 'sample_rate': 48000})  # 2.5 s are two pieces
    assert [item.shape for item in items] == [(48000, 2)] * 2
    longer = encoder.items({'audio': np.ones((125000, 2), np.float32), 'sample_rate': 48000})
    assert len(longer) == 3 and longer[2][:29000].all() and not longer[2][29000:].any()
    assert encoder.count(longer) == 18


def test_grouped_rows_are_the_frames_of_a_second():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), size=12)
    table = tables.Predictions(
        clip_id=np.repeat(['a', 'b'], 6), segment=np.tile(np.arange(6), 2).astype(np.int32),
        label=np.repeat([0, 2], 6).astype(np.int32), probs=probs,
        meta={'classes': ['x', 'y', 'z'], 'granularity': 'frame'},
    )  # fmt: skip
    found = tables.grouped(table, 3)
    np.testing.assert_allclose(found.probs[3], probs[9:].mean(0))
    assert found.segment.tolist() == [0, 1, 0, 1] and found.clip_id.tolist() == list('aabb')
    assert found.label.tolist() == [0, 0, 2, 2] and found.meta['granularity'] == 'second'
    with pytest.raises(ValueError, match='not 4 frames of each second'):
        tables.grouped(table, 4)


def test_clips_of_unlike_length_keep_their_own_frames(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (96000, 2)).astype(np.float32)
    encoder = SPEC.replace(pieces_together=10).make(tmp_path)
    clips = [
        {
            'clip_id': name,
            'segment': -1,
            'label': 0,
            'audio': noise[:n],
            'sample_rate': 48000,
        }
        for name, n in (('whole', 96000), ('short', 48000))
    ]
    block = feature_cache._encoded(clips, [encoder])['ioacas_bark']
    whole, short = (encoder(encoder.items(clip)) for clip in clips)
    assert block['counts'].tolist() == [len(whole), len(short)] == [12, 6]
    apart = np.stack([whole, np.pad(short, ((0, 6), (0, 0), (0, 0)))])
    np.testing.assert_allclose(block['features'], apart, rtol=1e-5, atol=1e-5)
