"""The paper's tables: its numbers whole, ours from the run folders, and an honest status."""

import json
import runpy
from pathlib import Path

import pytest

from avsc_jax.report import paper
from avsc_jax.scenes import SCENES
from avsc_jax.score import __main__ as score

PUBLISHED = runpy.run_path(str(Path(__file__).parents[1] / 'test_paper_numbers.py'))


def run(runs, name, log_loss, *warnings, best_epoch=None, headline='clip', **beside):
    """A stand-in for the folder of a finished run."""
    folder = runs / name
    folder.mkdir(parents=True)
    scores = {headline: {'log_loss_micro': log_loss, 'accuracy_micro': 0.5}} | beside
    report = {'about': {'warnings': warnings}, 'headline': headline, 'scores': scores}
    report['classes'] = list(reversed(SCENES))
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


@pytest.mark.slow
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


def test_ioa_is_quoted_whole_under_the_papers_names(rows, tmp_path):
    for number in (2, 3, 4, 5):
        table = PUBLISHED[f'IOA_TABLE_{number}']
        found = rows(f'ioacas{number}')
        names = table
        if number == 2:
            names = [', '.join(name) for name in table]
        if number == 4:
            names = [
                f'{number}: {image}, {feature}' for number, (image, feature, *_) in table.items()
            ]
        assert [*found] == [*names]
        for row, (*_, log_loss, accuracy) in zip(found.values(), table.values(), strict=True):
            assert published(row) == shown(log_loss, accuracy)
            assert row['status'] == 'not run'
    for row, (models, vote, *_) in zip(found.values(), table.values(), strict=True):
        assert (row['system'], row['vote']) == (' + '.join(map(str, models)), vote.lower())
        assert row['parameters'] == f'{len(models)}.00M'
    notes = [
        note for name in ('ioacas4', 'ioacas5') for note in paper.make(name, tmp_path)['notes']
    ]
    command = 'python -m avsc_jax.main --config=configs'
    assert f'4: EffNet-b5, log-mel: `{command}/ioacas_fusion.py:tf_efficientnet_b5,logmel,tau`' in (
        notes
    )
    assert notes[-1] == f'IV: `{command}/ioacas_ensemble.py:IV,tau`'


def test_a_run_is_found_where_a_default_is_left_out_and_a_final_one_is_none(tmp_path, rows):
    second = {'log_loss_micro': 0.25, 'accuracy_micro': 0.75}
    run(tmp_path, 'ioacas_fusion-logmel-tau', 9, second=second)  # resnet50 is the default
    run(tmp_path, 'ioacas_fusion-swin_tiny', 0.3, 'made-up clips')
    run(tmp_path, 'ioacas_fusion-resnet50-bark-tau-final', 9)
    run(tmp_path, 'ioacas_audio-dcnn1d-bark', None, headline=None)  # --workdir of a final run
    found = {name.partition(':')[0]: row for name, row in rows('ioacas4').items()}
    assert (found['1']['log loss'], found['1']['accuracy']) == ('0.250', '75.0 %')
    statuses = [found[number]['status'] for number in ('1', '10', '3')]
    assert statuses == ['reproduced', 'demo only', 'not run']
    assert rows('ioacas2')['bark, DCNN']['status'] == 'not run'


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


def by_class(name, runs):
    """The cells of a table of classes as [class][column] -> (ours, theirs)."""
    table = paper.make(name, runs)
    return {
        row['class']: [tuple(row[column].split(' / ')) for column in table['columns'][1:]]
        for row in table['rows']
    }


