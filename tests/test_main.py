"""The main job as a user runs it, on a thin demo set; and every wrong input it can be given."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl.testing import flagsaver

import avsc_jax
from avsc_jax import models, tables
from avsc_jax.predict import __main__ as predict
from avsc_jax.runtime import cli
from avsc_jax.training import load_run
from tfds_tau.tfds_tau_dataset_builder import Builder

ROOT = Path(__file__).parents[1]
CONFIG = '--config=configs/clip_fusion.py:demo'


def run(*arguments):
    command = [sys.executable, '-m', *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def here(monkeypatch, capsys, one_encoder):
    """The main command in this process, which is faster: (exit code, out, err)."""

    def command(data_dir, workdir, *arguments, config=CONFIG, tiny=one_encoder):
        given = [config, *tiny, f'--data_dir={data_dir}', f'--workdir={workdir}', *arguments]
        monkeypatch.setattr(sys, 'argv', ['main', *given])
        capsys.readouterr()
        with flagsaver.flagsaver():
            from avsc_jax import main  # anew each time, with its flags

            code = cli.main(main.main)
        for flag in main.FLAGS.get_flags_for_module(main.__name__):
            delattr(main.FLAGS, flag.name)
        del sys.modules['avsc_jax.main'], avsc_jax.main
        return code, *capsys.readouterr()

    return command


@pytest.fixture(scope='module')
def finished(finished_run):
    """The run folder of the command as a user gives it, and what it printed."""
    workdir = finished_run('clip_fusion')
    return workdir, *((workdir.parent / f'{name}.txt').read_text() for name in ('out', 'err'))


def test_the_run_folder_holds_all_that_the_contract_names(finished):
    workdir, out, err = finished
    for name in ('config.json', 'environment.json', 'classes.json', 'preprocessing.json'):
        json.loads((workdir / name).read_text())
    for name in ('DONE', 'metrics.jsonl', 'report.json', 'report.html', 'predictions/test.npz'):
        assert (workdir / name).stat().st_size
    assert list((workdir / 'tensorboard').glob('events*'))
    assert list((workdir / 'checkpoints/best').iterdir())
    assert len((workdir / 'metrics.jsonl').read_text().splitlines()) == 3
    devices, data = err.splitlines()[:2]
    assert 'cpu' in devices and 'GiB' in devices
    assert data.startswith('data: tfds_tau/demo in ')
    assert 'made-up clips' in out and 'selected on the reported split' in out
    environment = json.loads((workdir / 'environment.json').read_text())
    assert set(environment['weights'].values()) == {'random:0'}


def test_the_table_has_a_row_for_each_frame_and_the_report_its_score(finished):
    workdir, _, _ = finished
    table = tables.read(workdir / 'predictions/test.npz')
    assert len(table.clip_id) == 10 * 12
    assert table.segment[:13].tolist() == [*range(12), 0]
    np.testing.assert_allclose(table.probs.sum(1), 1, atol=1e-12)
    clips = tables.pool(table)
    told = json.loads((workdir / 'report.json').read_text())['scores']['clip']
    assert told['accuracy_micro'] == pytest.approx((clips.probs.argmax(1) == clips.label).mean())


def test_load_run_gives_what_the_table_was_made_of(finished, data_dir):
    from avsc_jax.data import records

    workdir, _, _ = finished
    model, variables, preprocess, classes = load_run(workdir)
    assert models.count_parameters('clip_late_fusion', encoders={'clip_rn101': 512}) == sum(
        leaf.size for leaf in _leaves(variables['params'])
    )
    record = records.open_dataset('tfds_tau', 'demo', data_dir).records('test')[3]
    logits, _ = jax.jit(model.apply)(variables, preprocess(record))
    table = tables.read(workdir / 'predictions/test.npz')
    expected = table.probs[table.clip_id == record['clip_id']]
    probs = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probs / probs.sum(1, keepdims=True), expected, atol=1e-5)
    assert list(classes) == table.meta['classes']


def test_the_same_command_again_shows_the_report_and_trains_nothing(here, finished, data_dir):
    workdir, out, _ = finished
    before = {f: f.stat().st_mtime_ns for f in workdir.rglob('*') if f.is_file()}
    code, again, _ = here(data_dir, workdir, '--config.epochs=3')
    assert code == 0
    assert {f: f.stat().st_mtime_ns for f in workdir.rglob('*') if f.is_file()} == before
    assert out.splitlines()[-2] in again and 'this run was complete' in again


def test_predict_names_the_scene_of_media_files(finished, data_dir, tmp_path):
    workdir, _, _ = finished
    (videos,) = data_dir.rglob('tfds_tau_demo*/video')
    files = sorted(videos.glob('*.mp4'))[:3]
    broken = tmp_path / 'broken.mp4'
    broken.write_text('no film')
    out_csv, out_npz = tmp_path / 'out.csv', tmp_path / 'embeddings.npz'
    code, out, err = run(
        'avsc_jax.predict', *map(str, files), str(broken), f'--model={workdir}',
        f'--csv={out_csv}', f'--embeddings={out_npz}',
    )  # fmt: skip
    assert code == 1 and 'broken.mp4' in err and '3 of 4 files' in err
    assert '! made-up clips' in err
    assert len(out.splitlines()) == 3 and files[0].name in out
    table = tables.read(out_csv)
    assert table.clip_id.tolist() == [f.name for f in files]
    with np.load(out_npz) as archive:
        assert archive['embedding'].shape == (3, 128)
    trained = tables.pool(tables.read(workdir / 'predictions/test.npz'))
    with pytest.warns(tables.Note, match='without the endings of files'):
        table = tables.renamed(table, trained.clip_id.tolist())
    known = [i for i, clip in enumerate(table.clip_id) if clip in set(trained.clip_id)]
    for i in known:  # JPEG stands between the two
        row = trained.clip_id.tolist().index(table.clip_id[i])
        assert np.abs(table.probs[i] - trained.probs[row]).max() < 0.1


def test_an_override_of_an_encoder_replaces_the_demos_own_settings(main, data_dir, tiny_encoders):
    config = main.resolve(main.parse([CONFIG, *tiny_encoders]), data_dir, named=True)
    assert config.encoders.clip_rn101.to_dict() == {
        'width': 2,
        'layers': (1, 1, 1, 1),
        'image_size': 32,
    }
    assert len(config.encoders) == 3


def test_the_run_folder_tells_the_options_of_its_encoder(finished):
    settings = json.loads((finished[0] / 'preprocessing.json').read_text())
    options = {encoder['name']: encoder['options'] for encoder in settings['encoders']}
    assert options == {'clip_rn101': {'width': 2, 'layers': [1, 1, 1, 1], 'image_size': 32}}


def test_a_dry_run_tells_the_plan_and_makes_no_folder(here, data_dir, tmp_path, tiny_encoders):
    code, out, _ = here(data_dir, tmp_path / 'run', '--dry_run', tiny=tiny_encoders)
    assert code == 0
    assert 'network clip_late_fusion: 1,350,282 parameters' in out
    assert 'split train: 20 clips, 240 rows' in out
    assert '20 epochs of 5 steps of 48' in out
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_zero_shot_reports_chance_and_predicts(here, data_dir, tmp_path, capsys):
    workdir = tmp_path / 'c03'
    narrow = [
        # features that no other test has left
        '--config.encoders.clip_vit_b32={"width": 24, "layers": 1, "patch_size": 16, '
        '"image_size": 32}',
        '--config.text_encoder.clip_vit_b32_text={"width": 16, "layers": 1}',
    ]
    config = '--config=configs/clip_zero_shot.py:vit_b32,photo,demo'
    code, out, err = here(data_dir, workdir, config=config, tiny=narrow)
    assert code == 0, err
    assert 'prompt style photo, nothing trained; reported on test (10 records)' in out
    assert '! random encoders know no words: zero-shot predictions are at chance' in out
    assert 'C03, Okazaki et al. 2021' in out and '0.725' in out
    assert 'encoding test' in err and 'encoding train' not in err
    (videos,) = data_dir.rglob('tfds_tau_demo*/video')
    file = min(videos.glob('*.mp4'))
    assert predict.main([str(file), f'--model={workdir}', '--top=10']) == 0
    out, err = capsys.readouterr()
    assert file.name in out and len(out.split()) == 1 + 2 * 10
    assert 'predictions are at chance' in err


@pytest.mark.parametrize(
    ('argument', 'sentence'),
    [
        (
            '--config.batch_sise=3',
            "'batch_sise' is unknown (did you mean batch_size?); known are batch_size, data",
        ),
        ('--batch_size=3', 'did you mean --config.batch_size?'),
        ('strict', "'strict' is one argument too many"),
        ('--config.data.train=tran', "has no split 'tran'; it has train, train_inner"),
        ('--config.model={"num_classes": 12}', 'num_classes is 12, the data has 10 classes'),
        (
            '--config.model={"name": "clip_late_fusion", "width": 12}',
            'has no option width; its options are',
        ),
        ('--config.select=f1', "select is 'f1'; it must be one of accuracy, log_loss"),
        ('--config.loss.name=hinge', "loss.name is 'hinge'; it must be one of cross_entropy"),
        ('--config.epochs=many', "'many'"),
        ('--nonsense=1', 'nonsense'),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_code_1(
    here, data_dir, tmp_path, argument, sentence
):
    code, _, err = here(data_dir, tmp_path / 'run', argument)
    assert code == 1
    assert 'Traceback' not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith('error: ') and sentence in last


@pytest.mark.parametrize(
    ('config', 'sentence'),
    [
        ('--config=configs/clip_fusion.py', 'clips is not prepared in'),
        ('--config=configs/clip_fusion.py:tau', 'or --download in its place to fetch them'),
        ('--config=configs/clip_fusion.py:demi', "no token 'demi'"),
        ('--config=configs/nothing.py', 'there is no config configs/nothing.py'),
        ('--config=configs/clip_fusion', '(did you mean configs/clip_fusion.py?); the package'),
        ('--config=configs/clip_fusion.py:demo, strict', "' strict' (did you mean strict?)"),
        (
            '--config=configs/own_data.py:clip_fuse',
            'hitachi_audio (sound), hitachi_image (picture)',
        ),
    ],
)
def test_a_wrong_config_or_missing_data_is_one_sentence(here, data_dir, tmp_path, config, sentence):
    code, _, err = here(data_dir, tmp_path / 'run', config=config, tiny=())
    assert code == 1 and 'Traceback' not in err
    assert sentence in err.strip().splitlines()[-1]
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_tau_is_chosen_where_it_is_prepared_and_random_encoders_must_be_named(here, tmp_path):
    media = tfds.download.DownloadConfig(manual_dir=ROOT / 'tfds_tau/dummy_data')
    Builder(config='clips', data_dir=tmp_path).download_and_prepare(download_config=media)
    config = '--config=configs/clip_fusion.py'
    code, _, err = here(tmp_path, tmp_path / 'run', config=config)
    assert code == 1 and 'no weights of clip_rn101 in' in err and '--weights=random' in err
    assert not (tmp_path / 'run').exists()
    two = [
        '--config.encoders={"clip_rn101": {"width": 2, "layers": (1, 1, 1, 1), "image_size": 32}, '
        '"clip_vit_b32": {"width": 16, "layers": 1, "patch_size": 16, "image_size": 32}}',
        '--config.model={"name": "clip_late_fusion", "encoders": {"clip_rn101": 512, '
        '"clip_vit_b32": 512}, "widths": (16, 8, 8)}',
    ]
    code, out, err = here(
        tmp_path, tmp_path / 'run', '--weights=random', '--config.epochs=1', config=config, tiny=two
    )
    assert code == 0, err
    assert 'data: tfds_tau/clips in' in err
    assert 'random encoders, not pretrained' in out and 'made-up clips' not in out


def test_another_config_in_the_same_folder_is_refused(here, finished, data_dir):
    workdir, _, _ = finished
    code, _, err = here(data_dir, workdir, '--config.epochs=4')
    assert code == 1
    assert 'config.epochs was 3 and is now 4' in err and '--workdir' in err


def test_a_run_begun_with_other_data_is_not_gone_on_with(here, finished, data_dir, tmp_path):
    shutil.copytree(finished[0], tmp_path / 'run')
    for name in ('DONE', 'checksums.json'):  # as if it had been killed
        (tmp_path / 'run' / name).unlink()
    file = tmp_path / 'run/environment.json'
    file.write_text(file.read_text().replace('tfds_tau/demo/1.0.0 ', 'tfds_tau/demo/0.9.0 '))
    code, _, err = here(data_dir, tmp_path / 'run', '--config.epochs=3')
    assert code == 1
    assert 'holds a run on tfds_tau/demo/0.9.0 content:' in err and '--workdir' in err


def test_pretrained_weights_that_are_not_there_name_file_and_place(here, data_dir, tmp_path):
    code, _, err = here(
        data_dir, tmp_path / 'run', '--weights=pretrained', f'--weights_dir={tmp_path}'
    )
    assert code == 1 and f'in {tmp_path}' in err and '.safetensors' in err
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('flag', ['--download_weights', '--weights=pretrained'])
@pytest.mark.parametrize(
    'config',
    sorted(path.stem for path in (ROOT / 'configs').glob('[!_]*.py') if path.stem != 'common'),
)
def test_published_weights_without_tau_end_with_the_three_ways_on(config, flag, main, tmp_path):
    """Published weights without TAU are refused by every config that reads TAU."""
    made = main.parse([f'--config=configs/{config}.py', flag])
    if made.data.name != 'tfds_tau':
        return
    with pytest.raises(cli.UsageError, match=r'prepare it \(python .*:demo\), .* --zero_shot\)$'):
        main.resolve(made, tmp_path, named=False)
    assert not any(tmp_path.iterdir())


def test_such_a_command_has_exit_code_2(here, tmp_path):
    given = {'tiny': [], 'config': '--config=configs/clip_zero_shot.py'}
    code, out, err = here(tmp_path, tmp_path / 'run', '--download_weights', **given)
    assert code == 2 and not out
    assert err.splitlines()[-1].startswith('error: published weights are asked for, but TAU is not')


@pytest.mark.parametrize('arguments', [[''], [':demo', '--weights=pretrained']])
def test_the_demo_stays_where_it_is_asked_for_or_no_weights_are(arguments, main, tmp_path):
    tokens, *flags = arguments
    made = main.parse([f'--config=configs/clip_zero_shot.py{tokens}', *flags])
    assert main.resolve(made, tmp_path, named=False).data.source == 'demo'


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_bit_identical(data_dir, tmp_path, one_encoder):
    own = tmp_path / 'data'  # without features: a kill may interrupt extraction too
    shutil.copytree(data_dir, own, symlinks=True, ignore=shutil.ignore_patterns('features'))
    code, out, err = run(
        'benchmarks.kills', '--kills=6', '--commands=main,score', f'--data_dir={own}',
        f'--json={tmp_path / "kills.json"}', '--', *one_encoder, '--config.epochs=30',
    )  # fmt: skip
    assert code == 0, out + err
    told = json.loads((tmp_path / 'kills.json').read_text())
    assert sum(told['kills'].values()) == 6 and {'extraction', 'training'} & {*told['kills']}
    results = {'run/metrics.jsonl', 'run/predictions/test.npz', 'scored/report.json'}
    assert results < {*told['files']}


def _leaves(tree):
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else [value]


def test_help_fits_a_screen_and_is_no_error(main, capsys):
    assert main.main(['--help']) == 0
    told = capsys.readouterr().out
    assert len(told.splitlines()) <= 40 and all(len(line) <= 100 for line in told.splitlines())
    assert '--workdir' in told and '--config.FIELD' in told and '--helpfull' in told


@pytest.mark.tf
def test_features_are_made_by_the_workers_of_a_runner(here, data_dir, finished, tmp_path):
    pytest.importorskip('apache_beam')
    ignored = shutil.ignore_patterns('features', 'downloads')
    shutil.copytree(data_dir, tmp_path / 'data', ignore=ignored)
    command = (tmp_path / 'data', tmp_path / 'run', '--config.epochs=3', '--runner=DirectRunner')
    code, _, err = here(*command, '--', '--direct_num_workers=1')
    assert code == 0, err
    assert ' blocks of features go to DirectRunner' in err
    made, plain = (
        tables.read(folder / 'predictions/test.npz') for folder in (tmp_path / 'run', finished[0])
    )
    np.testing.assert_allclose(made.probs, plain.probs, rtol=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--runner=DirectRunner', '--multihost'], '--multihost and --runner exclude each other'),
        (['--', '--direct_num_workers=2'], "'--direct_num_workers=2' is one argument too many"),
    ],
)
def test_a_runner_that_cannot_be_is_a_sentence(here, data_dir, tmp_path, arguments, sentence):
    code, _, err = here(data_dir, tmp_path / 'run', *arguments)
    assert code == 1 and sentence in err
