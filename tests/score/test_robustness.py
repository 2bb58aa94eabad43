"""Disturbed clips by hand, what a system is given of them, and the command on a small run."""

import csv
import json
import math

import numpy as np
import pytest

from avsc_jax import metrics
from avsc_jax import robustness as command
from avsc_jax.data import records
from avsc_jax.predict import predictor as tagging
from avsc_jax.predict.answer import Answer
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.score import robustness
from avsc_jax.score.robustness import CONDITIONS, dark, noisy


def record(key=0, segment=-1, label=0, level=0.1):
    draw = np.random.default_rng(key)
    return {
        'clip_id': f'clip{key}',
        'segment': segment,
        'label': label,
        'audio': draw.normal(0, level, (4800, 2)).astype(np.float32),
        'sample_rate': 48000,
        'frames': [draw.integers(0, 256, (4, 6, 3), np.uint8) for _ in range(2)],
    }


@pytest.mark.parametrize('snr_db', [20, 10, 0])
@pytest.mark.parametrize('level', [0.5, 0.001])
def test_noise_has_its_ratio_to_the_clip_s_own_power(snr_db, level):
    clip = record(level=level)
    noise = np.float64(noisy(clip, snr_db=snr_db)['audio']) - clip['audio']
    ratio = np.mean(np.float64(clip['audio']) ** 2) / np.mean(noise**2)
    assert 10 * math.log10(ratio) == pytest.approx(snr_db, abs=0.2)  # 9,600 draws
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05  # each channel has its own


def test_noise_is_drawn_by_the_clip_and_the_same_at_every_level():
    first, second = record(0), record(1)
    np.testing.assert_array_equal(noisy(first, snr_db=0)['audio'], noisy(first, snr_db=0)['audio'])
    loud, faint = (noisy(first, snr_db=db)['audio'] - first['audio'] for db in (0, 20))
    np.testing.assert_allclose(faint, loud / 10, atol=1e-6)
    for other in (second, record(0, segment=3)):
        unlike = noisy({**other, 'audio': first['audio']}, snr_db=0)['audio'] - first['audio']
        assert np.abs(np.corrcoef(unlike[:, 0], loud[:, 0])[0, 1]) < 0.1
    silent = record() | {'audio': np.zeros((10, 2), np.float32)}
    assert not noisy(silent, snr_db=0)['audio'].any()
    np.testing.assert_array_equal(first['audio'], record(0)['audio'])  # it is left as it was


def test_frames_are_darkened_to_a_quarter_and_openl3_s_pictures_likewise():
    clip = record() | {'frames': [np.array([[[0, 100, 255]]], np.uint8)]}
    (frame,) = dark(clip)['frames']
    assert frame.dtype == np.uint8 and frame.tolist() == [[[0, 25, 64]]]
    assert clip['frames'][0].tolist() == [[[0, 100, 255]]]
    for black, white in ((0, 1), (-1, 1)):  # as media.openl3_pictures has it
        picture = np.array([black, (black + white) / 2, white], np.float32)
        (found,) = dark({'media_frames': [picture]})['media_frames']
        span = white - black
        np.testing.assert_allclose(found, black + np.array([0, 0.125, 0.25]) * span)
        assert found.dtype == np.float32


class Told:
    """In the place of a system: it names class 0 as far as what it is given is undisturbed."""

    classes, warnings, members = ('a', 'b'), [], []

    def __init__(self, *takes):
        self.takes = takes

    def answers(self, batch, *, without=()):
        return [self._answer(record, without) for record in batch]

    def _answer(self, given, without):
        clean = record(int(given['clip_id'][4:]), level=0.1)
        chance = 0.9
        chance -= 0.4 * ('sound' in without) + 0.3 * ('picture' in without)
        if 'sound' in self.takes:
            chance -= min(0.2, np.abs(given['audio'] - clean['audio']).mean())
        if 'picture' in self.takes:
            chance -= 0.15 * (given['frames'][0].mean() < clean['frames'][0].mean() / 2)
        return Answer(np.array([chance, 1 - chance]), np.zeros(1), tuple(without))


