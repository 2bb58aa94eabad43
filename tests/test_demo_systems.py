"""Systems of both senses and their parts, trained on the whole demo by their commands."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from avsc_jax import tables
from avsc_jax.data import sources
from avsc_jax.predict import Predictor
from avsc_jax.report import comparison
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.scenes import SCENES


@pytest.fixture(scope='module')
def runs(tmp_path_factory, train_on_demo):
    """Config with tokens -> its run folder, trained when it is first asked for."""
    folder = tmp_path_factory.mktemp('demo')

    def run(config, *flags):
        train_on_demo(folder, f'--config=configs/{config},demo', *flags)
        name = config.replace('.py:', '-').replace(',', '-')
        return RunFolder(folder / 'runs' / f'{name}-demo')

    return run


def gain(better, worse):
    """By how much one run's log loss is lower than another's; see gain_of_tables."""
    return gain_of_tables(*(tables.read(run.predictions_file('test')) for run in (better, worse)))


def gain_of_tables(better, worse):
    """By how many paired standard errors over locations the log loss of clips is lower."""
    found = {'better': tables.pool(better), 'worse': tables.pool(worse)}
    told = comparison.make(found)['tests']['worse']['log_loss']
    return -told.difference / told.standard_error


def last(run):
    """The last line of a run's history."""
    return json.loads((run.path / 'metrics.jsonl').read_text().splitlines()[-1])


@pytest.mark.slow
def test_feng_s_fusion_beats_each_sense(runs):
    fused = runs('feng_fusion.py:intermediate')
    for sense in ('audio', 'video'):
        assert gain(fused, runs(f'feng_fusion.py:{sense}')) > 2


@pytest.mark.slow
def test_feng_s_weighted_fusion_tells_its_weights(runs):
    told = runs('feng_fusion.py:weighted').read_json('report.json')
    (weights,) = told['learned'].values()
    assert [*weights] == list(SCENES) and all(value != 0 for value in weights.values())
    assert any('random encoders' in warning for warning in told['about']['warnings'])


@pytest.mark.slow
def test_the_baseline_of_both_senses_trains_its_stages_and_beats_them(runs):
    both = runs('openl3_baseline.py:audio_video')
    for sense in ('audio', 'video'):  # trained by the command above
        assert gain(both, RunFolder(both.path.with_name(f'openl3_baseline-{sense}-demo'))) > 2
    scores = both.read_json('report.json')['scores']
    assert scores['second']['items'] == 600 and scores['clip']['items'] == 60


@pytest.mark.slow
def test_hou_s_dual_stream_trains_on_features_and_pictures(runs):
    told = runs('hou_dual_stream.py:final', '--config.epochs=4').read_json('report.json')
    assert told['split'] == 'validation'
    assert told['scores']['clip']['log_loss_micro'] < 2.0  # of ten scenes a guess has 2.30


@pytest.mark.slow
def test_a_hybrid_of_ioacas_takes_its_parts_and_beats_them(runs):
    # for fewer epochs than the hybrid's command would train them
    sound = runs('ioacas_audio.py:resnet1d,logmel', '--config.epochs=3')
    picture = runs('ioacas_image.py:resnet50', '--config.epochs=3')
    hybrid = runs('ioacas_fusion.py:resnet50,logmel')
    assert gain(hybrid, sound) > 2 and gain(hybrid, picture) > 2
    assert [part['epoch'] for part in (last(sound), last(picture))] == [2, 2]  # not trained again
    assert hybrid.read_json('report.json')['scores']['second']['items'] == 600


@pytest.mark.slow
def test_a_late_fusion_with_attention_beats_each_of_its_encoders(runs, whole_demo):
    both = runs('late_fusion.py:clip_vit_b32+openl3_audio,attention')
    assert both.read_json('preprocessing.json')['length']['features/clip_vit_b32'] == 12
    for encoder in ('clip_vit_b32', 'openl3_audio'):
        assert gain(both, runs(f'late_fusion.py:{encoder},attention')) > 2
    clip = tables.read(both.predictions_file('test')).clip_id[0]
    predictor = Predictor.load(both.path)
    for file, without in ((f'audio/{clip}.wav', 'picture'), (f'video/{clip}.mp4', 'sound')):
        told = predictor(next(whole_demo.rglob(file)))
        assert np.isfinite(told.windows[0][2].probs).all() and f'without {without}' in told.notes[0]


def answered_without(run, sense, data_dir):
    """The table of a run's test split, answered without one of the senses."""
    predictor, table = Predictor.load(run.path), tables.read(run.predictions_file('test'))
    dataset = sources.open_dataset(ConfigDict(run.config['data']), data_dir)
    records, probs = dataset.records('test'), []
    for start in range(0, len(records), 20):
        batch = [records[k] for k in range(start, min(start + 20, len(records)))]
        probs += [answer.probs for answer in predictor.answers(batch, without=[sense])]
    return dataclasses.replace(table, probs=np.stack(probs).astype(np.float64))


@pytest.mark.slow
def test_joint_training_beats_each_sense_and_dropped_ones_teach_it_to_answer_by_one(
    runs, whole_demo, train_on_demo, tmp_path
):
    joint = runs('joint_fusion.py:resnet50')
    for name in ('ioacas_image.py:resnet50', 'ioacas_audio.py:resnet1d,logmel'):
        workdir = tmp_path / name  # the hybrid's parts of these names were trained for less long
        train_on_demo(tmp_path, f'--config=configs/{name},demo', f'--workdir={workdir}')
        assert gain(joint, RunFolder(workdir)) > 2
    whole = runs('joint_fusion.py:resnet50,resnet1d', '--config.model.modality_dropout=0.0')
    data_dir = Path(os.environ.get('TFDS_DATA_DIR') or whole_demo.parents[1])
    # with seed 0, 4.5 without sound, but only 1.7 without picture: no more than a hint
    for sense, least in (('sound', 2), ('picture', 0)):
        tables_of = [answered_without(run, sense, data_dir) for run in (joint, whole)]
        assert gain_of_tables(*tables_of) > least, sense
