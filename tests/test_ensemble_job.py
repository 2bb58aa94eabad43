"""Ensembles of finished runs: made-up tables in run folders, and Hitachi's numbers of them."""

from pathlib import Path

import numpy as np
import pytest

from avsc_jax import ensemble, ensemble_job, members, models, submission, tables
from avsc_jax.configs import hitachi_ensemble
from avsc_jax.scenes import SCENES
from avsc_jax.training.run_folder import RunFolder, default_path

CLIPS = [f'{SCENES[n % 10]}-oslo-{n}-{n}' for n in range(20)]
LABELS = np.arange(20) % 10
NARROW = dict(widths=(8, 8, 8, 8), layers=(1, 1, 1, 1), group_width=8)
MODEL = dict(name='regnetx_002', **NARROW)


def drawn(key, rows=20):
    """Probabilities of clips that lean to the truth."""
    logits = np.random.default_rng(key).normal(size=(rows, 10))
    logits[np.arange(rows), np.arange(rows) % 10] += 2
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def finished(
    path, probs, *, clips=CLIPS, labels=LABELS, data='tfds_tau/clips/1.0.0 abc', split='test'
):
    """A run folder as main leaves it, with one row a second: two of each clip, about their mean."""
    folder = RunFolder(path)
    folder.begin({'model': MODEL})
    folder.write_json('environment.json', {'data': data})
    folder.write_json('classes.json', list(SCENES))
    folder.write_json('report.json', {'step': 7, 'config_hash': 'abc'})
    tables.write(
        tables.Predictions(
            clip_id=np.repeat(clips, 2),
            segment=np.tile([0, 1], len(clips)),
            label=np.repeat(labels, 2),
            probs=np.repeat(probs, 2, axis=0),
            meta={'classes': list(SCENES), 'granularity': 'second', 'split': split},
        ),
        folder.predictions_file(split),
    )
    folder.finish()
    return probs


def config(argument):
    """As main resolves it."""
    made = hitachi_ensemble.get_config(argument)
    with made.unlocked():
        if argument.endswith('demo'):
            made.update(made.demo)
        del made.demo
        made.weights = 'random'
    return made.lock()


def run(made, path='runs/out', **flags):
    ensemble_job.run(made, workdir=Path(path), data_dir='d', weights_dir='w', **flags)
    return RunFolder(Path(path))


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """All seven members of the official fold; name -> their probabilities of clips."""
    monkeypatch.chdir(tmp_path)
    members = config('E02,tau').members
    return {
        name: finished(default_path(members[name].config), drawn(number))
        for number, name in enumerate(members)
    }


def of_role(probs, role):
    return np.mean([probs[name] for name in config('E02,tau').groups[role]], axis=0)


@pytest.mark.parametrize('row', ['A04', 'A04V04_pp', 'S01', 'S02'])
def test_a_row_of_the_paper_is_its_members_through_the_decision_stage(runs, row):
    roles = {role: of_role(runs, role) for role in ('audio', 'visual', 'clip')}
    clamp = 'per_model' if row in ('A04V04_pp', 'S02') else None
    expected = {
        'A04': roles['audio'],
        'S01': (roles['visual'] + roles['clip']) / 2,
    }.get(row)
    if expected is None:
        chosen = roles if row == 'S02' else {role: roles[role] for role in ('audio', 'visual')}
        expected = ensemble.hitachi(**chosen, classes=SCENES, clamp=clamp)
    made = config(f'{row},tau')
    for name in made.members if row[0] == 'S' else ():
        path = default_path(made.members[name].config)
        finished(path, runs[name], split='evaluation', labels=np.full(20, -1))
    folder = run(made)
    written = tables.read(folder.predictions_file('test'))
    np.testing.assert_allclose(written.probs, expected, rtol=1e-12)
    assert written.clip_id.tolist() == CLIPS and written.label.tolist() == LABELS.tolist()
    assert written.meta['calibrated'] == (clamp is not None)
    told = folder.read_json('report.json')
    assert told['paper']['row'] == row and (told['paper']['difference']['log_loss'] is None) == (
        row[0] == 'S'
    )


def test_the_report_shows_members_groups_and_the_lines_of_table_4(runs):
    told = run(config('E02,tau')).read_json('report.json')
    names = [line['name'] for line in told['members']]
    assert names == [
        *('A01', 'A02', 'A03', 'C04', 'V01', 'V02', 'V03', 'A04', 'V04'),
        *('A04V04', 'E01', 'A04V04_pp', 'E02'),
    ]  # fmt: skip
    of_e01 = run(config('E01,tau'), 'runs/e01').read_json('report.json')
    lines = {line['name']: line['log_loss_micro'] for line in told['members']}
    assert of_e01['scores']['clip']['log_loss_micro'] == pytest.approx(lines['E01'])
    assert lines['E01'] != pytest.approx(lines['A04V04'])
    assert 'decision stage of audio, clip, visual, clamp per_model' in told['about']['protocol']


def test_members_json_tells_their_folders_and_sizes(runs):
    members = run(config('A04,tau')).read_json('members.json')
    assert [member['name'] for member in members] == ['A01', 'A02', 'A03']
    assert members[1]['folder'] == 'runs/hitachi_audio-resnest50d-tau'
    count = models.count_parameters(MODEL['name'], num_classes=10, **NARROW)
    assert members[0]['parameters'] == {'trained': count, 'encoders': 0}