@pytest.mark.parametrize(
    ('takes', 'met'),
    [
        (['sound', 'picture'], tuple(CONDITIONS)),
        (['sound'], ('clean', 'noise 20 dB', 'noise 10 dB', 'noise 0 dB')),
        (['picture'], ('clean', 'dark')),
    ],
)
def test_a_system_meets_what_disturbs_what_it_takes(takes, met):
    # two seconds of one clip become one, of the true scene; the other clip is of the other scene
    clips = [record(0, 0), record(0, 1), record(1, label=1)]
    scores, num_clips = robustness._scores(Told(*takes), iter(clips))
    assert (tuple(scores), num_clips) == (met, 2)
    of_chance = {name: -(math.log(p) + math.log(1 - p)) / 2 for name, p in (
        ('clean', 0.9), ('no sound', 0.5), ('no picture', 0.6), ('dark', 0.75),
    )}  # fmt: skip
    for name in {*of_chance} & {*met}:
        assert scores[name]['log_loss'] == pytest.approx(of_chance[name])
        assert scores[name]['accuracy'] == 0.5
    if 'sound' in takes:  # each noise takes a chance of its own, away from what all begin with
        losses = [scores[name]['log_loss'] for name in ('clean', *met) if 'noise' in name]
        assert losses == sorted(losses, reverse=True) and len({*losses}) == 3


@pytest.fixture
def run(data_dir, tmp_path, write_run):
    """A finished run of both senses, with random variables, on the thinned demo."""
    inputs = {'audio_embedding': 'openl3_audio', 'image_embedding': 'openl3_image'}
    narrow = {'embedding_size': 4, 'widths': [2, 2, 2, 4]}
    encoders = [
        {'name': name, 'options': narrow | options, 'weights': 'random:0'}
        for name, options in (
            ('openl3_audio', {'hop_s': 1.0, 'centre': False}),
            ('openl3_image', {'input_shape': [64, 64, 3], 'frames': 'second_centres'}),
        )
    ]
    settings = {'items': 'clip', 'inputs': inputs, 'pool': 'mean', 'standardize': True}
    settings['encoders'] = encoders
    spread = {'audio': (36, 5), 'image': (0.5, 0.4)}  # of these embeddings: mean and deviation
    stats = {
        f'{kind}_{sense}_embedding': np.full(4, value, np.float32)
        for sense, values in spread.items()
        for kind, value in zip(('mean', 'std'), values, strict=True)
    }
    dataset = records.open_dataset('tfds_tau', 'demo', data_dir)
    model = {'name': 'feng_intermediate', 'hidden': 4, 'embeddings': dict.fromkeys(inputs, 4)}
    made = {'classes': list(dataset.classes), 'stats': stats}
    folder = RunFolder(write_run(tmp_path / 'both', model, settings, **made))
    data = {'name': 'tfds_tau', 'config': 'demo', 'test': 'test'}
    folder.write_json('config.json', {'model': model, 'data': data})
    folder.write_json('environment.json', {'data': dataset.identities[0]})
    folder.finish()
    return folder


@pytest.mark.slow
def test_the_command_scores_a_run_under_every_condition(
    run, data_dir, tmp_path, monkeypatch, capsys
):
    system, dataset = tagging.load(run.path), records.open_dataset('tfds_tau', 'demo', data_dir)
    monkeypatch.setattr(tagging, 'load', lambda folder, weights_dir: {run.path: system}[folder])
    line = [str(run.path), f'--data_dir={data_dir}', '--clips=5']
    assert command.main([*line, f'--out={tmp_path}/out.json']) == 0
    shown = capsys.readouterr().out.splitlines()
    (found,) = json.loads((tmp_path / 'out.json').read_text())
    assert [*found['scores']] == [*CONDITIONS]
    assert len({score['log_loss'] for score in found['scores'].values()}) == len(CONDITIONS)
    # evenly spread: every second clip, with the pictures of its video file
    clips = [*robustness.clips.records(system, dataset, 'test', data_dir)][1::2]
    probs = np.stack([answer.probs for answer in system.answers(clips)])
    loss = metrics.log_loss(probs, np.array([clip['label'] for clip in clips]))
    assert found['scores']['clean']['log_loss'] == pytest.approx(loss, rel=1e-4)
    assert shown[0].startswith('log loss, accuracy ') and shown[1].startswith('both ')
    assert f' {loss:.3f}, ' in shown[1] and '! random variables' in shown
    assert 'tfds_tau/demo/1.0.0 test, 5 clips, by 5 of 10 records: both' in shown
    assert shown[-1] == f'wrote {tmp_path}/out.json'


