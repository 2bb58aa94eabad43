"""A job for every combination of settings' values, told apart by validation alone."""

import json
import shlex

import pytest

from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import sweep
from avsc_jax.training import train as job

CONFIG = '--config=configs/clip_fusion.py:demo'


@pytest.fixture
def jobs(monkeypatch):
    """Those that are run, by folder; each one's report says what its settings say."""
    done = {}

    def run(config, *, workdir, **_):
        done[workdir.name] = config
        value = config.learning_rate * config.batch_size
        lines = [{'valid_accuracy': 0.0}, {'valid_accuracy': value}, {'valid_accuracy': 0.1}]
        score = {'log_loss_micro': value, 'accuracy_micro': 1 - value}
        folder = RunFolder(workdir)
        folder.begin(config.to_dict())
        report = {'headline': 'clip', 'scores': {'clip': score}, 'about': {'protocol': 'on paper'}}
        folder.write_json('report.json', report | {'history': lines, 'best_epoch': 1})

    monkeypatch.setattr(job, 'run', run)
    return done


def test_every_combination_is_run_and_the_best_by_validation_named(main, jobs, tmp_path, capsys):
    arguments = [CONFIG, '--config.epochs=2', f'--data_dir={tmp_path}', f'--workdir={tmp_path}']
    swept = ['--sweep=learning_rate=1e-2,0.03', '--sweep', 'batch_size=10,48']
    assert main.main([*arguments, *swept]) == 0
    assert [*jobs] == [
        'learning_rate=0.01,batch_size=10',
        'learning_rate=0.01,batch_size=48',
        'learning_rate=0.03,batch_size=10',
        'learning_rate=0.03,batch_size=48',
    ]
    found = jobs['learning_rate=0.03,batch_size=10']
    assert (found.learning_rate, found.batch_size, found.epochs) == (0.03, 10, 2)
    told = json.loads((tmp_path / 'sweep.json').read_text())
    # the highest accuracy first, though its test log loss is the worst
    assert [point['valid_accuracy'] for point in told['points']] == pytest.approx(
        [0.03 * 48, 0.01 * 48, 0.03 * 10, 0.01 * 10]
    )
    assert told['sorted_by'] == 'valid_accuracy' and told['points'][0]['epoch'] == 1
    assert told['points'][0]['test'] == pytest.approx({'log_loss': 1.44, 'accuracy': -0.44})
    alone = shlex.split(told['command'])  # without the batch size: it is the config's own
    kept = [argument for argument in arguments if 'workdir' not in argument]  # the sweep's own
    assert alone == ['python', '-m', 'avsc_jax.main', *kept, '--config.learning_rate=0.03']
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    assert ['0.03', '48', '1.44000', '1', '1.440', '-44.0', '%'] in lines
    assert ['0.01', '48', '0.48000', '1', '0.480', '52.0', '%', 'the', "config's", 'own'] in lines
    assert 'test scores are shown, but never used to sort' in printed.replace('\n', ' ')
    assert told['command'] in printed and 'on paper' in printed


def test_losses_are_sorted_from_the_lowest(main, jobs, tmp_path):
    def run(config, *, workdir):
        job.run(config, workdir=workdir)
        report = RunFolder(workdir).read_json('report.json')
        lines = [{'valid_log_loss': 3.0}, {'valid_log_loss': 2.0}]
        report |= {'history': lines, 'best_epoch': 2 - config.epochs}
        RunFolder(workdir).write_json('report.json', report)

    points = [main.parse([CONFIG, f'--config.epochs={n}']) for n in (2, 1)]
    for point in points:
        point.select = 'log_loss'
    sweep.run_sweep(run, points[0], points, ['epochs'], tmp_path, command=['again'])
    told = json.loads((tmp_path / 'sweep.json').read_text())
    assert [point['values']['epochs'] for point in told['points']] == [1, 2]
    assert told['command'] == 'again --config.epochs=1'


def test_values_have_their_field_s_type_and_leave_later_points_alone(main):
    arguments = [CONFIG, '--config.drop_at=(1, 2)', '--config.epochs=3']
    first = main.parse([*arguments, '--config.factor=1'])
    second = main.parse([*arguments, '--config.model.name=clip_late_fusion'])
    assert (first.drop_at, first.factor) == ((1, 2), 1.0) and isinstance(first.factor, float)
    assert (second.drop_at, second.factor, second.epochs) == ((1, 2), 0.1, 3)


