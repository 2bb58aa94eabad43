"""Ensembles of finished runs: made-up tables in run folders, and the papers' numbers of them."""

import dataclasses
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from avsc_jax import ensemble, metrics, models, tables
from avsc_jax.configs import hitachi_ensemble, ioacas_ensemble
from avsc_jax.data.records import default_data_dir
from avsc_jax.ensemble import fit
from avsc_jax.report import page, submission
from avsc_jax.runs.run_folder import RunFolder, default_path
from avsc_jax.scenes import SCENES
from avsc_jax.training import dependencies, train
from avsc_jax.training import ensemble as ensemble_job

CLIPS = [f'{SCENES[n % 10]}-oslo-{n}-{n}' for n in range(20)]
LABELS = np.arange(20) % 10
NARROW = dict(encoders={'clip_vit_b32': 4}, widths=(2, 2, 2))
MODEL = dict(name='clip_late_fusion', **NARROW)  # quick to count


DEMO = dict(restrict=None, gate=None, clamp='fused')  # how the demo reads E02


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


def config(argument, of=hitachi_ensemble):
    """As main resolves it."""
    made = of.get_config(argument)
    with made.unlocked():
        if argument.endswith('demo'):
            made.update(made.demo)
        del made.demo
        made.weights = 'random'
    return made.lock()