def test_a_table_is_told_as_markdown_and_at_full_precision(tmp_path):
    scores = {'clean': {'log_loss': 0.12345, 'accuracy': 2 / 3}}
    one = {'run': 'a', 'about': 'demo', 'warnings': ['beware'], 'scores': scores}
    two = one | {'run': 'b', 'about': 'other', 'scores': dict.fromkeys(CONDITIONS, scores['clean'])}
    rows = list(csv.DictReader(robustness.WRITERS['.tsv']([one, two]).splitlines(), delimiter='\t'))
    assert [row['condition'] for row in rows] == ['clean', *CONDITIONS]
    assert (rows[0]['log_loss'], float(rows[0]['accuracy'])) == ('0.12345', 2 / 3)
    head, line, first, second, _, *notes = robustness.WRITERS['.md']([one, two]).splitlines()
    assert [cell.strip() for cell in head.split('|')[2:-1]] == [*CONDITIONS]
    assert set(line) == {*'| -'} and second.count('0.123, 66.7 %') == 7
    assert [cell.strip() for cell in first.split('|')[1:4]] == ['a', '0.123, 66.7 %', '–']
    assert notes[:3] == ['- ! beware', '- demo: a', '- other: b']


@pytest.mark.slow
def test_clips_of_other_data_than_the_run_s_are_warned_of(run, data_dir, monkeypatch, capsys):
    run.write_json('environment.json', {'data': 'tfds_tau/demo/1.0.0 abc'})
    run.finish()
    monkeypatch.setattr(tagging, 'load', lambda folder, weights_dir: Told('sound'))
    monkeypatch.setattr(robustness, '_scores', lambda tagger, records: ({}, 10))
    assert command.main([str(run.path), f'--data_dir={data_dir}']) == 0
    told = (
        '! both was trained on tfds_tau/demo/1.0.0 abc, but these clips are of tfds_tau/demo/1.0.0 '
    )
    assert told in capsys.readouterr().out


@pytest.mark.parametrize('count', [3, 12, 100])
def test_clips_of_two_splits_are_the_first_of_both_joined(
    run, data_dir, monkeypatch, capsys, count
):
    monkeypatch.setattr(tagging, 'load', lambda folder, weights_dir: Told('sound'))
    read = []

    def scores(tagger, found):
        read.extend(record['clip_id'] for record in found)
        return {}, len(read)

    monkeypatch.setattr(robustness, '_scores', scores)
    line = [str(run.path), f'--data_dir={data_dir}', '--split=test+validation']
    assert command.main([*line, f'--clips={count}']) == 0
    dataset = records.open_dataset('tfds_tau', 'demo', data_dir)
    both = [o['clip_id'] for part in ('test', 'validation') for o in dataset.outlines(part)]
    assert read == both[:count]


def test_bad_input_is_a_sentence_before_anything_is_read(run, data_dir, tmp_path):
    name, where = str(run.path), f'--data_dir={data_dir}'
    for arguments, sentence in (
        ([f'{tmp_path}/none'], 'none holds no finished run'),
        ([name, '--clips=0'], '--clips is 0; it must be 1 or more'),
        ([name, '--out=table.csv'], r'table.csv must end in .md, .tsv, .json'),
        ([name, where, '--split=dusk'], "has no split 'dusk'"),
        ([name, f'--data_dir={tmp_path}'], 'is not prepared'),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=sentence):
            command.main(arguments)
    folded = {'name': 'tfds_tau', 'config': 'demo', 'test': 'test', 'fold': 0}
    run.write_json('config.json', {'data': folded})
    run.finish()
    with pytest.raises(ValueError, match='is scored on a fold, which --clips cannot shorten'):
        command.main([name, where, '--clips=2'])
    run.write_json('config.json', {'data': {'name': 'tfds_tau', 'config': 'demo'}})
    run.finish()
    with pytest.raises(ValueError, match=r'has no test split; name a split of .* by --split'):
        command.main([name, where])


def test_a_label_that_is_unknown_cannot_be_scored():
    with pytest.raises(ValueError, match='-1 means unknown'):
        robustness._scores(Told('sound'), iter([record(label=-1)]))