def test_a_folder_is_named_by_values_without_signs_that_paths_lack():
    values = {'learning_rate': 1e-5, 'model.name': '../a b', 'model.early': True}
    assert sweep.folder_name(values) == 'learning_rate=1e-05,name=.._a_b,early=True'


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--sweep=epochs'], "--sweep is 'epochs'; give each field of the config once"),
        (['--sweep=epochs=1,'], "--sweep is 'epochs=1,'; give each field"),
        (['--sweep=epochs=1', '--sweep=epochs=2'], "--sweep is 'epochs=2'; give each field"),
        (['--sweep=epoch=1,2'], "there is no field config.epoch: 'epoch' is unknown"),
        (['--sweep=epochs=1,two'], "'two'"),
        (['--sweep=learning_rate=1e-2,0.01'], 'two points of the sweep are equal: learning_rate='),
        (['--sweep=select=accuracy,log_loss'], 'by one and the same config.select'),
        (['--sweep=epochs=1,2', '--seeds=1,2'], '--seeds and --sweep exclude each other'),
    ],
)
def test_a_wrong_sweep_is_a_sentence_before_any_point(main, jobs, tmp_path, arguments, sentence):
    folders = [f'--data_dir={tmp_path}', f'--workdir={tmp_path / "runs"}']
    with pytest.raises(ValueError, match=sentence):
        main.main([CONFIG, *folders, *arguments])
    assert not jobs


@pytest.mark.parametrize(
    ('config', 'field', 'sentence'),
    [
        ('clip_zero_shot', 'short_side', 'a sweep compares trained systems'),
        ('ioacas_audio', 'epochs', "config.select is 'last', which compares no scores"),
        ('hitachi_ensemble', 'seed', 'an ensemble only reads its members: give them --sweep'),
    ],
)
def test_only_training_is_swept(main, jobs, tmp_path, config, field, sentence):
    arguments = [f'--config=configs/{config}.py:demo', f'--data_dir={tmp_path}']
    with pytest.raises(ValueError, match=sentence):
        main.main([*arguments, f'--sweep={field}=1,2'])
    assert not jobs


def test_seeds_of_a_final_run_have_no_spread(main, jobs, tmp_path, capsys):
    config = '--config=configs/ioacas_audio.py:final,demo'
    main.main([config, '--seeds=1,2', f'--data_dir={tmp_path}', f'--workdir={tmp_path}'])
    assert [*jobs] == ['seed1', 'seed2'] and not (tmp_path / 'seeds.json').exists()
    assert 'no spread is reported' in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_kill_and_its_best_point_runs_alone(
    main, data_dir, tmp_path, monkeypatch, capsys
):
    arguments = [
        CONFIG,
        '--config.encoders={"clip_vit_b32": {"width": 16, "layers": 1, "patch_size": 16, '
        '"image_size": 32}}',
        '--config.model={"name": "clip_late_fusion", "encoders": {"clip_vit_b32": 512}, '
        '"widths": (16, 8, 8)}',
        '--config.epochs=2',
        f'--data_dir={data_dir}',
    ]
    swept = [f'--workdir={tmp_path / "swept"}', '--sweep=learning_rate=1e-2,1e-5']
    train = job.train

    def killed(config, *rest, **options):
        if config.learning_rate == 1e-5:
            raise OSError('the power failed')
        return train(config, *rest, **options)

    monkeypatch.setattr(job, 'train', killed)
    with pytest.raises(OSError, match='the power failed'):
        main.main([*arguments, *swept])
    first = tmp_path / 'swept/learning_rate=0.01'
    before = {file: file.stat().st_mtime_ns for file in first.rglob('*')}
    monkeypatch.setattr(job, 'train', train)
    main.main([*arguments, *swept])
    assert {file: file.stat().st_mtime_ns for file in first.rglob('*')} == before
    told = json.loads((tmp_path / 'swept/sweep.json').read_text())
    command = shlex.split(told['command'])[3:]
    capsys.readouterr()
    main.main([*command, f'--workdir={tmp_path / "swept" / told["points"][0]["folder"]}'])
    assert 'this run was complete' in capsys.readouterr().out  # the very config of that point
