"""The paper's tables: its numbers whole, ours from the run folders, and an honest status."""

import json
import runpy
from pathlib import Path

import pytest

from avsc_jax import score
from avsc_jax.report import paper

PUBLISHED = runpy.run_path(str(Path(__file__).with_name('test_paper_numbers.py')))


def run(runs, name, log_loss, *warnings, best_epoch=None, headline='clip'):
    """A stand-in for the folder of a finished run."""
    folder = runs / name
    folder.mkdir(parents=True)
    scores = {headline: {'log_loss_micro': log_loss, 'accuracy_micro': 0.5}}
    report = {'about': {'warnings': warnings}, 'headline': headline, 'scores': scores}
    (folder / 'report.json').write_text(json.dumps(report | {'best_epoch': best_epoch}))


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """Table -> its rows by name, every single network having a million parameters."""
    monkeypatch.setattr(paper, '_parameters', lambda row: 1_000_000)
    return lambda name: {row['row']: row for row in paper.make(name, tmp_path)['rows']}


def published(row):
    return row['paper: log loss'], row['paper: accuracy']


def shown(log_loss, accuracy):
    return f'{log_loss:.3f}', f'{accuracy} %'


def test_theirs_are_the_numbers_of_the_paper_in_its_order(rows):
    table = PUBLISHED['OKAZAKI_TABLE_2']
    assert sorted(rows('table2')) == sorted(table)
    for name, row in rows('table2').items():
        assert published(row) == shown(*table[name][-2:])
    for row, (models, log_loss) in zip(
        rows('table3').values(), [t[1:] for t in PUBLISHED['OKAZAKI_TABLE_3'].values()], strict=True
    ):
        assert (row['models'], row['paper: log loss']) == (str(models), f'{log_loss:.3f}')
    for row, (clip, *scores) in zip(
        rows('table4').values(), PUBLISHED['OKAZAKI_TABLE_4'].values(), strict=True
    ):
        assert published(row) == shown(*scores)
        assert ('C04' in row['system']) == (clip == 'yes')
    for name, (epochs, parameters, *scores) in PUBLISHED['OKAZAKI_TABLE_5'].items():
        row = rows('table5')[name]
        assert published(row) == shown(*scores)
        assert row['paper: epochs'] == str(epochs)
        assert row['paper: parameters'] == f'{parameters:.2f}M'


def test_the_parameters_of_table_5_come_out_of_the_program(tmp_path):
    found = [row['parameters'] for row in paper.make('table5', tmp_path)['rows']]
    assert found == ['24.60M', '25.45M', '19.27M', '69.33M', '1.35M']  # the paper: 69.32M
    assert paper._parameters('C01') == 0  # nothing is learned


def test_parameters_of_an_ensemble_are_those_of_its_members(rows):
    found = {
        name: row['parameters'] for name, row in rows('table2').items() if name in ('A04', 'E02')
    }
    assert found == {'A04': '3.00M', 'E02': '7.00M'}


def test_without_runs_every_row_names_its_command(tmp_path, capsys):
    assert score.main(['--paper=table4', '--runs', str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.count('| not run |') == 4
    assert (
        '- A04V04_pp: `python -m avsc_jax.main --config=configs/hitachi_ensemble.py:A04V04_pp,tau`'
    ) in text


def test_a_row_is_found_by_the_name_that_main_gives_its_folder(tmp_path, rows):
    run(tmp_path, 'hitachi_audio-resnest50d-tau', 0.701)
    run(tmp_path, 'hitachi_audio', 0.702)  # its default is A01
    run(tmp_path, 'clip_fusion-demo', 0.703, 'made-up clips: says nothing')
    found = rows('table2')
    assert [found[name]['log loss'] for name in ('A01', 'A02', 'C04')] == [
        '0.702',
        '0.701',
        '0.703',
    ]
    assert found['A02']['accuracy'] == '50.0 %'
    statuses = {name: found[name]['status'] for name in ('A02', 'C04', 'V01')}
    assert statuses == {'A02': 'reproduced', 'C04': 'demo only', 'V01': 'not run'}
    notes = paper.make('table2', tmp_path)['notes']
    assert [note for note in notes if note.startswith(('A02', 'C04'))] == [
        f'C04: {tmp_path}/clip_fusion-demo: made-up clips: says nothing'
    ]


def test_a_real_run_comes_before_a_demo(tmp_path, rows):
    run(tmp_path, 'clip_fusion-tau', 0.1, 'random encoders')
    run(tmp_path, 'clip_fusion', 0.2)
    run(tmp_path, 'clip_fusion-demo', 0.3, 'made-up clips')
    assert rows('table5')['C04']['log loss'] == '0.200'


def test_epochs_are_counted_from_one_and_added_over_the_members(tmp_path, rows):
    for number, network in enumerate(('regnetx_064', 'resnest50d', 'hrnet_w18')):
        assert rows('table5')['V04']['epochs'] == '–'
        run(tmp_path, f'hitachi_image-{network}', 0.4, best_epoch=10 * number)
    assert [row['epochs'] for row in rows('table5').values()] == ['1', '11', '21', '33', '–']


def test_submissions_show_what_they_are_worth_on_the_development_set(tmp_path, rows):
    run(tmp_path, 'hitachi_ensemble-S01', 0.25)
    row = rows('table3')['S01']
    assert (row['log loss'], row['paper: log loss'], row['status']) == (
        '0.250',
        '0.312',
        'reproduced',
    )
    assert rows('table3')['S03']['system'].startswith('5 folds of ')


def test_the_table_is_written_as_markdown_and_even_on_the_console(tmp_path, capsys):
    run(tmp_path / 'runs', 'hitachi_ensemble', 0.2, 'made-up\x1b[2J clips')
    arguments = ['--paper=table4', '--runs', str(tmp_path / 'runs'), '--out', str(tmp_path / 'out')]
    assert score.main(arguments) == 0
    written = (tmp_path / 'out' / 'table4.md').read_text()
    assert capsys.readouterr().out == f'{written}\nwrote {tmp_path}/out/table4.md\n'
    lines = [line for line in written.splitlines() if line.startswith('|')]
    assert len({len(line) for line in lines}) == 1 and len(lines) == 6
    assert '\x1b' not in written and 'demo only' in lines[-1]


@pytest.mark.parametrize('text', ['{', '[]', '{"about": {"warnings": []}}'])
def test_a_report_that_is_none_is_named(tmp_path, text):
    run(tmp_path, 'hitachi_ensemble', 0.2)
    (tmp_path / 'hitachi_ensemble' / 'report.json').write_text(text)
    with pytest.raises(ValueError, match=r'hitachi_ensemble/report.json is no report of a run'):
        paper.make('table4', tmp_path)
    with pytest.raises(FileNotFoundError, match=r'--runs .*none is not a folder'):
        score.main(['--paper=table4', '--runs', str(tmp_path / 'none')])
