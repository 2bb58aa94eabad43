"""Systems side by side: every number of a few clips by hand, run folders, and what is written."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from avsc_jax import metrics, models, tables
from avsc_jax.report import comparison, scores
from avsc_jax.runs.run_folder import RunFolder
from avsc_jax.runtime import cli
from avsc_jax.score import __main__ as score

CLASSES = ['park', 'tram', '<b>bus</b>']
CLIPS = [f'park-oslo-{n}-1' for n in range(6)] + ['tram-oslo-7-1', 'tram-rome-8-1', 'park-rome-9-1']
TRUE = np.array([0] * 6 + [1, 1, -1])  # the last is of unknown scene
# The one is right on five clips that the other gets wrong, the other on one; one both get right.
ANSWERS = {'one': [0, 0, 0, 0, 0, 1, 1, 0, 2], 'other': [1, 1, 1, 1, 1, 0, 1, 0, 2]}


def table(answers, chance=0.8, clips=CLIPS, labels=TRUE, **meta):
    """`chance` for the answer, the rest shared by the others."""
    probs = np.full((len(answers), 3), (1 - chance) / 2)
    probs[np.arange(len(answers)), answers] = chance
    whole = np.full(len(answers), -1)
    return tables.Predictions(clips, whole, labels, probs, {'classes': CLASSES, **meta})


def members(**chances):
    return {name: table(ANSWERS[name], chances.get(name, 0.8)) for name in ANSWERS}


def make_run(path, answers, *, data='tfds_tau/demo/1.0.0 abc', rate=0.1, **of_table):
    """A folder as a finished run of a small network leaves it."""
    folder = RunFolder(path)
    model = {'name': 'feng_audio', 'hidden': 8}
    folder.begin({'model': model, 'learning_rate': rate, 'paper': {'row': str(rate)}})
    folder.record_environment((data,), {})
    folder.write_json('classes.json', CLASSES)
    about = {'data': data.split()[0], 'protocol': 'trained on train', 'warnings': ['made-up clips']}
    meta = {'about': about, 'split': 'test', 'step': 7, **of_table}
    tables.write(table(answers, **meta), folder.predictions_file('test'))
    folder.finish()
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tables.write(table(ANSWERS['other']), 'other.npz')
    make_run(tmp_path / 'runs' / 'other', ANSWERS['other'], rate=0.2)
    return make_run(tmp_path / 'runs' / 'one', ANSWERS['one'])


def test_mcnemar_counts_the_clips_that_only_one_gets_right():
    test = comparison.make(members())['tests']['other']
    assert test['right_alone'] == (5, 1)
    assert test['mcnemar_p'] == pytest.approx(2 * (1 + 6) / 2**6)  # 0 or 1 heads of six, doubled
    same = comparison.make({'one': table(ANSWERS['one']), 'twin': table(ANSWERS['one'])})
    assert same['tests']['twin']['mcnemar_p'] == 1


def test_every_class_has_its_own_paired_error_over_locations():
    found = comparison.make(members())
    per_class = found['tests']['other']['per_class']
    of = TRUE == 0
    probs = (each.probs[of] for each in members().values())
    wanted = metrics.paired_test(*probs, TRUE[of], np.arange(6))
    assert per_class[0] == wanted and wanted['log_loss'].standard_error > 0
    assert per_class[1]['accuracy'].difference == 0
    assert per_class[2] is None  # no clips
    rows = [re.split('  +', line) for line in comparison.text(found).splitlines()]
    assert [row[-1] for row in rows if row[0] == 'park'] == ['+66.7 ± –']  # six locations
    assert ['<b>bus</b>', '0', '0', *['–'] * 6] in rows


def test_the_clips_answered_most_differently_come_first_and_equal_ones_not_at_all():
    found = members()
    found['one'].probs[4] = [0.98, 0.01, 0.01]
    apart = comparison.make(found)['apart']
    assert [clip['clip'] for clip in apart] == [CLIPS[4], *CLIPS[:4], CLIPS[5]]
    one, other = apart[0]['answers'].values()
    assert one == ('park', 0.98) and other == ('tram', pytest.approx(0.1))


def test_the_first_is_compared_with_each_other():
    found = comparison.make({**members(), 'third': table(ANSWERS['other'], 0.9)})
    assert [*found['tests']] == ['other', 'third']
    lines = comparison.text(found).splitlines()
    assert lines[-2].startswith('one has a lower log loss than other')
    assert lines[-1].startswith('one has a lower log loss than third')


def test_run_folders_named_alone_are_compared_by_what_they_are(runs, capsys):
    assert score.main(['runs/one', 'runs/other']) == 0
    shown = capsys.readouterr().out
    assert shown.startswith('! made-up clips\none\n  run         runs/one\n')
    assert 'trained on different data' not in shown
    count = models.count_parameters('feng_audio', num_classes=3, hidden=8)
    assert f'feng_audio: {count:,} parameters trained, 0 of frozen encoders' in shown
    assert '  data        tfds_tau/demo/1.0.0 abc\n  protocol    trained on train\n' in shown
    assert f'split test, step 7, config hash {runs.config_hash}' in shown
    assert re.search(r'\nsetting +1 +2\nlearning_rate +0.1 +0.2\n\none has a lower', shown)
    assert 'one minus other' in shown and 'wrote' not in shown


def test_a_run_is_compared_with_a_table_and_a_table_of_a_run_is_that_run(runs, capsys):
    assert score.main(['runs/one', 'other.npz']) == 0
    shown = capsys.readouterr().out
    assert 'one minus other.npz' in shown and 'setting' not in shown
    assert score.main(['--compare', 'x=runs/one/predictions/test.npz', 'y=runs/other']) == 0
    assert re.search(r'learning_rate +0.1 +0.2\n', capsys.readouterr().out)


@pytest.mark.parametrize(
    'arguments',
    [
        ['x=runs/one', 'y=runs/other'],
        ['x=runs/one', 'runs/other'],
        ['runs/one', 'runs/other', '--recipe=mean'],
        ['runs/one', 'runs/other', '--weights=1,1'],
        ['runs/one/predictions/test.npz', 'other.npz'],
    ],
)
def test_roles_and_a_way_to_mix_mix_runs_as_tables_are_mixed(runs, capsys, arguments):
    assert score.main(arguments) == 0
    shown = capsys.readouterr().out
    assert 'minus' not in shown and re.search(r'^mean of |: 0\.5 ', shown, re.MULTILINE)


def test_parameters_are_those_of_members_and_of_runs_that_are_kept(runs, tmp_path, capsys):
    whole = make_run(tmp_path / 'runs' / 'whole', ANSWERS['one'])
    whole.write_json('config.json', {'groups': {}})
    counts = [{'trained': 10, 'encoders': 5}, {'trained': 1, 'encoders': 0}]
    whole.write_json('members.json', [{'parameters': each} for each in counts])
    whole.finish()
    make_run(runs.path / 'parts' / 'sound', ANSWERS['one'])
    assert score.main(['runs/whole', 'runs/one']) == 0
    shown = capsys.readouterr().out
    assert '2 runs: 11 parameters trained, 5 of frozen encoders' in shown
    headless = models.count_parameters('feng_audio', num_classes=0, hidden=8)
    assert f'trained, {headless:,} of frozen encoders' in shown


@pytest.mark.parametrize(
    ('data', 'is_told'),
    [('tfds_tau/demo/1.0.0 xyz', True), ('tfds_tau/demo_segments/1.0.0 xyz', False)],
)
def test_other_training_data_is_told_but_not_another_cut_of_it(
    runs, tmp_path, capsys, data, is_told
):
    make_run(tmp_path / 'runs' / 'third', ANSWERS['other'], data=data)
    assert score.main(['runs/one', 'runs/third']) == 0
    line = f'! trained on different data: one on tfds_tau/demo/1.0.0 abc, third on {data}'
    assert (line in ' '.join(capsys.readouterr().out.split())) is is_told


def test_only_clips_that_all_report_on_count_and_that_is_told(runs, capsys):
    tables.write(table(ANSWERS['other'][:7], clips=CLIPS[:7], labels=TRUE[:7]), 'few.npz')
    assert score.main(['runs/one', 'few.npz']) == 0
    shown = capsys.readouterr().out
    told = 'reported on different clips (one on 9, few.npz on 7): only the 7 in all count'
    assert shown.startswith(f'! {told}')
    assert re.search(r'\nclip, 7 items', shown)
    assert f'{math.log(0.8 / 0.1) * (1 - 5) / 7:+.3f}' in shown
    tables.write(table([0], clips=['x'], labels=[0]), 'none.npz')
    with pytest.raises(ValueError, match=r'no clip is in all tables: .*one on 9, none.npz on 1'):
        score.main(['runs/one', 'none.npz'])


def test_one_system_alone_is_not_compared(runs):
    with pytest.raises(ValueError, match='runs/one alone cannot be compared'):
        score.main(['--compare', 'runs/one'])


def test_the_page_has_all_escaped_and_a_dot_for_each_class(runs, capsys):
    assert score.main(['runs/one', 'runs/other', '--out', 'out']) == 0
    wrote = 'wrote out/comparison.html and comparison.json\n'
    assert capsys.readouterr().out.endswith(wrote)
    page = (runs.path.parent.parent / 'out' / 'comparison.html').read_text()
    assert '<b>' not in page and '&lt;b&gt;bus' in page and '<script' not in page
    for part in (
        '<h1>one and other</h1>',
        'learning_rate',
        CLIPS[0],
        'one minus other',
        'runs/one',
    ):
        assert part in page
    drawing = page[page.index('<svg') : page.index('</svg>')]
    assert drawing.count('<use ') >= 4 and 'NaN' not in drawing and 'nan' not in drawing
    told = json.loads((runs.path.parent.parent / 'out' / 'comparison.json').read_text())
    assert told['tests']['other']['log_loss']['difference'] < 0
    assert told['tests']['other']['per_class'][2] is None


def test_nothing_is_written_over_a_table_that_is_read(runs):
    (runs.path.parent.parent / 'file').write_text('')
    with pytest.raises(ValueError, match='--out file is a file'):
        score.main(['runs/one', 'runs/other', '--out', 'file'])


def test_windows_of_one_file_are_one_group():
    names = ['a/x.mp4@0s', 'a/x.mp4@12.5s', 'a/x.mp4', 'b@5s/x.mp4', 'x@s']
    meta, probs = {'classes': ['bus', 'tram']}, np.full((5, 2), 0.5)
    table = tables.Predictions(names, [-1] * 5, [0] * 5, probs, meta)
    files = ['a/x.mp4'] * 3 + ['b@5s/x.mp4', 'x@s']
    for own, expected, over in (
        (None, files, 'clips'),
        (files, files, 'clips'),  # as a folder without groups names them
        (['', 'g', '', 'g', 'h'], ['a/x.mp4', 'g', 'a/x.mp4', 'g', 'h'], 'groups'),
    ):
        found, kind = scores.groups(dataclasses.replace(table, group=own and np.array(own)))
        assert (found.tolist(), kind) == (expected, over)


@pytest.mark.parametrize('name', ['compare', 'runs'])
def test_a_command_does_what_the_old_option_did(runs, name, capsys):
    """In a folder that is called like a command, too."""
    assert score.main(['--compare', 'runs/one', 'runs/other', '--out', 'old']) == 0
    old = capsys.readouterr()
    assert 'note: --compare will be removed; use `score compare` instead' in old.err
    assert score.main([name, 'runs/one', 'runs/other', '--out', 'new']) == 0
    new = capsys.readouterr()
    assert new.out == old.out.replace('wrote old', 'wrote new') and not new.err
    assert (runs.path.parents[1] / 'new/comparison.json').exists()


def test_a_table_that_is_called_like_a_command_is_the_table(runs, tmp_path, capsys):
    (tmp_path / 'compare').mkdir()
    make_run(tmp_path / 'compare', ANSWERS['one'])
    assert score.main(['compare']) == 0
    assert 'log loss' in capsys.readouterr().out
    with pytest.raises(
        cli.UsageError, match=r'chek is no table and no .* \(did you mean check\?\)'
    ):
        score.main(['chek', 'one'])
    with pytest.raises(cli.UsageError, match='are required'):
        score.main(['modalities', 'one=runs/one'])


def test_a_command_that_does_not_stand_first_is_a_sentence(runs):
    with pytest.raises(ValueError, match='compare is a command and no table; put it first'):
        score.main(['--out', 'x', 'compare', 'runs/one', 'runs/other', '--recipe=mean'])


@pytest.mark.parametrize('name', ['check', 'compare', 'runs', 'modalities', 'paper'])
def test_each_command_has_a_help_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as ended:
        score.main([name, '--help'])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f'usage: python -m avsc_jax.score {name}')
    with pytest.raises(SystemExit):
        score.main(['--help'])
    told = capsys.readouterr().out
    assert f'\n  {name} ' in told and '--compare' not in told