def test_a_missing_member_is_named_with_the_command_that_makes_it(runs, tmp_path):
    (tmp_path / 'runs/hitachi_image-hrnet_w18-tau/DONE').unlink()
    wanted = (
        r'1 tables are missing.*\n'
        r'python -m avsc_jax.main --config=configs/hitachi_image.py:hrnet_w18,tau '
        r'--workdir=runs/hitachi_image-hrnet_w18-tau$'
    )
    with pytest.raises(FileNotFoundError, match=wanted):
        run(config('E02,tau'))
    assert not (tmp_path / 'runs/out').exists()


def test_a_dry_run_tells_what_there_is_and_writes_nothing(runs, tmp_path, capsys):
    run(config('S02,tau'), dry_run=True)
    told = capsys.readouterr().out
    assert 'A01   runs/hitachi_audio-regnetx_064-tau  trained' in told
    assert (
        'python -m avsc_jax.predict --dataset=evaluation --split=test '
        '--model=runs/clip_fusion-tau --csv=runs/clip_fusion-tau/predictions/evaluation.npz'
    ) in told
    assert not (tmp_path / 'runs/out').exists()


def test_train_missing_runs_the_commands_of_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, ran = config('E02,demo'), []

    def train(command, **_):
        ran.append(command[1:])
        finished(default_path(command[3].removeprefix('--config=')), drawn(len(ran)))
        return type('Done', (), {'returncode': 0})

    monkeypatch.setattr(members.subprocess, 'run', train)
    run(made)
    assert [command[2] for command in ran] == [
        '--config=configs/hitachi_audio.py:regnetx_064,demo',
        '--config=configs/clip_fusion.py:demo',
        '--config=configs/hitachi_image.py:regnetx_064,demo',
    ]
    assert {'--data_dir=d', '--weights_dir=w', '--seed=0', '--weights=random'} <= {*ran[0]}
    run(made)
    assert len(ran) == 3


def test_a_member_that_fails_ends_the_job_with_its_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed = type('Done', (), {'returncode': 3})
    monkeypatch.setattr(members.subprocess, 'run', lambda *_, **__: failed)
    with pytest.raises(ValueError, match=r'exit code 3.*clip_fusion|exit code 3.*hitachi_audio'):
        run(config('E02,demo'))


def test_members_of_other_data_or_other_clips_do_not_mix(runs, tmp_path):
    path = default_path(config('E02,tau').members.V02.config)
    finished(path, runs['V02'], data='tfds_tau/clips/2.0.0 def')
    with pytest.raises(ValueError, match=r'A01 was trained on .* abc, V02 on .* def'):
        run(config('E02,tau'))
    finished(path, runs['V02'], clips=[*CLIPS[:-1], 'tram-rome-9-9'])
    with pytest.raises(ValueError, match=r'20 rows, .* and 2 are in one only'):
        run(config('E02,tau'))
    assert not (tmp_path / 'runs/out').exists()


@pytest.fixture
def refits(tmp_path, monkeypatch):
    """Members of five folds: (name, fold) -> (of its own four clips, of three evaluation items)."""
    monkeypatch.chdir(tmp_path)
    found = {}
    for name, member in config('S04,tau').members.items():
        for fold in range(5):
            path = default_path(member.config)
            path = path.with_name(f'{path.name}-fold{fold}')
            mine = slice(4 * fold, 4 * fold + 4)
            key = [int(name[1]), ord(name[0]), fold]
            own = finished(path, drawn([0, *key])[mine], clips=CLIPS[mine], labels=LABELS[mine])
            items = [str(n) for n in range(3)]
            unknown = dict(clips=items, labels=[-1, -1, -1], split='evaluation')
            found[name, fold] = own, finished(path, drawn([1, *key], 3), **unknown)
    return found


@pytest.mark.parametrize(('row', 'clamp'), [('S03', None), ('S04', 'per_model')])
def test_five_folds_are_averaged_as_they_come_and_renormalized_once(refits, row, clamp, tmp_path):
    made = config(f'{row},tau')
    folder = run(made)

    def fused(fold, place, renormalize):
        roles = {
            role: np.mean([refits[name, fold][place] for name in names], axis=0)
            for role, names in made.groups.items()
        }
        return ensemble.hitachi(**roles, classes=SCENES, clamp=clamp, renormalize=renormalize)

    clips = tables.read(folder.predictions_file('test'))
    expected = np.concatenate([fused(fold, 0, True) for fold in range(5)])
    np.testing.assert_allclose(clips.probs, expected, rtol=1e-12)
    items = tables.read(folder.predictions_file('evaluation'))
    mean = np.mean([fused(fold, 1, False) for fold in range(5)], axis=0)
    np.testing.assert_allclose(items.probs, mean / mean.sum(axis=1, keepdims=True), rtol=1e-12)
    unlike = np.mean([fused(fold, 1, True) for fold in range(5)], axis=0)
    assert np.abs(unlike - items.probs).max() > 1e-3
    assert len(folder.read_json('members.json')) == 35
    (output,) = (folder.path / 'submission').glob('*.output.csv')
    named = output.rename(tmp_path / 'Li_UNI_task1b_1.output.csv')
    assert submission.check(named, items=['0', '1', '2']) == []