def run(made, path='runs/out', *, with_page=False, **flags):
    """The job; its report's page is drawn only where that is asked for, for it takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        if not with_page:
            patch.setattr(page, 'page', lambda told: told['title'])
        train.run(made, workdir=Path(path), data_dir='d', weights_dir='w', **flags)
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
    folder = run(config('E02,tau'), with_page=True)
    told, shown = folder.read_json('report.json'), (folder.path / 'report.html').read_text()
    names = [line['name'] for line in told['members']]
    assert names == [
        *('A01', 'A02', 'A03', 'C04', 'V01', 'V02', 'V03', 'A04', 'V04'),
        *('A04V04', 'E01', 'A04V04_pp', 'A04V04_pp, temperature, ours'),
        *('E02', 'E02, temperature, ours'),
    ]  # fmt: skip
    assert all(f'<td>{name}</td>' in shown for name in names)
    of_e01 = run(config('E01,tau'), 'runs/e01').read_json('report.json')
    lines = {line['name']: line['log_loss_micro'] for line in told['members']}
    assert of_e01['scores']['clip']['log_loss_micro'] == pytest.approx(lines['E01'])
    assert lines['E01'] != pytest.approx(lines['A04V04'])
    assert 'decision stage of audio, clip, visual, clamp per_model' in told['about']['protocol']


def test_a_finished_ensemble_reads_its_members_again(runs):
    before = run(config('A04,tau')).read_json('report.json')['scores']
    member = Path('runs/hitachi_audio-resnest50d-tau/predictions/test.npz')
    table = tables.read(member)
    tables.write(dataclasses.replace(table, probs=table.probs[:, ::-1]), member)
    assert run(config('A04,tau')).read_json('report.json')['scores'] != before


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
        r'--workdir=runs/hitachi_image-hrnet_w18-tau --data_dir=d --weights_dir=w$'
    )
    with pytest.raises(FileNotFoundError, match=wanted):
        run(config('E02,tau'))
    assert not (tmp_path / 'runs/out').exists()


def test_a_command_names_the_folders_that_are_not_the_defaults():
    command = ['avsc_jax.main', '--config=x.py', '--workdir=runs/x']
    folders = {'data_dir': default_data_dir(), 'weights_dir': Path('my weights'), 'media_dir': None}
    line = dependencies.line(command, dependencies.flags(folders, download_weights=False))
    assert line == (
        "python -m avsc_jax.main --config=x.py --workdir=runs/x '--weights_dir=my weights'"
    )


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

    def train(command):
        ran.append(command[1:])
        finished(default_path(command[3].removeprefix('--config=')), drawn(len(ran)))
        return 0

    monkeypatch.setattr(dependencies, 'ended', train)
    lines = {line['name']: line for line in run(made).read_json('report.json')['members']}
    own = [name for name in lines if not name.endswith(', temperature, ours')]
    assert own[-3:] == ['A04V04_pp', "E02, the paper's own stage", 'E02']
    assert {f'{name}, temperature, ours' for name in own[-3:]} <= {*lines}
    for name, options in (('E02', DEMO), ("E02, the paper's own stage", dict(clamp='per_model'))):
        probs = ensemble.hitachi(drawn(1), drawn(3), drawn(2), classes=SCENES, **options)
        assert lines[name]['log_loss_micro'] == pytest.approx(metrics.log_loss(probs, LABELS))
    assert [command[2] for command in ran] == [
        '--config=configs/hitachi_audio.py:regnetx_064,demo',
        '--config=configs/clip_fusion.py:demo',
        '--config=configs/hitachi_image.py:regnetx_064,demo',
    ]
    assert {'--data_dir=d', '--weights_dir=w', '--seed=0', '--weights=random'} <= {*ran[0]}
    run(made)
    assert len(ran) == 3


def of(made, *, seed=0, fold=None, fold_file=None):
    """A config with what flags set."""
    with made.unlocked():
        made.seed = seed
        for name, value in (('fold', fold), ('fold_file', fold_file)):
            if value is not None:
                made.data[name] = value
    return made.lock()


def test_an_ensemble_of_a_seed_or_a_fold_has_members_of_its_own(runs, tmp_path, monkeypatch):
    """Members of seed 0 and of the official fold are there, and are neither read nor written."""
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob('*') if f.is_file()}
    end = r'--workdir=runs/hitachi_audio-regnetx_064-tau-'
    for flags, ends in (
        (dict(seed=1), rf'--seed=1 {end}seed1 --data_dir=d'),
        (dict(fold=3), rf'--fold=3 {end}fold3 --data_dir=d'),
        (dict(fold=3, fold_file='f.tsv', seed=2), f'--fold_file=f.tsv --seed=2 {end}fold3-seed2 '),
    ):
        with pytest.raises(FileNotFoundError) as raised:
            run(of(config('A04,tau'), **flags))
        commands = str(raised.value).splitlines()[1:]
        assert len(commands) == 3 and re.search(ends, commands[0])
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob('*') if f.is_file()} == before
    for name in ('A01', 'A02', 'A03'):
        path = default_path(config('A04,tau').members[name].config, 3)
        finished(path.with_name(f'{path.name}-seed2'), drawn(ord(name[2])))
    folder = run(of(config('A04,tau'), seed=2, fold=3))
    told = folder.read_json('members.json')
    assert [(member['folder'][-11:], member['fold']) for member in told] == [('fold3-seed2', 3)] * 3
    expected = np.mean([drawn(ord(digit)) for digit in '123'], axis=0)
    table = tables.read(folder.predictions_file('test'))
    np.testing.assert_allclose(table.probs, expected, rtol=1e-12)
    with pytest.raises(ValueError, match='averages the refits of 5 folds; leave out --fold'):
        run(of(config('S04,tau'), fold=3), 'runs/s04')


def test_members_of_another_seed_are_trained_with_it_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = []

    def train(command):
        ran.append(command[1:])
        (path,) = (w.removeprefix('--workdir=') for w in command if w.startswith('--workdir='))
        finished(Path(path), drawn(len(ran)))
        return 0

    monkeypatch.setattr(dependencies, 'ended', train)
    for seed in (0, 1, 1):
        run(of(config('A04,demo'), seed=seed), f'runs/out{seed}')
    assert [[w for w in command if 'seed' in w] for command in ran] == [
        ['--seed=0'],
        ['--seed=1', '--workdir=runs/hitachi_audio-regnetx_064-demo-seed1'],
    ]


def test_a_member_that_another_process_trains_is_waited_for_and_not_trained_twice(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    made = config('A04,demo')
    path = default_path(made.members.A01.config)
    path.parent.mkdir()
    monkeypatch.setattr(dependencies, 'ended', lambda _: pytest.fail('it trains'))
    begun = threading.Event()

    def other():
        with RunFolder(path).alone():
            begun.set()
            time.sleep(0.3)
            finished(path, drawn(1))

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    wanted = rf'{path} is in use by process \d+ on .*--workdir$'
    with pytest.raises(ValueError, match=wanted), RunFolder(path).alone():
        pytest.fail('two hold it')
    run(made)
    thread.join()
    assert not [*tmp_path.rglob('*.lock')]


def test_two_ensembles_that_miss_one_member_begin_it_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, began = config('A04,demo'), []
    path = default_path(made.members.A01.config)

    def train(command):
        began.append(command)
        time.sleep(0.2)  # the command has not come to its lock yet
        finished(path, drawn(1))
        return 0

    monkeypatch.setattr(dependencies, 'ended', train)
    member, *_ = dependencies.earlier_runs(made, 0)
    crowd = [
        threading.Thread(target=dependencies.complete, args=([member.training], made, []))
        for _ in range(3)
    ]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert len(began) == 1 and not [*tmp_path.rglob('*.lock')]


def test_a_folder_in_use_is_a_sentence_for_the_second_process(runs, tmp_path):
    with RunFolder(Path('runs/out')).alone():
        with pytest.raises(ValueError, match=r'runs/out is in use by .*give another --workdir'):
            run(config('A04,tau'))
        run(config('A04,tau'), 'runs/other')
        run(config('A04,tau'), dry_run=True)
    assert run(config('A04,tau')).is_done


def test_a_member_that_fails_ends_the_job_with_its_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dependencies, 'ended', lambda _: 3)
    with pytest.raises(ValueError, match=r'exit code 3.*clip_fusion|exit code 3.*hitachi_audio'):
        run(config('E02,demo'))


def test_members_of_other_data_or_other_clips_do_not_mix(runs, tmp_path):
    path = default_path(config('E02,tau').members.V02.config)
    finished(path, runs['V02'], data='tfds_tau/clips/2.0.0 def')
    with pytest.raises(ValueError, match=r'V02, .* was trained on .* def, not on .* abc'):
        run(config('E02,tau'))
    finished(path, runs['V02'], clips=[*CLIPS[:-1], 'tram-rome-9-9'])
    with pytest.raises(ValueError, match=r'20 rows, .* and 2 are in one only'):
        run(config('E02,tau'))
    assert not (tmp_path / 'runs/out').exists()


@pytest.fixture(scope='module')
def all_refits(tmp_path_factory):
    """A folder with the members of five folds.

    And (name, fold) -> (of its own four clips, of three evaluation items).
    """
    place, found = tmp_path_factory.mktemp('refits'), {}
    for name, member in config('S04,tau').members.items():
        for fold in range(5):
            path = place / default_path(member.config)
            path = path.with_name(f'{path.name}-fold{fold}')
            mine = slice(4 * fold, 4 * fold + 4)
            key = [int(name[1]), ord(name[0]), fold]
            own = finished(path, drawn([0, *key])[mine], clips=CLIPS[mine], labels=LABELS[mine])
            items = [str(n) for n in range(3)]
            unknown = dict(clips=items, labels=[-1, -1, -1], split='evaluation')
            found[name, fold] = own, finished(path, drawn([1, *key], 3), **unknown)
    return place, found


@pytest.fixture
def refits(all_refits, monkeypatch):
    place, found = all_refits
    monkeypatch.chdir(place)
    return found


@pytest.mark.parametrize(('row', 'clamp'), [('S03', None), ('S04', 'per_model')])
def test_five_folds_are_averaged_as_they_come_and_renormalized_once(refits, row, clamp, tmp_path):
    made = config(f'{row},tau')
    folder = run(made, tmp_path / row)

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


WAYS = ('searched on scored rows', 'searched on other places')


def ioacas(argument):
    return config(argument, ioacas_ensemble)


@pytest.fixture
def hybrids(tmp_path, monkeypatch):
    """All twelve members of IOA-CAS; name -> their probabilities of clips."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ensemble_job.summary, 'parameters', lambda *_, **__: {'trained': 1})
    # Any weights will do here; that they are the best of all is seen below and in test_fit.
    monkeypatch.setattr(fit, 'EXACT_POINTS', 0)
    runs = ioacas('all,tau').members
    return {name: finished(default_path(runs[name].config), drawn(int(name))) for name in runs}