def test_feng_by_class_is_quoted_whole(tmp_path):
    for name, quoted in (('feng2', 'FENG_TABLE_2'), ('feng3', 'FENG_TABLE_3')):
        table = by_class(name, tmp_path)
        assert list(table) == list(SCENES)
        for cells, numbers in zip(table.values(), PUBLISHED[quoted].values(), strict=True):
            assert cells == [('–', f'{value:.2f}') for value in numbers]
    figure = by_class('feng_figure3', tmp_path)
    quoted = PUBLISHED['FENG_FIGURE_3'] | PUBLISHED['FENG_FIGURE_3_AVERAGES']
    assert figure.pop('accuracy') == [('',), ('',), ('–', '0.82'), ('–', '3,645')]
    assert figure.keys() == quoted.keys()
    for name, (*scores, support) in quoted.items():
        assert figure[name] == [('–', f'{value:.2f}') for value in scores] + [('–', f'{support:,}')]
    assert paper.make('feng3', tmp_path)['columns'] == [
        'class', 'M-P', 'M-R', 'M-F', 'V-P', 'V-R', 'V-F'
    ]  # fmt: skip


@pytest.mark.parametrize('number', [1, 4, 5])
def test_feng_by_system_is_quoted_whole(rows, number):
    table = PUBLISHED[f'FENG_TABLE_{number}']
    found = rows(f'feng{number}')
    assert list(found) == list(table)
    for name, (accuracy, log_loss) in table.items():
        assert published(found[name]) == shown(log_loss, round(100 * accuracy, 1))


def test_scores_of_classes_stand_beside_the_papers_by_name(tmp_path):
    table = {key: [0.1 * i for i in range(10)] for key in ('precision', 'recall', 'f1')}
    table |= {'support': [1000 + i for i in range(10)]}
    table |= {
        name: dict.fromkeys(table, value) for name, value in (('macro', 0.25), ('weighted', 0.5))
    }
    table['precision'][9] = None
    clip = {'log_loss_micro': 0.7, 'accuracy_micro': 0.75, 'items': 4000, 'per_class': table}
    run(tmp_path, 'feng_fusion-weighted-tau', 0, clip=clip)
    found = by_class('feng_figure3', tmp_path)
    assert found['tram'] == [('0.00', '0.73'), ('0.00', '0.80'), ('0.00', '0.76'), ('1,000', '308')]
    assert found['airport'][:2] == [('–', '0.80'), ('0.90', '0.78')]
    assert found['accuracy'][2:] == [('0.75', '0.82'), ('4,000', '3,645')]
    assert [found[f'{name} avg'][0][0] for name in ('macro', 'weighted')] == ['0.25', '0.50']
    assert paper.make('feng_figure3', tmp_path)['notes'] == [
        'Weighted: feng_weighted, accuracy 75.0 % / 81.6 %, log loss 0.700 / 0.507; reproduced'
    ]
    run(tmp_path, 'feng_fusion-intermediate-demo', 0, 'made-up clips', clip=clip)
    multimodal, audio = paper.make('feng2', tmp_path)['notes']
    assert multimodal.endswith(
        '; demo only: ' + f'{tmp_path}/feng_fusion-intermediate-demo: made-up clips'
    )
    assert audio.endswith(
        'not run: `python -m avsc_jax.main --config=configs/feng_fusion.py:audio,tau`'
    )


def test_the_baseline_is_compared_at_the_mean_of_classes_over_seconds_and_at_the_product(
    tmp_path, rows
):
    second = {'log_loss_macro': 0.6, 'accuracy_macro': 0.7}
    run(tmp_path, 'openl3_baseline', 9, second=second, product={'accuracy_micro': 0.8})
    for table in ('baseline', 'table2'):
        row = rows(table)['B03']
        assert (row['log loss'], row['accuracy'], row['status']) == (
            '0.600',
            '70.0 %',
            'reproduced',
        )
    row = rows('baseline')['B03']
    assert (row['clips: accuracy'], row['paper: clips: accuracy']) == ('80.0 %', '84.8 %')
    assert 'clips: accuracy' not in rows('baseline')['EAV']
    assert published(rows('baseline')['EAV']) == shown(0.963, 77.5)
    assert published(rows('hou')['final']) == shown(0.318, '90.0')
