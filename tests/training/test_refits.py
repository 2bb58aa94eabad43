"""One job several times: on a fold, and with several seeds."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from absl.testing import flagsaver

from avsc_jax import tables
from avsc_jax.data import folds, sources
from avsc_jax.input_pipeline import encoders, examples, media_inputs
from avsc_jax.runs.run_folder import RunFolder, default_path
from avsc_jax.training import initial_weights, sweep, train

CONFIG = '--config=configs/clip_fusion.py:demo'


@pytest.fixture(scope='module')
def config(demo_config):
    """Makes the tiny config of clip_fusion, on other splits where these are given."""
    return lambda tokens='', **data: demo_config('clip_fusion', tokens, data=data)


def run(data_dir, made, workdir):
    train.run(made, workdir=workdir, data_dir=data_dir, weights_dir=workdir / 'none')


@pytest.fixture(scope='module')
def refit(config, data_dir, tmp_path_factory):
    """Fold 2 by the strict protocol."""
    workdir = tmp_path_factory.mktemp('runs') / 'c04-fold2'
    run(data_dir, config('strict', fold=2), workdir)
    return RunFolder(workdir)


def test_a_fold_is_what_the_job_reports_on_and_never_sees(refit):
    fold_of = folds.read(refit.path / 'folds.tsv')
    assert fold_of == dict(zip(fold_of, folds.assign([*fold_of]).tolist(), strict=True))
    table = tables.read(refit.predictions_file('test'))
    reported = [clip for clip, fold in fold_of.items() if fold == 2]
    assert sorted(set(table.clip_id)) == sorted(reported) and len(table.clip_id) == 12 * 6
    about = refit.read_json('report.json')['about']
    assert about['protocol'] == (
        'trained on folds 0, 1, 4 (18 records), selected on fold 3 (6 records), reported on fold 2 '
        '(6 records); 5 folds that share no location, listed in folds.tsv'
    )
    assert any('not on the official one' in warning for warning in about['warnings'])


def test_features_of_folds_are_those_of_the_stored_splits(
    refit, config, data_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(encoders.EncoderSpec, 'make', None)  # nothing is encoded again
    made = config(fold=3)
    specs = initial_weights.encoder_specs(made, made.encoders, tmp_path)
    folders = {'data_dir': data_dir, 'weights_dir': tmp_path}
    dataset = train.prepare_data(made, data_dir)
    splits = examples.load(made, RunFolder(tmp_path), dataset, specs, **folders).splits
    assert splits['valid'] is splits['test']
    assert not {*splits['train'].clip_id} & {*splits['test'].clip_id}
    stored = examples.load(config(), RunFolder(tmp_path), dataset.whole, specs, **folders).splits
    expected = {
        place: array
        for part in (stored['train'], stored['test'])
        for place, array in zip(
            zip(part.clip_id, part.segment, strict=True),
            part.inputs['features/clip_vit_b32'],
            strict=True,
        )
    }
    for part in (splits['train'], splits['test']):
        found = part.inputs['features/clip_vit_b32']
        assert len(found) == 12 * len({*part.clip_id})
        places = zip(part.clip_id, part.segment, strict=True)
        np.testing.assert_array_equal(found, [expected[place] for place in places])


def test_media_rows_are_those_of_the_fold(config, data_dir):
    dataset = sources.open_dataset(config(fold=1).data, data_dir)
    front_end = {'name': 'hitachi_logmel', 'sample_rate_hz': 48000}
    reader = media_inputs.make({'piece_s': 1.0, 'front_end': front_end, 'size': (32, 24)})
    rows = media_inputs.rows(dataset, 'test', reader)
    outlines = dataset.outlines('test')
    assert rows.clip_id == [o['clip_id'] for o in outlines for _ in range(2)]
    record = dataset.records('test')[4]
    found = rows.inputs.load(9)
    np.testing.assert_array_equal(found['audio'], record['audio'][48000:96000])
    assert found['label'] == record['label'] == outlines[4]['label']


def scored(config, *, workdir, calls):
    """Stands for the job: its report says what the seed says."""
    calls.append((workdir.name, config.seed))
    score = {'log_loss_micro': config.seed / 4, 'accuracy_micro': 1 - config.seed / 10}
    folder = RunFolder(workdir)
    folder.begin(config.to_dict())
    folder.write_json('report.json', {'headline': 'clip', 'scores': {'clip': score, 'frame': {}}})


def test_seeds_give_mean_and_spread(config, main, tmp_path, capsys):
    calls = []
    sweep.run_seeds(partial(scored, calls=calls), config(), [1, 2, 4], tmp_path)
    assert calls == [('seed1', 1), ('seed2', 2), ('seed4', 4)]
    told = json.loads((tmp_path / 'seeds.json').read_text())
    assert told['granularity'] == 'clip'
    assert told['seeds']['4'] == {'log_loss': 1.0, 'accuracy': 0.6}
    # (1 + 2 + 4) / 3 = 7 / 3, from which they are 4, 1 and 5 thirds away: 42 / 9 / 2
    deviation = (7 / 3) ** 0.5
    assert told['mean'] == pytest.approx({'log_loss': 7 / 12, 'accuracy': 1 - 7 / 30})
    assert told['std'] == pytest.approx({'log_loss': deviation / 4, 'accuracy': deviation / 10})
    assert [line.split()[-3:] for line in capsys.readouterr().out.splitlines()] == [
        ['log', 'loss', 'accuracy'],
        ['0.250', '90.0', '%'],
        ['0.500', '80.0', '%'],
        ['1.000', '60.0', '%'],
        ['0.583', '76.7', '%'],
        ['0.382', '15.3', '%'],
    ]


@pytest.mark.slow
def test_seeds_of_the_job_differ_and_finished_ones_are_only_read(
    config, main, data_dir, tmp_path, monkeypatch
):
    again = partial(sweep.run_seeds, partial(train.run, data_dir=data_dir, weights_dir=tmp_path))
    again(config(), [0, 1], tmp_path)
    told = json.loads((tmp_path / 'seeds.json').read_text())
    for seed in ('0', '1'):
        table = tables.pool(tables.read(tmp_path / f'seed{seed}/predictions/test.npz'))
        true = table.probs[np.arange(10), table.label]
        assert told['seeds'][seed]['log_loss'] == pytest.approx(-np.log(true).mean())
    assert told['std']['log_loss'] > 0
    monkeypatch.setattr(train, 'train', None)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.glob('seed?/**/*') if f.is_file()}
    again(config(), [0, 1], tmp_path)
    assert {f: f.stat().st_mtime_ns for f in tmp_path.glob('seed?/**/*') if f.is_file()} == before
    assert json.loads((tmp_path / 'seeds.json').read_text()) == told


def test_a_single_seed_has_no_spread(main):
    report = {'headline': 'clip', 'scores': {'clip': {'log_loss_micro': 0.5, 'accuracy_micro': 1}}}
    told = sweep.spread({3: report})
    assert told['std'] == {'log_loss': None, 'accuracy': None}
    assert sweep.spread_text(told).splitlines()[-1].split() == ['standard', 'deviation', '–', '–']


def test_a_wrong_fold_file_leaves_no_output(config, data_dir, tmp_path):
    whole = sources.open_dataset(config(fold=0).data, data_dir)
    folds.write(tmp_path / 'folds.tsv', whole.clip_ids[1:], whole.folds[1:])
    with pytest.raises(ValueError, match=r'folds\.tsv lacks 1 clips of tfds_tau/demo'):
        run(data_dir, config(fold=0, fold_file=str(tmp_path / 'folds.tsv')), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--seeds=0,1,0'], "--seeds is '0,1,0'; give whole numbers, each once"),
        (['--seeds=0,one'], "--seeds is '0,one'; give whole numbers"),
        (['--seeds=-1'], "--seeds is '-1'; give whole numbers"),
        (['--seeds=0,1', '--seed=2'], '--seed and --seeds exclude each other'),
        (['--fold=5'], r'flag --fold=5: .*\[0, 4\]'),
        (['--fold_file=folds.tsv'], '--fold_file names the folds; --fold='),
        (
            ['--config=configs/hitachi_ensemble.py:demo', '--sweep=seed=1,2'],
            'an ensemble only reads its members',
        ),
    ],
)
@flagsaver.flagsaver
def test_wrong_folds_and_seeds_are_a_sentence(main, monkeypatch, arguments, sentence):
    monkeypatch.setattr(sys, 'argv', ['main'])
    with pytest.raises(ValueError, match=sentence):
        main.parse([CONFIG, *arguments])
        main.read_seeds()


@flagsaver.flagsaver
def test_a_dry_run_of_a_fold_tells_its_counts(main, data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['main'])
    encoders = '{"clip_vit_b32": {"width": 16, "layers": 1, "patch_size": 16, "image_size": 32}}'
    arguments = [CONFIG, '--fold=2', '--seeds=4,5', '--dry_run', f'--data_dir={data_dir}']
    arguments.append(f'--config.encoders={encoders}')
    assert main.main(arguments) == 0
    told = capsys.readouterr().out
    assert 'trained on folds 0, 1, 3, 4 (24 records), selected on fold 2 (6 records)' in told
    assert 'selected on the reported split' in told
    assert 'split train: 24 clips, 288 rows' in told and 'split test: 6 clips, 72 rows' in told
    assert not [*tmp_path.iterdir()]


@flagsaver.flagsaver
def test_the_fold_file_of_the_flag_is_read(main, data_dir, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['main'])
    with pytest.raises(FileNotFoundError, match=r'there is no fold file gone\.tsv; without'):
        main.main([CONFIG, '--fold=0', '--fold_file=gone.tsv', f'--data_dir={data_dir}'])


def test_the_default_run_folder_names_the_fold():
    assert default_path('configs/a.py:b,demo', 3) == Path('runs/a-b-demo-fold3')
    assert default_path('configs/a.py:b,demo') == Path('runs/a-b-demo')