def best_at(weights, location, key=0):
    """Tables of members whose mixture with these weights is exactly what the labels are drawn from.

    Eight items have members' probabilities in tenths; each is there 200 times, with the labels as
    often as the mixture says. No other point of the simplex has as low a loss.
    """
    rng = np.random.default_rng(key)
    probs = rng.multinomial(10, np.full(10, 0.1), size=(len(weights), 8)) / 10
    times = np.rint(200 * np.tensordot(weights, probs, 1)).astype(int)
    assert (times.sum(axis=1) == 200).all()
    labels = np.concatenate([np.repeat(np.arange(10), row) for row in times])
    clips = [f'{SCENES[label]}-oslo-{location}-{n}' for n, label in enumerate(labels)]
    return probs.repeat(200, axis=1), labels, clips


def as_tables(names, *parts):
    """One table of seconds for each member, of all parts."""
    probs = np.concatenate([part[0] for part in parts], axis=1)
    shared = dict(
        clip_id=np.concatenate([part[2] for part in parts]),
        segment=np.zeros(probs.shape[1], int),
        label=np.concatenate([part[1] for part in parts]),
        meta={'classes': list(SCENES), 'granularity': 'second', 'split': 'test'},
    )
    return {name: tables.Predictions(probs=probs[i], **shared) for i, name in enumerate(names)}


