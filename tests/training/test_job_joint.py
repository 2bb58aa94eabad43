"""A job of two networks that are trained together: what answers where a sense is missing."""

import numpy as np
import pytest

from avsc_jax.data import records
from avsc_jax.predict import Predictor
from avsc_jax.predict.explain import explain
from avsc_jax.runs.load import load_run, load_system
from avsc_jax.runs.run_folder import RunFolder


@pytest.fixture(scope='module')
def run(finished_run):
    return finished_run('joint_fusion')


@pytest.fixture(scope='module')
def record(data_dir):
    return records.open_dataset('tfds_tau', 'demo_segments', data_dir).records('test')[3]


def test_a_row_is_a_frame_and_the_piece_of_sound_of_its_second(run, record, data_dir):
    dataset = records.open_dataset('tfds_tau', 'demo_segments', data_dir)
    *_, preprocess, _ = load_run(run)
    whole = preprocess(record)
    assert {name: x.shape for name, x in whole.items()} == {
        'image': (1, 32, 32, 3), 'sound': (1, 32, 32, 3)
    }  # fmt: skip
    stats = RunFolder(run).stats()
    assert stats['mean'].shape == stats['std'].shape == (3,)
    heard = np.stack([preprocess(each)['sound'] for each in dataset.records('train')])
    assert np.abs(heard.mean((0, 1, 2, 3))).max() < 0.1  # the resize keeps means
    alone = {'audio': record['audio'], 'sample_rate': record['sample_rate']}
    np.testing.assert_array_equal(preprocess(alone)['sound'], whole['sound'])
    assert [*preprocess(alone)] == ['sound']
    assert [*preprocess({'frames': record['frames']})] == ['image']


def test_silence_a_missing_sound_and_a_still_are_answered_alike_and_told(run, record):
    predictor = Predictor.load(run)
    assert predictor.takes == ('sound', 'picture') or predictor.takes == ('picture', 'sound')
    silent = {**record, 'audio': np.zeros_like(record['audio'])}
    (whole,) = predictor.answers([record])
    (hushed,) = predictor.answers([silent])
    (without,) = predictor.answers([record], without=['sound'])
    np.testing.assert_allclose(hushed.probs, without.probs, atol=1e-6)
    assert without.without == ('sound',) and hushed.without == ()
    assert np.abs(whole.probs - without.probs).max() > 1e-6
    assert predictor.notes(silent) == ['the sound is silent; the picture alone answers']
    assert predictor.notes(record) == predictor.notes({'frames': record['frames']}) == []
    only_sound = {name: silent[name] for name in ('audio', 'sample_rate')}
    assert predictor.notes(only_sound) == ['the sound is silent']
    (heard,) = predictor.answers([record], without=['picture'])
    assert heard.without == ('picture',) and np.abs(heard.probs - whole.probs).max() > 1e-6


def test_the_system_in_one_piece_answers_as_the_run(run, record):
    system, predictor = load_system(run), Predictor.load(run)
    assert system.names == {'sound': 'audio', 'image': 'frame'} and system.takes_both
    silent = {**record, 'audio': np.zeros_like(record['audio'])}
    for each in (record, silent):
        probs = np.asarray(system(system.items(each)))
        np.testing.assert_allclose(probs.mean(0), predictor.answers([each])[0].probs, atol=1e-5)
    two = {**record, 'frames': [*record['frames']] * 2}  # a frame too many, as rounding may give
    assert {name: len(x) for name, x in system.items(two).items()} == {'audio': 1, 'frame': 1}


@pytest.mark.slow
def test_an_explanation_has_heat_maps_of_the_pictures_and_answers_without_each_sense(run, record):
    predictor = Predictor.load(run)
    window = {**record, 'start_s': 0.0, 'end_s': 1.0}
    told = explain(predictor, window)
    assert {*told.without} == {'sound', 'picture'}
    assert len(told.pictures) == 1 and told.pictures[0].heat.max() == pytest.approx(1)
