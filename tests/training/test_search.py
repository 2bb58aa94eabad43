"""A search by Optuna: a seed has the same trials, killed or not, and validation alone counts."""

import json
import shlex
import sys

import jax
import numpy as np
import pytest

from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.training import search
from avsc_jax.training import train as job

CONFIG = '--config=configs/clip_fusion.py:demo'
RANGE = '--sweep=learning_rate=1e-4..1:log'


@pytest.fixture
def jobs(monkeypatch):
    """Trials that train nothing, by folder: accuracy falls with the distance from a rate of 0.01.

    Above 0.3 they diverge. `fails` names the number of the job that the power fails in.
    """
    done = {'fails': -1}

    def run(config, *, workdir, loggers, **_):
        folder = RunFolder(workdir)
        folder.begin(config.to_dict())
        done[workdir.name] = config
        if config.learning_rate > 0.3:
            raise FloatingPointError('the loss is nan at step 3')
        best = 1 - abs(np.log10(config.learning_rate) + 2) / 4
        lines = [{'epoch': k, 'step': k, 'valid_accuracy': best * (k + 1) / 4} for k in range(4)]
        for line in lines:
            if len(done) - 2 == done['fails'] and line['epoch'] == 1:
                raise OSError('the power failed')
            for logger in loggers:
                logger.log(line)
        score = {'log_loss_micro': best, 'accuracy_micro': 1 - best}  # the best is the worst
        report = {'headline': 'clip', 'scores': {'clip': score}, 'about': {'protocol': 'on paper'}}
        folder.write_json('report.json', report | {'history': lines, 'best_epoch': 3})

    monkeypatch.setattr(job, 'run', run)
    return done


@pytest.fixture
def searched(main, jobs, tmp_path):
    """Runs a search in a folder; returns the folders of its trials, in order."""

    def run(name, *arguments):
        folders = [f'--data_dir={tmp_path}', f'--workdir={tmp_path / name}']
        assert main.main([CONFIG, '--config.epochs=4', *folders, *arguments]) == 0
        return told(tmp_path / name)

    return run


def told(folder):
    import optuna

    storage = optuna.storages.RDBStorage(f'sqlite:///{folder / search.FILE}')
    trials = optuna.load_study(study_name='search', storage=storage).trials
    return [(each.user_attrs['folder'], each.user_attrs.get('end')) for each in trials]


@pytest.mark.parametrize(
    ('trials', 'fails'),
    [(5, 2), pytest.param(14, 12, marks=pytest.mark.slow)],  # ten are random, later ones are not
)
def test_a_search_that_was_killed_makes_the_same_trials_and_repeats_none(
    searched, jobs, tmp_path, capsys, trials, fails
):
    swept = [RANGE, '--sweep=batch_size=16,48']
    whole = searched('whole', *swept, f'--trials={trials}')
    text = capsys.readouterr().out.splitlines()[-3:]
    jobs.clear()
    jobs['fails'] = fails
    with pytest.raises(OSError, match='the power failed'):
        searched('killed', *swept, f'--trials={trials}')
    before = [*jobs][1:]
    jobs.clear()
    jobs['fails'] = -1
    assert searched('killed', *swept, '--trials', str(trials)) == whole
    assert before[-1] == [*jobs][1]  # the one that was running, and none of those before
    assert not {*before[:-1]} & {*jobs}
    # what is printed is the same but for the folder in the command
    assert capsys.readouterr().out.splitlines()[-3:-1] == text[:-1]
    assert len({folder for folder, _ in whole}) == trials


def test_poor_trials_end_early_and_validation_alone_says_which_is_best(
    searched, jobs, tmp_path, capsys
):
    ends = dict(searched('run', RANGE, '--sweep=batch_size=16,48', '--trials=14'))
    result = json.loads((tmp_path / 'run/sweep.json').read_text())
    counts = {end: [*ends.values()].count(end) for end in ('pruned', 'diverged', 'finished')}
    assert result['search'] == {'trials': 14} | {n: counts[n] for n in ('pruned', 'diverged')}
    assert all(counts.values()) and len(result['points']) == counts['finished']
    points = result['points']
    accuracies = [point['valid_accuracy'] for point in points]
    assert accuracies == sorted(accuracies, reverse=True)
    assert points[0]['test']['log_loss'] == max(point['test']['log_loss'] for point in points)
    for folder, end in ends.items():  # none is pruned that is better than all others
        assert end != 'pruned' or abs(np.log10(jobs[folder].learning_rate) + 2) > 0.1
    printed = capsys.readouterr()
    counted = '14 trials, {pruned} pruned and {diverged} diverged: {finished} points, sorted by'
    assert counted.format(**counts) in printed.out
    assert 'is diverged: the loss is nan at step 3' in printed.err
    assert ', is pruned: after epoch ' in printed.err


def test_the_command_of_the_best_trial_is_its_config(searched, main, jobs, tmp_path):
    searched('run', RANGE, '--sweep', 'seed=1..9', '--trials=6', '--pruner=none')
    result = json.loads((tmp_path / 'run/sweep.json').read_text())
    words = shlex.split(result['command'])
    assert words[:3] == ['python', '-m', 'avsc_jax.main']
    own = ('--sweep', '--trials', '--pruner', '--workdir', 'seed=1..9')
    assert not [word for word in words if word.startswith(own)]
    parsed, wanted = main.parse(words[3:]), jobs[result['points'][0]['folder']]
    for name in ('learning_rate', 'seed', 'epochs'):
        assert parsed[name] == wanted[name]
    assert isinstance(wanted.seed, int) and 1 <= wanted.seed <= 9