@pytest.mark.parametrize(
    ('token', 'expected', 'zero'),
    [
        ('I', dict(I=[0.5, 0, 0.25, 0.15, 0.1, 0]), ['5, 11']),
        pytest.param(
            'all',
            dict(
                all=[0, 0, 0, 0.4, 0, 0.15, 0.2, 0.15, 0, 0.1, 0, 0],
                III=[0.4, 0, 0.15, 0.2, 0.15, 0, 0.1, 0, 0],
            ),
            ['1, 2, 3, 5, 9, 11, 12', '5, 9, 11, 12'],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_papers_weights_are_found_where_they_are_best(token, expected, zero):
    made = ioacas(f'{token},tau')
    best, *_ = map(np.array, expected.values())
    found = as_tables(made.groups.hybrids, best_at(best, 1), best_at(best, 2))
    scored = ensemble_job.fuse_refit(found, made)
    mixture = ensemble.mean(np.stack([table.probs for table in found.values()]), best)
    for (row, weights), names in zip(expected.items(), zero, strict=True):
        same, other = (scored[f'IOA {row}, {way}'] for way in WAYS)
        learned = same.meta['learned']
        assert [*learned] == [
            f'weights of IOA {row}, searched on scored rows; zero: {names}',
            f"the paper's weights of IOA {row}",
            f'weights of IOA {row}, searched on other places, half 1',
            f'weights of IOA {row}, searched on other places, half 2',
        ]
        for values in learned.values():
            assert [*values.values()] == weights and sum(weights) == pytest.approx(1)
            assert [*values] == [*made.groups.hybrids[-len(weights) :]]
        np.testing.assert_allclose(same.probs, mixture, atol=1e-15)
        np.testing.assert_allclose(other.probs, mixture, atol=1e-15)


def test_a_temperature_of_other_places_is_a_line_of_ours_beside_the_clamp(runs):
    folder = run(config('E02,tau'))
    unclamped = ensemble.hitachi(
        *(of_role(runs, role) for role in ('audio', 'visual', 'clip')), classes=SCENES
    )
    half = ensemble_job.halves(tables.pool(tables.read(folder.predictions_file('test'))))
    assert sorted(half) == [0] * 10 + [1] * 10
    scaled = np.empty_like(unclamped)
    for k in (0, 1):
        fitted = ensemble.fit_temperature(unclamped[half != k], LABELS[half != k])
        scaled[half == k] = ensemble.temperature_scale(unclamped[half == k], fitted)
    told = folder.read_json('report.json')
    lines = {line['name']: line['log_loss_micro'] for line in told['members']}
    expected = metrics.log_loss(scaled, LABELS)
    assert lines['E02, temperature, ours'] == pytest.approx(expected)
    assert told['scores']['clip']['log_loss_micro'] == lines['E02'] != expected
    (title,) = (title for title in told['learned'] if title.startswith('E02'))
    assert title == 'E02, temperature, ours, from the other half of the places'
    assert [*told['learned'][title]] == ['half 1', 'half 2']


def test_halves_share_no_group_of_the_user_s_own():
    clips = [f'{n}.wav' for n in range(6)]
    table = tables.Predictions(
        clips, [-1] * 6, [0, 1] * 3, np.full((6, 2), 0.5), {'classes': ['a', 'b']},
        np.array(['x', 'x', 'y', 'y', 'z', 'z']),
    )  # fmt: skip
    half = ensemble_job.halves(table)
    assert {*half} == {0, 1} and all(half[k] == half[k + 1] for k in (0, 2, 4))
    with pytest.raises(ValueError, match='fold 1 is empty'):
        ensemble_job.halves(dataclasses.replace(table, group=np.array(['x'] * 6)))


def test_weights_on_other_places_never_saw_the_rows_that_they_mix():
    """Two places with opposite best weights: whoever looks at the rows to mix does too well."""
    near, far = np.array([0.8, 0.2, 0]), np.array([0.1, 0.15, 0.75])
    found = as_tables('123', best_at(near, 1, key=1), best_at(far, 2, key=2))
    scored = ensemble_job.fuse_refit(found, ioacas('demo'))
    same, other = (scored[f'IOA III, {way}'] for way in WAYS)
    probs = np.stack([table.probs for table in found.values()])
    here = np.array(['oslo-1-' in name for name in same.clip_id])
    expected = np.where(here[:, None], ensemble.mean(probs, far), ensemble.mean(probs, near))
    np.testing.assert_allclose(other.probs, expected, atol=1e-15)
    loss, honest = (metrics.log_loss(table.probs, table.label) for table in (same, other))
    assert honest > loss + 0.1
    _, *of_halves = (list(weights.values()) for weights in same.meta['learned'].values())
    assert of_halves == [far.tolist(), near.tolist()]


@pytest.mark.slow
def test_all_of_ioacas_tells_every_line_beside_the_best_system_in_seconds(hybrids, capsys):
    folder = run(ioacas('all,tau'))
    told = folder.read_json('report.json')
    lines = [
        *(f'IOA all, {way}' for way in WAYS),
        *(f'IOA I, {way}' for way in WAYS),
        *('IOA II', 'IOA IV'),
        *(f'IOA III, {way}' for way in WAYS),
    ]
    assert [line['name'] for line in told['members']] == [*map(str, range(1, 13)), *lines]
    assert {name: score['items'] for name, score in told['scores'].items()} == {
        'clip': 20,
        'second': 40,
    }
    assert {line['level'] for line in told['members']} == {'second'}
    assert told['members'][-2]['log_loss_micro'] == told['scores']['second']['log_loss_micro']
    assert told['paper']['row'] == 'IOA III' and told['paper']['difference']['log_loss']
    assert told['about']['warnings'] == []  # else it would count as demo only
    protocol = told['about']['protocol']
    assert 'searched on scored rows: the weights are those that fit these rows best' in protocol
    assert 'zero: ' in capsys.readouterr().out and len(told['learned']) == 12
    table = tables.read(folder.predictions_file('test'))
    weights = [*next(v for k, v in told['learned'].items() if 'III' in k).items()]
    mixture = sum(weight * hybrids[name] for name, weight in weights)
    np.testing.assert_allclose(table.probs, mixture.repeat(2, axis=0), rtol=1e-12)


def test_an_unweighted_system_of_ioacas_is_the_mean_of_its_members(hybrids):
    folder = run(ioacas('II,tau'))
    six = np.mean([hybrids[name] for name in ('4', '5', '7', '8', '10', '11')], axis=0)
    table = tables.read(folder.predictions_file('test'))
    np.testing.assert_allclose(table.probs, six.repeat(2, axis=0), rtol=1e-12)
    told = folder.read_json('report.json')
    assert [line['name'] for line in told['members']][6:] == [
        'IOA I, searched on scored rows',
        'IOA I, searched on other places',
        'IOA II',
    ]
    assert told['about']['warnings'] == []
    assert told['about']['protocol'].endswith('Scored: mean of 4, 5, 7, 8, 10, 11')


@pytest.mark.parametrize('data', ['tau', 'demo'])
def test_no_hybrid_is_trained_silently(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = ioacas(f'all,{data}')
    names = made.groups.hybrids
    assert len(names) == dict(tau=12, demo=3)[data]
    finished(default_path(made.members['2'].config), drawn(2))
    monkeypatch.setattr(dependencies, 'ended', lambda _: pytest.fail('it trains'))
    command = f'ioacas_fusion.py:resnet50,bark,{data} --workdir=runs/ioacas_fusion-resnet50-bark'
    with pytest.raises(
        FileNotFoundError, match=f'{len(names) - 1} tables are missing(.|\n)*{command}'
    ):
        run(made)
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in told] == [*names]
    assert [line.endswith('not trained') for line in told] == [name != '2' for name in names]
    run(made, dry_run=True)
    assert command in capsys.readouterr().out


def test_tables_of_clips_are_not_taken_for_seconds(hybrids):
    path = default_path(ioacas('all,tau').members['7'].config)
    file = RunFolder(path).predictions_file('test')
    tables.write(tables.pool(tables.read(file)), file)
    with pytest.raises(ValueError, match=r'v2_s-logmel-tau has a row for each clip, not .*second'):
        run(ioacas('all,tau'))


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'groups': {'audio': ('A09',)}}, "config.groups takes 'A09', which is none of A01, A02"),
        ({'roles': ('sound',)}, "the line A04 takes 'sound', which is none of audio, "),
        ({'recipe': {'name': 'median'}}, "recipe of A04 is 'median'; it must be one of mean, "),
    ],
)
def test_names_that_a_config_does_not_have_are_one_sentence(changes, sentence):
    made = config('A04,tau')
    with made.unlocked():
        made.update(changes)
    with pytest.raises(ValueError, match=sentence):
        run(made)