def test_more_trials_go_on_and_another_search_is_refused(searched, tmp_path):
    first = searched('run', RANGE, '--trials=3')
    assert searched('run', RANGE, '--trials=5')[:3] == first
    assert len(searched('run', RANGE, '--trials=4')) == 5
    with pytest.raises(ValueError, match='holds a search with another fields'):
        searched('run', '--sweep=learning_rate=1e-3..1:log', '--trials=5')
    with pytest.raises(ValueError, match='holds a search with another config'):
        searched('run', RANGE, '--trials=5', '--config.batch_size=16')
    with pytest.raises(ValueError, match='holds a search with another pruner'):
        searched('run', RANGE, '--trials=5', '--pruner=hyperband')


def test_another_seed_searches_elsewhere(searched):
    first, second = (searched(f'run{k}', RANGE, '--trials=2', f'--seed={k}') for k in (1, 2))
    assert {folder for folder, _ in first}.isdisjoint(folder for folder, _ in second)


@pytest.mark.slow
def test_hyperband_ends_trials_too(searched):
    assert 'pruned' in dict(searched('run', RANGE, '--trials=12', '--pruner=hyperband')).values()


def test_a_search_in_which_nothing_ends_is_a_sentence(searched):
    with pytest.raises(ValueError, match=r'none of the 2 trials .* \(0 pruned, 2 diverged\)'):
        searched('run', '--sweep=learning_rate=1..2', '--trials=2')


@pytest.mark.parametrize(
    ('words', 'own', 'expected'),
    [
        (['1e-5..1e-3:log'], 0.1, search.Range(1e-5, 1e-3, True, False)),
        (['0..0.4'], 0.1, search.Range(0.0, 0.4, False, False)),
        (['-1..1'], 0.1, search.Range(-1.0, 1.0, False, False)),
        (['16..64'], 48, search.Range(16, 64, False, True)),
        (['0', '0.2'], 0.1, ('0', '0.2')),
    ],
)
def test_words_of_a_sweep_become_ranges_and_choices(words, own, expected):
    assert search.space({'field': words}, {'field': own}) == {'field': expected}


@pytest.mark.parametrize(
    ('words', 'own'),
    [
        (['1..1'], 0.1), (['2..1'], 0.1), (['0..1:log'], 0.1), (['0.5..1'], 3), (['a..b'], 0.1),
        (['1..2', '3'], 0.1), (['1..'], 0.1), (['0..inf'], 0.1), (['0..1'], True),
        (['1..2:x'], 1.0), (['0..1'], 'text'),
    ],
)  # fmt: skip
def test_what_is_no_range_is_a_sentence(words, own):
    with pytest.raises(ValueError, match=r'a range is LOW\.\.HIGH with the lower number first'):
        search.space({'field': words}, {'field': own})


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ([RANGE], r'learning_rate=1e-4\.\.1:log, a range, which has no list of points; give the n'),
        (['--trials=3'], '--trials is 3, and nothing is to be searched'),
        (['--sweep=learning_rat=1..2', '--trials=3'], "'learning_rat' is unknown"),
        (['--sweep=batch_size=0..8', '--trials=3'], 'batch_size'),
        (['--sweep=select=accuracy,log_loss', '--trials=3'], 'one and the same config.select'),
        ([RANGE, '--trials=3', '--pruner=mean'], 'pruner'),
    ],
)
def test_a_wrong_search_is_a_sentence_before_any_trial(searched, jobs, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        searched('run', *arguments)
    assert [*jobs] == ['fails']


def test_a_search_needs_optuna_and_one_process(searched, monkeypatch):
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    with pytest.raises(ValueError, match='--trials and --multihost exclude each other'):
        searched('run', RANGE, '--trials=2')
    monkeypatch.setitem(sys.modules, 'optuna', None)
    with pytest.raises(ValueError, match=r"needs optuna: pip install 'avsc_jax\[search\]'"):
        searched('run', RANGE, '--trials=2')


@pytest.mark.slow
def test_a_real_search_goes_on_after_a_kill_within_a_trial(
    main, data_dir, one_encoder, tmp_path, monkeypatch
):
    arguments = [
        CONFIG, *one_encoder, '--config.epochs=4', f'--data_dir={data_dir}', '--trials=3', RANGE
    ]  # fmt: skip
    main.main([*arguments, f'--workdir={tmp_path / "whole"}'])
    kept = job.History.append

    def killed(history, line):
        kept(history, line)
        if len([*tmp_path.glob('killed/learning*')]) == 2 and line['epoch'] == 2:
            raise OSError('the power failed')

    monkeypatch.setattr(job.History, 'append', killed)
    with pytest.raises(OSError, match='the power failed'):
        main.main([*arguments, f'--workdir={tmp_path / "killed"}'])
    monkeypatch.setattr(job.History, 'append', kept)
    main.main([*arguments, f'--workdir={tmp_path / "killed"}'])
    results = [json.loads((tmp_path / n / 'sweep.json').read_text()) for n in ('whole', 'killed')]
    assert results[0]['points'] == results[1]['points']
    assert told(tmp_path / 'whole') == told(tmp_path / 'killed')
